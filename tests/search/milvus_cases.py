"""A gallery in Milvus answers as one in a folder does, and holds whole artists only, whenever its writer is killed.

They run on the server of MILVUS_URI where that is set, else on Milvus Lite.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.gallery_verdicts import read_verdicts
from search.engines import FolderStore, open_store
from search.gallery import Gallery
from search.gallery_search import GallerySearch
from search.milvus import MilvusStore
from search.milvus_client import Connection, connect
from search.milvus_lock import ServerLock
from search.milvus_search import MilvusSearch
from search.vectors import FeatureSpace
from tests.conftest import Completed
from tools.build_gallery import main
from utils import UserError

SERVER = os.environ.get("MILVUS_URI", "")
MODEL = FeatureSpace(model="0123")
STYLE = FeatureSpace(model="0123", feature_kind="style", blocks=[8, 8])
RNG = np.random.default_rng(0)
NAMES = ["An \"q\" \\ 'x'\n]", "Bob", "北斎", "单"]  # nothing that a user wrote is part of a filter


def pictures(counts: dict[str, int], start: int = 0, space: FeatureSpace = MODEL) -> Gallery:
    names = [f"{artist}/{number}.png" for artist, count in counts.items() for number in range(start, start + count)]
    centres = {artist: RNG.normal(size=16) for artist in counts}
    rows = np.array([centres[name.partition("/")[0]] + 0.5 * RNG.normal(size=16) for name in names], np.float32)
    return Gallery.of_folder(space, Path("p"), names, rows, 6 if space is STYLE else None)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the server, or of a file for this module."""
    return SERVER or str(tmp_path_factory.mktemp("milvus") / "galleries.db")


@pytest.fixture
def store(address: str) -> Iterator[MilvusStore]:
    """A place of its own, without a gallery."""
    store = open_store(f"milvus:{address}#test_{secrets.token_hex(4)}")
    assert isinstance(store, MilvusStore)
    yield store
    for name in store.milvus.ask("list_collections"):
        if name.startswith(store.milvus.name):
            store.milvus.ask("drop_collection", name)


def assert_same(store: MilvusStore, folder: FolderStore, *, search: bool = True) -> None:
    found, expected = store.read(), folder.read()
    assert list(found.images) == list(expected.images)
    assert list(found.artists) == list(expected.artists)
    np.testing.assert_array_equal(found.features, np.asarray(expected.features))
    assert (found.space, found.components, found.fingerprint) == (expected.space, expected.components,
                                                                 expected.fingerprint)
    if search:
        queries = RNG.normal(size=(9, 16)).astype(np.float32)
        answers = [each.open_search(neighbours=7, space=found.space).find(queries, 5) for each in (store, folder)]
        assert_alike(*answers)


def assert_alike(found: Any, expected: Any) -> None:
    """Equal, but for the rounding of numbers."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_alike(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_alike(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("space", [MODEL, STYLE], ids=["pooled", "style"])
def test_it_answers_and_changes_as_a_folder_does(store: MilvusStore, tmp_path: Path, space: FeatureSpace) -> None:
    folder = FolderStore(tmp_path / "g")
    built = pictures(dict(zip(NAMES, (10, 12, 20, 1), strict=True)), space=space)
    for each in (store, folder):
        each.write(built, overwrite=False)
    assert_same(store, folder)
    more = pictures({"Mina": 2, NAMES[0]: 1}, start=9, space=space)
    for step in (pictures({"Mina": 3}, space=space), "Bob", pictures({"北斎": 3}, 18, space), more, "单", more):
        change = {"removed": step} if isinstance(step, str) else {"added": step}
        assert store.change(**change, space=space) == folder.change(**change, space=space)
        # A small folder fits its standardisation again with each change; a gallery in Milvus when it is built.
        assert_same(store, folder, search=space is MODEL)
    moved = Gallery(space=space, images=["Mina/9.png", "Mina/10.png"], artists=["Otto"] * 2, features=more.features[:2])
    assert store.change(added=moved) == folder.change(added=moved)  # as a fix list has it: Mina keeps other pictures
    assert_same(store, folder, search=space is MODEL)
    assert store.milvus.rows(store.milvus.name, ["key"], 'key like "%/pending/%"') == []
    assert isinstance(store.open_search(neighbours=7, exact=True), GallerySearch)


def test_a_search_follows_what_others_change(store: MilvusStore) -> None:
    store.write(pictures({"Anna": 4, "Bob": 4}), overwrite=False)
    search, mina = store.open_search(neighbours=3), pictures({"Mina": 4})
    query = np.asarray(mina.features[:1])
    store.change(added=mina)
    assert search.find(query, 1)[0]["pictures"][0]["image"] == "Mina/0.png"
    assert search.find(query, 9)[0]["artists_by_mean"][0]["artist"] == "Mina"
    store.write(pictures({"Otto": 3}), overwrite=True)  # the collections that it knew are gone
    assert search.find(query, 9)[0]["artists_by_neighbours"][0]["artist"] == "Otto"


def test_an_artist_without_a_marker_does_not_count(store: MilvusStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(pictures({"Anna": 4, "Bob": 4}), overwrite=False)
    before, mina = store.read(), pictures({"Mina": 40})
    insert = store._insert

    def fail(method: str, collection: str, rows: Any, width: int) -> None:
        if collection.endswith("_artists"):
            raise KeyboardInterrupt
        insert(method, collection, rows, width)

    with monkeypatch.context() as patch:
        patch.setattr(store, "_insert", fail)
        with pytest.raises(KeyboardInterrupt):
            store.change(added=mina)
    counted = {"filter": "", "output_fields": ["count(*)"]}
    collection = store.open_search(neighbours=3).gallery.collections[0]
    assert store.milvus.ask("query", collection, **counted)[0]["count(*)"] == 48
    assert list(store.read().images) == list(before.images)
    found = store.open_search(neighbours=3).find(np.asarray(mina.features[:2]), 5)
    assert {near["artist"] for record in found for near in record["pictures"]} == {"Anna", "Bob"}
    store.change(removed="Bob")
    assert store.milvus.ask("query", collection, **counted)[0]["count(*)"] == 4  # Mina's have gone


def test_a_build_that_was_killed_leaves_the_earlier_gallery(store: MilvusStore,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(pictures({"Anna": 4}), overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr(store, "_flush", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.write(pictures({"Bob": 4}), overwrite=True)
    assert dict(store.open_search(neighbours=3).gallery.sizes) == {"Anna": 4}
    store.write(pictures({"Bob": 4}), overwrite=True)
    assert len([name for name in store.milvus.ask("list_collections") if name.startswith(store.milvus.name)]) == 3


def test_copies_keep_rows_and_calibration(store: MilvusStore, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    first, last = str(tmp_path / "g"), str(tmp_path / "back")
    FolderStore(tmp_path / "g").write(pictures({f"a{number}": 6 for number in range(6)}), overwrite=False)
    assert main(["--gallery", first, "--calibrate"]) == 0
    assert main(["--gallery", first, "--copy-to", str(store)]) == 0
    assert main(["--gallery", last, "--copy-from", str(store)]) == 0
    assert f"36 pictures by 6 artists are in {last}, as in {store}" in capsys.readouterr().out
    assert_same(store, FolderStore(Path(last)))

    def verdicts(store: Any) -> Any:
        search, found = store.search(neighbours=20, also=lambda folder, gallery: read_verdicts(
            folder, gallery, neighbours=20))
        features = np.eye(5, 16, dtype=np.float32)
        return found and found.tell(search.find(features, 3), features)

    told = verdicts(FolderStore(Path(first)))
    assert told is not None
    assert verdicts(store) == verdicts(FolderStore(Path(last))) == told
    assert main(["--gallery", str(store), "--remove", "a0"]) == 0
    assert "no verdicts until --calibrate" in capsys.readouterr().out
    assert verdicts(store) is None
    assert main(["--gallery", str(store), "--remove", "a1", "--calibrate"]) == 0
    assert verdicts(store) is not None
    assert main(["--gallery", str(store), "--list"]) == 0
    assert "24 pictures by 4 artists" in capsys.readouterr().out


@pytest.mark.parametrize(("place", "told"), [
    ("http://127.0.0.1:9", "no Milvus server that answers at http://127.0.0.1:9"),
    ("ftp://host", "expected http://HOST:PORT of a server"), ("http://me:secret@host", "MILVUS_TOKEN"),
    ("{folder}/g", "ends in .db"), ("{folder}/g.db#no-name", "the name 'no-name' of a gallery"),
    ("{folder}/none/g.db", "no folder"), ("{folder}/file.db", "which Milvus Lite did not make"),
    ("{address}#nothing", "no gallery nothing in ")])
def test_a_place_that_is_none_is_told_in_one_line(address: str, tmp_path: Path, place: str, told: str,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file.db").touch()
    assert main(["--gallery", f"milvus:{place.format(folder=tmp_path, address=address)}", "--list"]) == 2
    found = capsys.readouterr()
    assert told in found.err
    assert (found.err.count("\n"), found.out) == (1, "")


def test_what_is_not_ours_or_of_another_network_is_refused(store: MilvusStore) -> None:
    store.write(pictures({"Anna": 4}), overwrite=False)
    with pytest.raises(UserError, match=r"of 1 artist, built with another network \(0123…\); expected .*\(4567…\)"):
        store.open_search(neighbours=3, space=FeatureSpace(model="4567"))
    with pytest.raises(UserError, match="--feature-kind style for the gallery milvus:"):
        store.change(added=pictures({"Bob": 2}, space=STYLE))
    with pytest.raises(UserError, match=r"no artist 'Ana'.*Anna"):
        store.change(removed="Ana")
    with pytest.raises(UserError, match="only artist"):
        store.change(removed="Anna")
    store.milvus.ask("upsert", store.milvus.name, [{"key": "gallery", "text": '{"format": "x"}', "vector": [1.0, 0.0]}])
    with pytest.raises(UserError, match=r"the row gallery of .* which is not as it should be"):
        store.read()
    store.milvus.ask("drop_collection", store.milvus.name)
    store.milvus.ask("create_collection", store.milvus.name, dimension=4)
    for call in (store.read, store.check_place):
        with pytest.raises(UserError, match=r"with the fields id, vector in .* one that tools/build_gallery.py made"):
            call()


def test_numbers_and_names_that_milvus_would_take_are_refused(store: MilvusStore) -> None:
    store.write(pictures({"Anna": 4}), overwrite=False)
    spoilt = pictures({"Bob": 2})
    spoilt.features[1, 3] = np.nan
    with pytest.raises(UserError, match="not finite, or huge, in row 1 of the features for milvus:"):
        store.change(added=spoilt)
    with pytest.raises(UserError, match="of 5006 bytes"):
        store.change(added=pictures({"B" * 5000: 1}))
    assert dict(store.open_search(neighbours=3).gallery.sizes) == {"Anna": 4}
    with pytest.raises(UserError, match="2 to 32768, as Milvus takes"):
        store.write(Gallery.of_folder(MODEL, Path("p"), ["A/1"], np.ones((1, 1), np.float32)), overwrite=True)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pymilvus", None)
        with pytest.raises(UserError, match=r"no package pymilvus.*pip install -r requirements-milvus.txt"):
            open_store(f"milvus:{tmp_path}/new.db").read()
    find = importlib.util.find_spec
    monkeypatch.setattr("search.milvus_client.importlib.util.find_spec",
                        lambda name: None if name == "milvus_lite" else find(name))
    with pytest.raises(UserError, match="no package milvus-lite, which runs on Linux and macOS"):
        open_store(f"milvus:{tmp_path}/new.db").read()


def test_milvus_has_an_index_of_its_own(store: MilvusStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gallery", str(store), "--index"]) == 2
    assert "Milvus keeps an index of its own" in capsys.readouterr().err
    with pytest.raises(UserError, match="Milvus keeps an index of its own"):
        store.write_index()


@pytest.mark.skipif(bool(SERVER), reason="a server takes many clients")
def test_a_second_process_on_one_file_is_refused(store: MilvusStore, run_script: Callable[..., Completed]) -> None:
    store.write(pictures({"Anna": 4}), overwrite=False)
    done = run_script("tools/build_gallery.py", "--gallery", store, "--remove", "Anna")
    assert done.returncode == 2
    assert done.stderr == (
        f"build_gallery.py: found {store.milvus.uri}, which another process has open; expected one process at a time, "
        "as Milvus Lite allows; wait until that has ended, or run a Milvus server\n")


# ---- killed writers --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.exhaustive)])
def test_a_kill_leaves_whole_artists(tmp_path: Path, times: int) -> None:
    """Ten pictures each; the process is killed while it adds artists one after another."""
    place = f"milvus:{SERVER or tmp_path / 'own.db'}#killed_{secrets.token_hex(4)}"
    store, known = open_store(place), 1
    assert isinstance(store, MilvusStore)
    store.write(pictures({"Anna": 10}), overwrite=False)
    for trial in range(times):
        release(store.milvus)
        context = multiprocessing.get_context("spawn")
        begun = context.Event()
        process = context.Process(target=_add_artists, args=(place, trial, begun))
        process.start()
        assert begun.wait(120)
        time.sleep(0.01 * trial + 0.02)
        process.kill()
        process.join()
        sizes = store.open_search(neighbours=3).gallery.sizes
        assert {*sizes.values()} == {10}
        assert len(sizes) >= known
        known = len(sizes)
        assert store.read().pictures == 10 * known
    store.change(added=pictures({"last": 10}))  # tidies
    found = store.open_search(neighbours=3)
    assert isinstance(found, MilvusSearch)
    count = store.milvus.ask("query", found.gallery.collections[0], filter="", output_fields=["count(*)"])
    assert count[0]["count(*)"] == 10 * (known + 1)
    release(store.milvus)


def release(milvus: Connection) -> None:
    """Let another process open the file."""
    milvus.close()
    connect.cache_clear()


def _add_artists(place: str, trial: int, begun: Any) -> None:
    store = open_store(place)
    store.check_place()
    for number in range(200):
        store.change(added=pictures({f"{trial} {number}": 10}))
        begun.set()


# ---- two writers on a server -----------------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs of life and patience in fractions of a second."""
    for name, seconds in (("patience", 1.5), ("beat", 0.1), ("settle", 0.3)):
        monkeypatch.setattr(ServerLock, name, seconds)


@pytest.mark.usefixtures("hurried")
def test_one_writer_at_a_time_on_a_server(store: MilvusStore, capsys: pytest.CaptureFixture[str]) -> None:
    other = Connection(f"{store.milvus.uri}#{store.milvus.name}")  # as of another process
    with ServerLock(store.milvus, store._prepare, wait=False):
        with ServerLock(store.milvus, store._prepare, wait=False):  # by this process, which has it
            pass
        with pytest.raises(UserError, match=r"to which .* \(process \d+ on .*\) is writing"), \
                ServerLock(other, store._prepare, wait=False):
            pass
        entered = threading.Event()
        waiting = threading.Thread(target=_enter, args=(ServerLock(other, store._prepare, wait=True), entered))
        waiting.start()
        assert not entered.wait(1)
    waiting.join(30)
    assert entered.is_set()
    assert "waiting for " in capsys.readouterr().out
    assert store.milvus.rows(store.milvus.name, ["text"], 'key == "lock"') == []


def _enter(lock: ServerLock, entered: threading.Event) -> None:
    with lock:
        entered.set()


@pytest.mark.usefixtures("hurried")
def test_a_dead_writer_locks_nothing_for_long(store: MilvusStore) -> None:
    store._prepare()
    store.milvus.ask("upsert", store.milvus.name, [
        {"key": "lock", "text": '{"holder": "a dead one", "token": "0"}', "vector": [1.0, 0.0]}])
    start = time.monotonic()
    with ServerLock(store.milvus, store._prepare, wait=False):
        assert time.monotonic() - start > ServerLock.patience
