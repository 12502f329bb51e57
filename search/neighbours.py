"""Nearest vectors, exactly: with Faiss where it is installed, else with NumPy; the answers are the same."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np

Metric = Literal["cosine", "dot", "l2"]
SCORES: dict[Metric, str] = {"cosine": "cosine_similarity", "dot": "dot_product", "l2": "l2_distance"}
QUERIES, ROWS = 256, 16384  # compared at a time: 16 MiB of scores
SPARE = 8  # candidates beyond those asked for: float32 may swap neighbours that it cannot tell apart
TEMPERATURE = 0.1  # of `vote`


class Index(Protocol):
    """Finds candidates among the `rows`, (N, D) float32, it was made of."""

    rows: np.ndarray
    metric: Metric

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Rows near each of `queries`, (Q, D) float32: (Q, count) int64, in any order."""


class NumpyIndex:
    """Compares with all rows, block by block; they may lie on disk, and one number for each is kept beside."""

    def __init__(self, rows: np.ndarray, metric: Metric) -> None:
        self.rows, self.metric = rows, metric
        self.squares = np.concatenate([np.einsum("nd,nd->n", block, block) for block in _blocks(rows, ROWS)])

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Index`."""
        best, ids = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        products = np.empty((len(queries), min(ROWS, len(self.rows))), np.float32)  # once: the system clears new memory
        for number, block in enumerate(_blocks(self.rows, ROWS)):
            closeness = np.matmul(queries, block.T, out=products[:, :len(block)])
            self._weigh(closeness, self.squares[number * ROWS:][:len(block)])
            columns = np.arange(len(block))
            if best.shape[1] == count:  # most blocks have few rows that are nearer than what was found before
                columns = np.flatnonzero((closeness > best.min(axis=1)[:, None]).any(axis=0))
            best = np.hstack([best, closeness[:, columns]])
            ids = np.hstack([ids, np.broadcast_to(columns + number * ROWS, (len(queries), len(columns)))])
            if best.shape[1] > count:
                kept = np.argpartition(best, -count, axis=1)[:, -count:]
                best, ids = np.take_along_axis(best, kept, 1), np.take_along_axis(ids, kept, 1)
        return ids

    def _weigh(self, products: np.ndarray, squares: np.ndarray) -> None:
        """Make of the products what orders the rows as the metric does, nearest highest, for each query by itself."""
        if self.metric == "cosine":
            products /= np.maximum(np.sqrt(squares), np.finfo(np.float32).tiny)
        elif self.metric == "l2":
            products -= squares / 2


class FaissIndex:
    """Faiss's flat index: a copy of all rows in memory."""

    def __init__(self, rows: np.ndarray, metric: Metric) -> None:
        import faiss

        self.rows, self.metric = rows, metric
        self._index = faiss.IndexFlatL2(rows.shape[1]) if metric == "l2" else faiss.IndexFlatIP(rows.shape[1])
        for block in _blocks(rows, ROWS):
            self._index.add(np.ascontiguousarray(normalised(block) if metric == "cosine" else block))

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Index`."""
        return self._index.search(np.ascontiguousarray(queries), count)[1]


def make_index(rows: np.ndarray, metric: Metric = "cosine") -> Index:
    """The index of `rows`, (N, D) float32: Faiss's where the package is installed, else NumPy's."""
    return (FaissIndex if importlib.util.find_spec("faiss") else NumpyIndex)(rows, metric)


def nearest(index: Index, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` nearest rows of each query, nearest first; equally near ones in the order of the rows.

    The index proposes, float64 decides: the scores do not depend on the kind of index.

    Args:
        index: of N rows.
        queries: (Q, D) float32.
        count: at most N are found.

    Returns:
        rows, (Q, K) int64, and their scores, (Q, K) float64: similarities, or distances for l2. A vector of length
        zero has the cosine 0 with all.
    """
    total = len(index.rows)
    count = min(count, total)
    found = [_ranked(index, block, index.candidates(block, min(count + SPARE, total)), count)
             for block in _blocks(queries, QUERIES)]
    return np.concatenate([ids for ids, _ in found]), np.concatenate([scores for _, scores in found])


def _ranked(index: Index, queries: np.ndarray, ids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.sort(ids, axis=1)  # so that a stable order puts the first of equals first
    rows, asked = index.rows[ids].astype(np.float64), queries.astype(np.float64)
    if index.metric == "l2":
        scores = np.linalg.norm(rows - asked[:, None], axis=2)
    else:
        scores = np.einsum("qkd,qd->qk", *((normalised(rows), normalised(asked)) if index.metric == "cosine" else
                                           (rows, asked)))
    order = np.argsort(scores if index.metric == "l2" else -scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)


def normalised(rows: np.ndarray) -> np.ndarray:
    """`rows`, (..., D), at length one; those of length zero stay as they are."""
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)


def _blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start:start + size] for start in range(0, len(rows), size)]


def vote(labels: np.ndarray, similarities: np.ndarray, sizes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the neighbours of each query say: the labels among them, the likeliest first, and the share of each.

    A neighbour of cosine s counts for exp(s / `TEMPERATURE`), divided by the size of its class: otherwise the few
    pictures of a new artist are outvoted by the many of others that are a little farther away.

    Args:
        labels: (Q, K) int64, those of the neighbours, nearest first.
        similarities: (Q, K), their cosines.
        sizes: how many rows each label has, at [label].
    """
    weights = np.exp((similarities - similarities[:, :1]) / TEMPERATURE) / sizes[labels]
    answers = []
    for row, weight in zip(labels, weights, strict=True):
        found, places = np.unique(row, return_inverse=True)
        shares = np.bincount(places, weight) / weight.sum()
        order = np.argsort(-shares, kind="stable")
        answers.append((found[order], shares[order]))
    return answers
