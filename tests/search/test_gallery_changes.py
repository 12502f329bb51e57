"""A large gallery changes by what comes and goes: the same content as written whole, at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import search.gallery
from data.output_folder import output_lock
from search.gallery import Gallery, change_gallery, read_gallery, write_gallery
from search.gallery_search import GallerySearch
from search.rows import StackedRows, row_blocks, runs
from search.vectors import FeatureSpace
from utils import UserError

MODEL = FeatureSpace(model="0123")
RNG, NONE = np.random.default_rng(0), np.array([], np.str_)


def pictures(counts: dict[str, int], start: int = 0) -> Gallery:
    names = [f"{artist}/{number}.png" for artist, count in counts.items() for number in range(start, start + count)]
    return Gallery.of_folder(MODEL, Path("p"), names, RNG.normal(size=(len(names), 6)).astype(np.float32))


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """A gallery in the folder g, large enough to have changes."""
    monkeypatch.setattr(search.gallery, "SMALL", 0)
    monkeypatch.setattr(search.gallery, "CHANGED_SHARE", 2)
    gallery = pictures({"Anna": 10, "Bob": 12, "北斎": 20})
    write_gallery(tmp_path / "g", gallery, overwrite=False)
    return gallery


def assert_same(found: Gallery, expected: Gallery) -> None:
    assert list(found.images) == list(expected.images)
    assert list(found.artists) == list(expected.artists)
    np.testing.assert_array_equal(np.asarray(found.features), expected.features)
    assert (found.sizes, found.fingerprint) == (expected.sizes, expected.fingerprint)
    np.testing.assert_array_equal(found.means, expected.means)


def test_changes_give_what_writing_whole_gives(base: Gallery, tmp_path: Path) -> None:
    folder, expected = tmp_path / "g", base
    features = (folder / "features.npy").stat()
    steps: list[Gallery | str] = [pictures({"Mina": 3}), "Bob", pictures({"Anna": 3}, start=8), "Mina",
                                  pictures({"Mina": 2}, start=1), pictures({"Bob": 1})]
    for number, step in enumerate(steps, 1):
        if isinstance(step, str):
            expected, sizes = expected.without(step), change_gallery(folder, removed=step, space=MODEL)
        else:
            expected, sizes = expected.with_pictures(step), change_gallery(folder, added=step)
        assert sizes == expected.sizes
        assert_same(read_gallery(folder, MODEL), expected)
        assert len(list((folder / "changes").iterdir())) == number
    after = (folder / "features.npy").stat()
    assert (features.st_ino, features.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    queries = RNG.normal(size=(9, 6)).astype(np.float32)
    found, whole = (GallerySearch(gallery, neighbours=3).find(queries, 5) for gallery in (read_gallery(folder),
                                                                                         expected))
    assert found == whole
    write_gallery(folder, read_gallery(folder), overwrite=True)  # nothing in it is a stranger's
    assert not (folder / "changes").exists()
    assert_same(read_gallery(folder), expected)


def test_pictures_replace_those_of_odd_names_and_other_artists(base: Gallery, tmp_path: Path) -> None:
    folder, space = tmp_path / "g", base.space
    odd = Gallery(space=space, images=['Doe, "J"/1.png', "Bob/3.png"], artists=['Doe, "J"', "北斎"],
                  features=RNG.normal(size=(2, 6)).astype(np.float32))  # as a fix list names the artist of Bob/3.png
    write_gallery(folder, base.with_pictures(odd), overwrite=True)
    expected = read_gallery(folder)
    for step in (odd, pictures({"Bob": 5}), odd):
        expected = expected.with_pictures(step)
        assert change_gallery(folder, added=step) == expected.sizes
        assert_same(read_gallery(folder), expected)
    (folder / "image_names.txt").unlink()
    with pytest.raises(UserError, match=r"image_names\.txt, which cannot be read"):
        change_gallery(folder, added=odd)


def test_many_changes_are_written_whole(base: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.gallery, "CHANGED_SHARE", 0.5)
    change_gallery(tmp_path / "g", added=pictures({"Mina": 15}))
    assert (tmp_path / "g" / "changes").exists()
    change_gallery(tmp_path / "g", removed="Mina")  # 30 rows of 42 have changed
    assert not (tmp_path / "g" / "changes").exists()
    assert_same(read_gallery(tmp_path / "g"), base)


def test_a_small_gallery_is_written_whole(base: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.gallery, "SMALL", 43)
    change_gallery(tmp_path / "g", removed="Anna")
    assert len(np.load(tmp_path / "g" / "features.npy")) == 32


def test_what_cannot_go_or_does_not_fit_is_refused(base: Gallery, tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with pytest.raises(UserError, match=r"no artist 'Ana'.*Anna"):
        change_gallery(folder, removed="Ana")
    with pytest.raises(UserError, match="another network"):
        change_gallery(folder, removed="Anna", space=FeatureSpace(model="4567"))
    for name in ("Anna", "Bob"):
        change_gallery(folder, removed=name)
    with pytest.raises(UserError, match="only artist"):
        change_gallery(folder, removed="北斎")
    with pytest.raises(UserError, match="no artist 'Bob'"):
        change_gallery(folder, removed="Bob")


@pytest.mark.parametrize(("spoil", "told"), [
    (lambda folder: (folder / "000001.npz").unlink(), "no 000001.npz"),
    (lambda folder: (folder / "000002.npz").write_bytes(b"junk"), "000002.npz, which holds no vectors"),
    (lambda folder: np.savez(folder / "000002.npz", features=np.ones((1, 5), np.float32), image_names=np.array(["a"]),
                             artists=np.array(["a"]), removed=NONE, replaced=NONE), "1 features of 5 numbers"),
    (lambda folder: np.savez(folder / "000002.npz", features=np.ones((1, 6), np.float32), image_names=np.array(["a"]),
                             artists=np.array([""]), removed=NONE, replaced=NONE), "1 artists"),
    (lambda folder: np.savez(folder / "000002.npz", features=np.ones((1, 6), np.float32), image_names=np.ones(1),
                             artists=np.array(["a"]), removed=NONE, replaced=NONE), "image_names of shape")])
def test_spoiled_changes_are_refused(base: Gallery, tmp_path: Path, spoil: Callable[[Path], object],
                                     told: str) -> None:
    for artist in ("Mina", "Otto"):
        change_gallery(tmp_path / "g", added=pictures({artist: 1}))
    spoil(tmp_path / "g" / "changes")
    with pytest.raises(UserError, match=told):
        read_gallery(tmp_path / "g")


def test_a_change_that_was_killed_is_none(base: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "g"
    with monkeypatch.context() as patch:
        patch.setattr("utils.os.replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            change_gallery(folder, removed="Anna")
    (folder / "changes").mkdir(exist_ok=True)
    (folder / "changes" / ".000001.npz.partial").write_bytes(b"half")  # as a kill leaves it
    assert_same(read_gallery(folder), base)
    change_gallery(folder, removed="Anna")
    assert "Anna" not in read_gallery(folder).sizes
    (folder / "changes" / ".000002.npz.partial").write_bytes(b"half")
    write_gallery(folder, base, overwrite=True)
    assert_same(read_gallery(folder), base)


@pytest.mark.skipif(os.name != "posix", reason="forks a process to kill it")
def test_kills_leave_whole_artists(base: Gallery, tmp_path: Path) -> None:
    folder, more = tmp_path / "g", pictures({f"new {number}": 5 for number in range(40)})
    known = 0
    for trial in range(10):
        process = multiprocessing.get_context("fork").Process(target=_add_one_by_one, args=(folder, more))
        process.start()
        time.sleep(0.004 * trial)
        process.kill()
        process.join()
        sizes = read_gallery(folder).sizes
        assert {size for artist, size in sizes.items() if artist not in base.sizes} <= {5}
        assert base.sizes.items() <= sizes.items()
        assert len(sizes) >= known
        known = len(sizes)
    _add_one_by_one(folder, more)
    assert len(read_gallery(folder).sizes) == 43


def _add_one_by_one(folder: Path, more: Gallery) -> None:
    for artist in more.sizes:
        if artist not in read_gallery(folder).sizes:
            change_gallery(folder, added=more.select([other == artist for other in more.artists]))


def test_a_calibration_goes_with_a_change(base: Gallery, tmp_path: Path) -> None:
    (tmp_path / "g" / "calibration.json").write_text("{}")
    change_gallery(tmp_path / "g", removed="Anna")
    assert not (tmp_path / "g" / "calibration.json").exists()


def test_the_whole_files_say_whose_pictures_they_hold(base: Gallery, tmp_path: Path) -> None:
    change_gallery(tmp_path / "g", added=pictures({"Mina": 1}))
    about = json.loads((tmp_path / "g" / "gallery.json").read_text(encoding="utf-8"))
    assert about["pictures"] == 42 == len(np.load(tmp_path / "g" / "features.npy"))
    with output_lock(tmp_path / "g"):  # by this process: it may go on
        change_gallery(tmp_path / "g", removed="Mina")


def test_stacked_rows_are_read_like_an_array() -> None:
    parts = [RNG.normal(size=(size, 3)).astype(np.float32) for size in (4, 0, 1, 7)]
    stacked, whole = StackedRows(parts), np.concatenate(parts)
    assert (len(stacked), stacked.shape) == (12, (12, 3))
    for index in (slice(None), slice(2, 4), slice(3, 9), slice(None, None, 5), slice(12, 20), slice(5, 12),
                  np.array([[0, 11], [4, 3]]), [5, 0]):
        np.testing.assert_array_equal(stacked[index], whole[index])
    assert np.shares_memory(stacked[5:12], parts[3])
    assert [(start, len(block)) for start, block in row_blocks(stacked, 3)] == [(0, 3), (3, 1), (4, 1), (5, 3), (8, 3),
                                                                              (11, 1)]
    np.testing.assert_array_equal(np.asarray(stacked), whole)


@pytest.mark.parametrize("kept", [[], [True], [False], [True, False, True, True], [False, True, True, False]])
def test_runs_are_the_slices_of_what_is_kept(kept: list[bool]) -> None:
    numbers = np.arange(len(kept))
    np.testing.assert_array_equal(np.concatenate([numbers[:0], *(numbers[run] for run in runs(np.array(kept, bool)))]),
                                  numbers[np.array(kept, bool)])
