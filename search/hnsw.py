"""A graph by which a large gallery is searched without comparing with all of its pictures; needs faiss-cpu.

hnsw.npz holds the graph alone. The vectors are those of the gallery, and the scores of what is found are exact.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.output_folder import mark_output, output_lock, report_write_errors
from search.gallery import HNSW, MADE_BY, Gallery
from search.neighbours import ROWS, SPARE, Index, normalised
from search.rows import Rows, row_blocks
from search.vectors import read_counts, read_texts
from utils import UserError, write_arrays

LINKS = 32  # of a picture in each layer; twice as many in the lowest
CANDIDATES = 100  # that are weighed when a picture is added
VISITED = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)  # by a search, to choose from
_LINKED = 8  # pictures that lead to each picture, at least, of those that have room for a link
_NEAR = 48  # among how many near ones they are sought
_LEFT_OUT = 512  # pictures by which that is chosen
_NEAREST, _RECALL = 10, 0.995  # what is to be found of their nearest ten, so that 0.99 is found of other pictures'
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
        visited: pictures that a search weighs.
        recall: share of the ten nearest pictures that it found, as measured when the graph was made.
    """

    levels: np.ndarray
    neighbors: np.ndarray
    visited: int
    recall: float = 1.0

    @property
    def offsets(self) -> np.ndarray:
        """Where the links of each picture begin, and the last ones end, (N + 1,) int64."""
        return np.concatenate([[0], np.cumsum(LINKS * (self.levels.astype(np.int64) + 1))])

    def check(self) -> None:
        """Raise a `ValueError` unless each link leads to a picture that is in its layer: faiss does not look."""
        if not 0 < self.visited <= VISITED[-1]:
            raise ValueError(f"{self.visited} pictures to weigh")
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
        self._visited = graph.visited

    def _candidates(self, queries: np.ndarray, count: int) -> np.ndarray:
        self._index.hnsw.efSearch = max(self._visited, 2 * count)
        _, ids = self._index.search(_unit(queries), count)
        lacking = (ids < 0).any(axis=1)
        if lacking.any():
            ids[lacking] = super()._candidates(queries[lacking], count)
        return ids


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(normalised(rows), np.float32)


def build_graph(rows: Rows) -> Graph:
    """The graph of `rows`, (N, D) float32, for the cosine; it uses all cores.

    How many pictures a search must weigh depends on the gallery, and grows with it. It is measured on some pictures
    drawn at random, before these are added themselves.
    """
    faiss = library()
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = CANDIDATES
    order = np.random.default_rng(0).permutation(len(rows))
    known, left_out = np.split(order, [len(rows) - min(_LEFT_OUT, len(rows) // 10)])
    _add(index, rows, known)
    visited, recall = _choose_visited(index, _unit(rows[left_out])) if len(left_out) else (VISITED[0], 1.0)
    _add(index, rows, left_out)
    return _in_order(order, Graph(levels=faiss.vector_to_array(index.hnsw.levels), visited=visited, recall=recall,
                                  neighbors=faiss.vector_to_array(index.hnsw.neighbors)))


def _add(index: Any, rows: Rows, numbers: np.ndarray) -> None:
    """Add the rows of these numbers, and links to those that few others lead to.

    A picture chooses its links among near ones, and drops some when nearer ones arrive. Pictures far from most others
    lose nearly all that lead to them, and no search finds them: of a million, 14 in a thousand.
    """
    faiss = library()
    for part in _parts(numbers):
        index.add(_unit(rows[part]))
    links = faiss.vector_to_array(index.hnsw.neighbors)
    offsets = faiss.vector_to_array(index.hnsw.offsets)[:-1].astype(np.int64)
    lowest = links[offsets[:, None] + np.arange(2 * LINKS)]
    lacking = _LINKED - np.bincount(lowest[lowest >= 0], minlength=len(lowest))
    lonely = np.flatnonzero(lacking > 0)
    if not len(lonely):
        return
    index.hnsw.efSearch = 2 * _NEAR
    near = np.concatenate([index.search(index.storage.reconstruct_batch(part), _NEAR)[1] for part in _parts(lonely)])
    _link_back(lowest, lonely, lacking[lonely], near)
    links[offsets[:, None] + np.arange(2 * LINKS)] = lowest
    faiss.copy_array_to_vector(links, index.hnsw.neighbors)


def _link_back(links: np.ndarray, lonely: np.ndarray, lacking: np.ndarray, near: np.ndarray) -> None:
    """Write into `links`, (N, L) with -1 after the last of each row, links that lead to the pictures `lonely`.

    Args:
        links: of each picture to others.
        lonely: numbers of pictures, (P,).
        lacking: links that each needs; changed.
        near: where these may come from, nearest first, (P, M); -1 for none. Rows of `links` that are full get none.
    """
    used = (links >= 0).sum(axis=1)
    for column in near.T:
        sources = np.where(column == lonely, -1, column)
        fits = (lacking > 0) & (sources >= 0) & (used[sources] < links.shape[1])
        fits[fits] = (links[sources[fits]] != lonely[fits, None]).all(axis=1)
        rows = np.flatnonzero(fits)[np.argsort(sources[fits], kind="stable")]
        sources = sources[rows]
        places = used[sources] + np.arange(len(rows)) - np.searchsorted(sources, sources)
        rows, sources, places = (each[places < links.shape[1]] for each in (rows, sources, places))
        links[sources, places] = lonely[rows]
        np.add.at(used, sources, 1)
        lacking[rows] -= 1


def _choose_visited(index: Any, queries: np.ndarray) -> tuple[int, float]:
    """The fewest pictures to weigh that find nearly all of the nearest ten, or the most there are, and their share."""
    count, recall = min(_NEAREST, index.ntotal), 0.0
    nearest = index.storage.search(queries, count)[1]
    for visited in VISITED:
        index.hnsw.efSearch = max(visited, 2 * (count + SPARE))
        found = index.search(queries, count + SPARE)[1]
        recall = float((nearest[:, :, None] == found[:, None]).any(-1).mean())
        if recall >= _RECALL:
            return visited, recall
    return VISITED[-1], recall


def _in_order(order: np.ndarray, graph: Graph) -> Graph:
    """`graph`, whose picture i is number `order[i]`, (N,), with the pictures in the order of their numbers."""
    names = np.append(order, -1).astype(np.int32)  # the last for no link
    levels = np.empty_like(graph.levels)
    levels[order] = graph.levels
    sorted_graph = replace(graph, levels=levels, neighbors=np.empty_like(graph.neighbors))
    before, after = graph.offsets, sorted_graph.offsets
    for layers in np.unique(levels):
        links = np.arange(LINKS * (layers + 1))
        for part in _parts(np.flatnonzero(graph.levels == layers)):
            sorted_graph.neighbors[after[order[part], None] + links] = names[
                graph.neighbors[before[part, None] + links]]
    return sorted_graph


def _parts(numbers: np.ndarray) -> Iterator[np.ndarray]:
    return (numbers[first:first + ROWS] for first in range(0, len(numbers), ROWS))


def write_index(folder: Path, gallery: Gallery) -> Graph:
    """Make the graph of `gallery` and write it to its `folder`; it counts until the gallery changes."""
    library()
    with output_lock(folder, wait=True), report_write_errors(folder):
        graph = build_graph(gallery.comparable(gallery.features))
        mark_output(folder, MADE_BY, [HNSW])
        write_arrays(folder / HNSW, {"fingerprint": np.array([gallery.fingerprint]), "levels": graph.levels,
                                     "neighbors": graph.neighbors, "visited": np.array([graph.visited])})
    return graph


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
    with zipfile.ZipFile(path) as archive:
        if "visited.npy" not in archive.namelist():
            return None, [f"{path} is of an earlier version and is not used; {_AGAIN}"]
    found = read_counts(path, ("levels", "neighbors", "visited"))
    rows = gallery.comparable(gallery.features)
    graph = Graph(levels=found["levels"], neighbors=found["neighbors"], visited=int(found["visited"].max(initial=0)))
    try:
        if len(graph.levels) != len(rows):
            raise ValueError(f"{len(graph.levels)} pictures instead of {len(rows)}")
        graph.check()
    except ValueError as error:
        raise UserError(f"{path}, which is damaged ({error})", "a graph of the gallery's pictures", _AGAIN) from error
    return HnswIndex(rows, graph), []
