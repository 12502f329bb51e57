"""The stored index finds what comparing with all pictures finds, is used while it is fresh, and trusts no file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tools.build_gallery
from search.gallery import HNSW, Gallery, change_gallery, read_gallery, write_gallery
from search.gallery_search import GallerySearch, open_search
from search.hnsw import LINKS, Graph, HnswIndex, build_graph, read_index
from search.neighbours import Index
from search.vectors import FeatureSpace
from utils import UserError

pytest.importorskip("faiss", reason="the package of requirements-faiss.txt is not installed")

MODEL = FeatureSpace(model="0123")


def clustered(pictures: int, artists: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(artists, 24))
    return (centres[np.arange(pictures) % artists] + 0.7 * rng.normal(size=(pictures, 24))).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A gallery with an index."""
    rows = clustered(900, 30)
    write_gallery(tmp_path / "g", Gallery.of_folder(MODEL, Path("p"), [
        f"{number % 30}/{number}.png" for number in range(900)], rows), overwrite=False)
    assert tools.build_gallery.main(["--gallery", str(tmp_path / "g"), "--index"]) == 0
    return tmp_path / "g"


def test_a_search_by_index_answers_like_one_without(folder: Path) -> None:
    gallery, queries = read_gallery(folder), clustered(50, 30, seed=1)
    search = open_search(folder, gallery, neighbours=10)
    assert isinstance(search.pictures, HnswIndex)
    found, exact = search.find(queries, 10), GallerySearch(gallery, neighbours=10).find(queries, 10)
    recall = [len({each["image"] for each in one["pictures"]} & {each["image"] for each in other["pictures"]}) / 10
              for one, other in zip(found, exact, strict=True)]
    assert np.mean(recall) > 0.99
    same = [place for place, share in enumerate(recall) if share == 1]
    assert [found[place] for place in same] == [exact[place] for place in same]  # scores are exact


def test_a_search_weighs_as_many_pictures_as_the_gallery_needs() -> None:
    easy, hard = clustered(2000, 100), np.random.default_rng(3).normal(size=(3000, 128)).astype(np.float32)
    graph = build_graph(hard)
    assert build_graph(easy).visited == 64 < graph.visited
    queries = np.random.default_rng(4).normal(size=(100, 128)).astype(np.float32)
    found, exact = (index.nearest(queries, 10)[0] for index in (HnswIndex(hard, graph), Index(hard)))
    recall = np.mean([len({*one} & {*other}) / 10 for one, other in zip(found, exact, strict=True)])
    assert recall > 0.98
    assert abs(recall - graph.recall) < 0.01


def test_several_pictures_lead_to_each() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2000, 48)) * np.exp(rng.normal(size=(2000, 1)))
    rows[:, 0] += 8  # a few are near to all others, most are near to these few only
    graph = build_graph(rows.astype(np.float32))
    lowest = graph.neighbors[graph.offsets[:-1, None] + np.arange(2 * LINKS)]
    assert np.bincount(lowest[lowest >= 0], minlength=2000).min() >= 8  # faiss alone leaves some that none leads to


def test_more_neighbours_than_the_graph_leads_to_are_found_exactly() -> None:
    rows = clustered(40, 4)
    levels, none = np.ones(40, np.int32), np.full(64 * 40, -1, np.int32)
    index = HnswIndex(rows, Graph(levels=levels, neighbors=none, visited=64))
    np.testing.assert_array_equal(index.nearest(rows[:3], 7)[0], Index(rows).nearest(rows[:3], 7)[0])


def test_a_change_takes_the_index_away(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = (folder / HNSW).read_bytes()
    change_gallery(folder, removed="3")
    assert not (folder / HNSW).exists()
    (folder / HNSW).write_bytes(stored)
    index, lines = read_index(folder, read_gallery(folder))
    assert index is None
    assert "of other pictures" in lines[0]
    search = open_search(folder, read_gallery(folder), neighbours=10)
    assert type(search.pictures) is Index
    assert "of other pictures" in capsys.readouterr().out


def test_an_index_that_does_not_say_how_many_to_weigh_is_not_used(folder: Path) -> None:
    with np.load(folder / HNSW) as stored:
        arrays = {name: np.array(stored[name]) for name in stored.files}
    np.savez(folder / HNSW, **{name: array for name, array in arrays.items() if name != "visited"})
    index, lines = read_index(folder, read_gallery(folder))
    assert index is None
    assert "of an earlier version and is not used" in lines[0]
    for visited in ([], [0], [2**40]):
        np.savez(folder / HNSW, **{**arrays, "visited": np.array(visited, np.int64)})
        with pytest.raises(UserError, match="pictures to weigh"):
            read_index(folder, read_gallery(folder))


def test_without_faiss_the_search_is_exact_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert type(open_search(folder, read_gallery(folder), neighbours=10).pictures) is Index
    assert "without faiss-cpu (pip install -r requirements-faiss.txt)" in capsys.readouterr().out
    assert tools.build_gallery.main(["--gallery", str(folder), "--index"]) == 2
    assert "found no package faiss-cpu" in capsys.readouterr().err


def _linked_out_of_its_layer(levels: np.ndarray, neighbors: np.ndarray) -> None:
    graph, high = Graph(levels=levels, neighbors=neighbors, visited=64), int(levels.argmax())
    neighbors[graph.offsets[high] + 64] = int(levels.argmin())


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda levels, neighbors: neighbors.__setitem__(5, 900), "links to pictures that are not there"),
    (lambda levels, neighbors: neighbors.__setitem__(5, -2), "links to pictures that are not there"),
    (lambda levels, neighbors: levels.__setitem__(5, 0), "in no layer"),
    (lambda levels, neighbors: levels.__setitem__(5, 9), "links instead of"),
    (_linked_out_of_its_layer, "out of layer 1")])
def test_a_damaged_graph_never_reaches_faiss(folder: Path, spoil: Callable[[np.ndarray, np.ndarray], None],
                                             told: str) -> None:
    with np.load(folder / HNSW) as stored:
        arrays = {name: np.array(stored[name]) for name in stored.files}
    assert arrays["levels"].max() > 1
    spoil(arrays["levels"], arrays["neighbors"])
    np.savez(folder / HNSW, **arrays)
    with pytest.raises(UserError, match=told):
        read_index(folder, read_gallery(folder))


def test_a_graph_is_checked_against_the_pictures(folder: Path) -> None:
    gallery = read_gallery(folder)
    graph = build_graph(clustered(10, 2))
    np.savez(folder / HNSW, fingerprint=np.array([gallery.fingerprint]), levels=graph.levels, neighbors=graph.neighbors,
             visited=np.array([64]))
    with pytest.raises(UserError, match="10 pictures instead of 900"):
        read_index(folder, gallery)
    (folder / HNSW).write_bytes(b"junk")
    with pytest.raises(UserError, match="no vectors that can be read"):
        read_index(folder, gallery)


def test_an_index_is_a_file_of_the_gallery(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tools.build_gallery.main(["--gallery", str(folder), "--index"]) == 0
    assert "a search weighs 64 pictures and finds" in capsys.readouterr().out
    write_gallery(folder, read_gallery(folder), overwrite=True)
    assert not (folder / HNSW).exists()
    assert tools.build_gallery.main(["--gallery", str(folder), "--index", "--list"]) == 2
    assert "--list with --index" in capsys.readouterr().err
