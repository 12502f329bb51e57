"""Neighbours are those that comparing everything with everything in float64 finds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import search.neighbours
from search.neighbours import SCORES, Index, normalised, vote


def all_scores(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if metric == "dot":
        return queries.astype(np.float64) @ rows.T.astype(np.float64)
    return cdist(queries, rows) if metric == "l2" else 1 - cdist(queries, rows, "cosine")


@pytest.mark.parametrize("metric", SCORES)
@pytest.mark.parametrize("count", [1, 7, 500])
def test_the_nearest_are_those_of_a_full_comparison(metric: str, count: int,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.neighbours, "ROWS", 64)  # several blocks of rows, the last one shorter
    monkeypatch.setattr(search.neighbours, "QUERIES", 16)
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((200, 24)) * rng.uniform(0.5, 20, (200, 1)) + 3).astype(np.float32)
    queries = (rng.standard_normal((37, 24)) * 4).astype(np.float32)
    ids, scores = Index(rows, metric).nearest(queries, count)
    expected = all_scores(metric, queries, rows)
    order = np.argsort(expected if metric == "l2" else -expected, axis=1)[:, :count]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(expected, order, 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", SCORES)
def test_far_from_the_origin_float32_does_not_decide(metric: str) -> None:
    rng = np.random.default_rng(1)
    rows = (1000 + rng.standard_normal((50, 8))).astype(np.float32)
    ids, _ = Index(rows, metric).nearest(rows[:5], 1)
    if metric != "dot":
        assert ids[:, 0].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(ids[:, 0], np.argsort(
        (1 if metric == "l2" else -1) * all_scores(metric, rows[:5], rows), axis=1)[:, 0])


def test_equally_near_rows_keep_their_order() -> None:
    rows = np.array([[0, 1], [2, 0], [1, 0], [3, 0]], np.float32)
    ids, scores = Index(rows, "cosine").nearest(np.array([[5, 0]], np.float32), 4)
    assert ids.tolist() == [[1, 2, 3, 0]]
    assert scores.tolist() == [[1, 1, 1, 0]]


def test_a_vector_of_length_zero_has_the_cosine_0() -> None:
    rows = np.array([[0, 0], [1, 0], [-1, 0]], np.float32)
    ids, scores = Index(rows, "cosine").nearest(np.array([[2, 0], [0, 0]], np.float32), 3)
    assert scores.tolist() == [[1, 0, -1], [0, 0, 0]]
    assert ids.tolist() == [[1, 0, 2], [0, 1, 2]]


def test_lengths_become_one_and_zero_stays() -> None:
    assert normalised(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist() == [[0.6, 0.8], [0, 0]]


def test_votes_as_by_hand() -> None:
    labels, cosines = np.array([[4, 1, 4, 2], [2, 2, 2, 2]]), np.array([[0.9, 0.8, 0.7, 0.6], [1, 1, 1, 1]])
    (order, shares), (alone, whole) = vote(labels, cosines, np.array([1, 3, 1, 9, 2]))
    weights = np.array([(np.exp(9) + np.exp(7)) / 2, np.exp(8) / 3, np.exp(6)])
    assert order.tolist() == [4, 1, 2]
    np.testing.assert_allclose(shares, weights / weights.sum())
    assert (alone.tolist(), whole.tolist()) == ([2], [1.0])
