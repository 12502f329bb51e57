"""A graph by which a large gallery is searched without comparing with all of its pictures; needs faiss-cpu.

hnsw.npz holds the graph alone. The vectors are those of the gallery, and the scores of what is found are exact.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.output_folder import mark_output, output_lock, report_write_errors
from search.gallery import HNSW, MADE_BY, Gallery
from search.neighbours import ROWS, Index, normalised
from search.rows import Rows, row_blocks
from search.vectors import read_counts, read_texts
from utils import UserError, write_arrays

LINKS = 32  # of a picture in each layer; twice as many in the lowest
CANDIDATES, VISITED = 100, 192  # that are weighed when a picture is added; when one is searched for, see BENCHMARKS.md
_AGAIN = "run tools/build_gallery.py --index again"


def library() -> Any:
    """The package faiss; raises a `UserError` where it is not installed."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise UserError("no package faiss-cpu", "that of requirements-faiss.txt",
                        "run pip install -r requirements-faiss.txt") from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """Which pictures each picture is linked with.

    Attributes:
        levels: in how many layers each picture is, (N,) int32, at least 1.
        neighbors: the links of each picture in turn, lowest layer first, -1 where there is none, int32.
    """

    levels: np.ndarray
    neighbors: np.ndarray

    @property
    def offsets(self) -> np.ndarray:
        """Where the links of each picture begin, and the last ones end, (N + 1,) int64."""
        return np.concatenate([[0], np.cumsum(LINKS * (self.levels.astype(np.int64) + 1))])

    def check(self) -> None:
        """Raise a `ValueError` unless each link leads to a picture that is in its layer: faiss does not look."""
        if not (len(self.levels) and (self.levels >= 1).all() and (self.levels <= 64).all()):
            raise ValueError("pictures in no layer")
        offsets = self.offsets
        if offsets[-1] != len(self.neighbors):
            raise ValueError(f"{len(self.neighbors)} links instead of {offsets[-1]}")
        if self.neighbors.min() < -1 or self.neighbors.max() >= len(self.levels):
            raise ValueError("links to pictures that are not there")
        for layer in range(1, int(self.levels.max())):
            first = offsets[:-1][self.levels > layer] + LINKS * (layer + 1)
            links = self.neighbors[first[:, None] + np.arange(LINKS)]
            if (self.levels[links[links >= 0]] <= layer).any():
                raise ValueError(f"links out of layer {layer}")


class HnswIndex(Index):
    """Finds the nearest rows, by cosine, among candidates that a graph leads to, nearly always the right ones."""

    def __init__(self, rows: Rows, graph: Graph) -> None:
        """Take the rows, (N, D) float32, that `graph` was made of; it has been checked."""
        super().__init__(rows)
        faiss = library()
        self._index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
        for _, block in row_blocks(rows, ROWS):
            self._index.storage.add(_unit(block))
        hnsw, self._index.ntotal = self._index.hnsw, len(rows)
        for name, values in (("levels", graph.levels.astype(np.int32)), ("offsets", graph.offsets.astype(np.uint64)),
                             ("neighbors", graph.neighbors.astype(np.int32))):
            faiss.copy_array_to_vector(np.ascontiguousarray(values), getattr(hnsw, name))
        hnsw.entry_point, hnsw.max_level = int(graph.levels.argmax()), int(graph.levels.max()) - 1

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        self._index.hnsw.efSearch = max(VISITED, 2 * count)
        _, ids = self._index.search(_unit(queries), count)
        lacking = (ids < 0).any(axis=1)
        if lacking.any():
            ids[lacking] = super()._candidates(queries[lacking], count)
        return ids


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(normalised(rows), np.float32)


def build_graph(rows: Rows) -> Graph:
    """The graph of `rows`, (N, D) float32, for the cosine; it uses all cores."""
    faiss = library()
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CANDIDATES
    for _, block in row_blocks(rows, ROWS):
        index.add(_unit(block))
    return Graph(levels=faiss.vector_to_array(index.hnsw.levels),
                 neighbors=faiss.vector_to_array(index.hnsw.neighbors))


def write_index(folder: Path, gallery: Gallery) -> None:
    """Make the graph of `gallery` and write it to its `folder`; it counts until the gallery changes."""
    library()
    with output_lock(folder, wait=True), report_write_errors(folder):
        graph = build_graph(gallery.comparable(gallery.features))
        mark_output(folder, MADE_BY, [HNSW])
        write_arrays(folder / HNSW, {"fingerprint": np.array([gallery.fingerprint]), "levels": graph.levels,
                                     "neighbors": graph.neighbors})


def read_index(folder: Path, gallery: Gallery) -> tuple[HnswIndex | None, list[str]]:
    """The index in the `folder` of `gallery`; None where there is none, or none that can be used, and a line why.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / HNSW
    if not path.exists():
        return None, []
    if read_texts(path, ("fingerprint",))["fingerprint"] != [gallery.fingerprint]:
        return None, [f"{path} is of other pictures and is not used; {_AGAIN}"]
    try:
        library()
    except UserError:
        return None, [f"{path} is not used without faiss-cpu (pip install -r requirements-faiss.txt)"]
    found = read_counts(path, ("levels", "neighbors"))
    graph, rows = Graph(levels=found["levels"], neighbors=found["neighbors"]), gallery.comparable(gallery.features)
    try:
        if len(graph.levels) != len(rows):
            raise ValueError(f"{len(graph.levels)} pictures instead of {len(rows)}")
        graph.check()
    except ValueError as error:
        raise UserError(f"{path}, which is damaged ({error})", "a graph of the gallery's pictures", _AGAIN) from error
    return HnswIndex(rows, graph), []
