"""Nearest vectors, exactly: with Faiss where it is installed, else with NumPy; the answers are the same."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol

import numpy as np

Metric = Literal["cosine", "dot", "l2"]
SCORES: dict[Metric, str] = {"cosine": "cosine_similarity", "dot": "dot_product", "l2": "l2_distance"}
QUERIES, ROWS = 256, 16384  # compared at a time: 16 MiB of scores
SPARE = 8  # candidates beyond those asked for: float32 may swap neighbours that it cannot tell apart


class Index(Protocol):
    """Finds candidates among the `rows`, (N, D) float32, it was made of."""

    rows: np.ndarray
    metric: Metric

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """Rows near each of `queries`, (Q, D) float32: (Q, count) int64, in any order."""


class NumpyIndex:
    """Compares with all rows, block by block; they may lie on disk, and only their lengths are kept beside."""

    def __init__(self, rows: np.ndarray, metric: Metric) -> None:
        self.rows, self.metric = rows, metric
        self.squares = np.concatenate([np.einsum("nd,nd->n", block, block) for block in _blocks(rows)])

    def candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        """See `Index`."""
        best = np.full((len(queries), 0), 0, np.float32)
        ids = np.full((len(queries), 0), 0, np.int64)
        for number, block in enumerate(_blocks(self.rows)):
            closeness = self._closeness(queries @ block.T, self.squares[number * ROWS:][:len(block)])
            chosen = _largest(closeness, count)
            best = np.hstack([best, np.take_along_axis(closeness, chosen, 1)])
            ids = np.hstack([ids, chosen + number * ROWS])
            kept = _largest(best, count)
            best, ids = np.take_along_axis(best, kept, 1), np.take_along_axis(ids, kept, 1)
        return ids

    def _closeness(self, products: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """What orders the rows as the metric does, for one query at a time, nearest highest."""
        if self.metric == "cosine":
            products /= np.maximum(np.sqrt(squares), np.finfo(np.float32).tiny)
        elif self.metric == "l2":
            products -= squares / 2
        return products


class FaissIndex:
    """Faiss's flat index: a copy of all rows in memory."""

    def __init__(self, rows: np.ndarray, metric: Metric) -> None:
        import faiss

        self.rows, self.metric = rows, metric
        self._index = faiss.IndexFlatL2(rows.shape[1]) if metric == "l2" else faiss.IndexFlatIP(rows.shape[1])
        for block in _blocks(rows):
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


def _blocks(rows: np.ndarray, size: int = ROWS) -> list[np.ndarray]:
    return [rows[start:start + size] for start in range(0, len(rows), size)]


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Columns of the `count` largest of each row of `values`, in any order; all where there are no more."""
    if values.shape[1] <= count:
        return np.broadcast_to(np.arange(values.shape[1]), values.shape)
    return np.argpartition(values, -count, axis=1)[:, -count:]
