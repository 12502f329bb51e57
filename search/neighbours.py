"""Exact nearest-neighbour search with NumPy, and the vote of the neighbours."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from search.rows import Rows, row_blocks

Metric = Literal["cosine", "dot", "l2"]
SCORES: dict[Metric, str] = {"cosine": "cosine_similarity", "dot": "dot_product", "l2": "l2_distance"}
QUERIES, ROWS = 256, 16384  # compared at a time: 16 MiB of scores
SPARE = 8  # candidates beyond those asked for: float32 may swap neighbours that it cannot tell apart
TEMPERATURE = 0.1  # of `vote`


class Index:
    """Finds the nearest rows of a matrix by comparing with all of them, block by block.

    Attributes:
        rows: (N, D) float32; they may lie on disk, and in several parts.
        metric: what "near" means.
    """

    def __init__(self, rows: Rows, metric: Metric = "cosine") -> None:
        self.rows, self.metric = rows, metric

    @functools.cached_property
    def _norms(self) -> np.ndarray:
        """What scores are multiplied with, or reduced by, (N,); the query's own length does not change its order."""
        squares = np.concatenate([np.einsum("nd,nd->n", block, block) for _, block in row_blocks(self.rows, ROWS)])
        return 1 / np.maximum(np.sqrt(squares), np.finfo(np.float32).tiny) if self.metric == "cosine" else squares / 2

    def nearest(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` nearest rows of each query, nearest first; equally near ones in the order of the rows.

        Candidates are found in float32 and ranked in float64. A vector of length zero has the cosine 0 with all.

        Args:
            queries: (Q, D) float32.
            count: at most N rows are found.

        Returns:
            rows, (Q, K) int64, and their scores, (Q, K) float64: similarities (cosines from -1 to 1), or distances
            for l2.
        """
        count = min(count, len(self.rows))
        found = [self._rank(block, self._candidates(block, min(count + SPARE, len(self.rows))), count)
                 for block in _blocks(queries, QUERIES)]
        return np.concatenate([ids for ids, _ in found]), np.concatenate([scores for _, scores in found])

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """The `count` rows that are nearest to each query in float32: (Q, count) int64, in any order."""
        best, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        buffer = np.empty((len(queries), min(ROWS, len(self.rows))), np.float32)  # once: fresh memory is slow
        for start, block in row_blocks(self.rows, ROWS):
            closeness = np.matmul(queries, block.T, out=buffer[:, :len(block)])
            norms = self._norms[start:start + len(block)]
            if self.metric == "cosine":
                closeness *= norms
            elif self.metric == "l2":
                closeness -= norms
            columns = np.arange(len(block))
            if best.shape[1] == count:  # most blocks have few rows that are nearer than those found before
                columns = np.flatnonzero((closeness > best.min(axis=1)[:, None]).any(axis=0))
            if not len(columns):
                continue
            best = np.hstack([best, closeness[:, columns]])
            ids = np.hstack([ids, np.broadcast_to(columns + start, (len(queries), len(columns)))])
            if best.shape[1] > count:
                kept = np.argpartition(best, -count, axis=1)[:, -count:]
                best, ids = np.take_along_axis(best, kept, 1), np.take_along_axis(ids, kept, 1)
        return ids

    def _rank(self, queries: np.ndarray, ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first `count` of the candidates `ids` and their scores, in float64."""
        ids = np.sort(ids, axis=1)
        return rank(queries, self.rows[ids], ids, count, self.metric)


def rank(queries: np.ndarray, rows: np.ndarray, ids: np.ndarray, count: int,
         metric: Metric = "cosine") -> tuple[np.ndarray, np.ndarray]:
    """The first `count` of each query's candidates, nearest first, and their scores, in float64: (Q, count) each.

    Args:
        queries: (Q, D) float32.
        rows: the candidates of each, (Q, C, D) float32; equally near ones stay in this order.
        ids: what the candidates are called, (Q, C) int64.
        count: at most C are found.
        metric: what "near" means.
    """
    rows, queries = rows.astype(np.float64), queries.astype(np.float64)
    if metric == "l2":
        scores = np.linalg.norm(rows - queries[:, None], axis=2)
    else:
        if metric == "cosine":
            rows, queries = normalised(rows), normalised(queries)
        scores = np.einsum("qkd,qd->qk", rows, queries)
        if metric == "cosine":
            scores = scores.clip(-1, 1)  # rounding may lead beyond
    order = np.argsort(scores if metric == "l2" else -scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def normalised(rows: np.ndarray) -> np.ndarray:
    """`rows`, (..., D), scaled to length one; those of length zero stay as they are."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def vote(labels: np.ndarray, similarities: np.ndarray, sizes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each query the labels among its neighbours, the likeliest first, and the share of the vote of each.

    A neighbour of cosine s counts for exp(s / `TEMPERATURE`), divided by the size of its class: otherwise the few
    pictures of a new artist are outvoted by the many of others that are a little farther away.

    Args:
        labels: (Q, K) int64, those of the neighbours, nearest first.
        similarities: (Q, K), their cosines.
        sizes: how many rows each label has, at [label].
    """
    weights = np.exp((similarities - similarities[:, :1]) / TEMPERATURE) / sizes[labels]
    votes = []
    for row, weight in zip(labels, weights, strict=True):
        found, positions = np.unique(row, return_inverse=True)
        shares = np.bincount(positions, weight) / weight.sum()
        order = np.argsort(-shares, kind="stable")
        votes.append((found[order], shares[order]))
    return votes


def _blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start:start + size] for start in range(0, len(rows), size)]
