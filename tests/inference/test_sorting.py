"""Sorted folders: what is made, completed after a kill, kept where a person changed it, and undone; sources stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference.sorting import SORTED, UNSORTED, SortOptions, find_files, read_sorted, sort_pictures, undo_sort
from utils import UserError

Pictures = list[tuple[Path, str | None]]


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Pictures]:
    """Three pictures, two of one name; the tree of the source is the same afterwards, byte for byte."""
    source = tmp_path / "source"
    answers: Pictures = []
    for name, artist in (("a/x.jpg", "Doe, \"J\""), ("b/X.JPG", "Doe, \"J\""), ("y.jpg", None)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode())
        answers.append((source / name, artist))
    before = content(source)
    yield answers
    assert content(source) == before


def sort(pictures: Pictures, folder: Path, by: str = "hardlink", dry_run: bool = False) -> tuple[int, int]:
    outcome = sort_pictures(pictures, folder, SortOptions(sort_into=folder, sort_by=by, dry_run=dry_run))  # type: ignore[arg-type]  # parametrised
    return len(outcome.done), outcome.there


@pytest.mark.parametrize("by", ["hardlink", "symlink", "copy"])
def test_sorting_undoing_and_sorting_again_make_the_same(pictures: Pictures, tmp_path: Path, by: str) -> None:
    folder = tmp_path / "sorted"
    assert sort(pictures, folder, by, dry_run=True) == (3, 0)
    assert not folder.exists()
    assert sort(pictures, folder, by) == (3, 0)
    first = content(folder)
    assert first.keys() == {SORTED, "Doe, _J_/x.jpg", "Doe, _J_/X-2.JPG", f"{UNSORTED}/y.jpg"}
    assert (folder / "Doe, _J_/X-2.JPG").is_symlink() == (by == "symlink")
    assert os.path.samefile(folder / "Doe, _J_/X-2.JPG", pictures[1][0]) == (by != "copy")
    assert sort(pictures, folder, by) == (0, 3)
    undo_sort(folder / SORTED, dry_run=True)
    assert content(folder) == first
    undo_sort(folder / SORTED, dry_run=False)
    assert not folder.exists()
    assert sort(pictures, folder, by) == (3, 0)
    assert content(folder) == first


@pytest.mark.parametrize("by", ["hardlink", "symlink", "copy"])
def test_after_a_kill_anywhere_a_run_completes_and_makes_nothing_twice(
        pictures: Pictures, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sort(pictures, tmp_path / "whole", by)
    call = {"hardlink": "link", "symlink": "symlink", "copy": "replace"}[by]
    for survived in range(3):
        folder, calls = tmp_path / f"killed_{survived}", iter(range(survived))
        original = getattr(os, call)

        def killed(*paths: object, original: object = original, calls: Iterator[int] = calls) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt
            original(*paths)  # type: ignore[operator]  # one of os's functions

        with monkeypatch.context() as patch:
            patch.setattr(os, call, killed)
            with pytest.raises(KeyboardInterrupt):
                sort(pictures, folder, by)
        sort(pictures, folder, by)
        assert content(folder) == content(tmp_path / "whole")
        assert not [*folder.rglob(".*")]


def test_where_links_are_not_possible_there_are_copies_and_it_is_said(
        pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    outcome = sort_pictures(pictures, tmp_path / "sorted", SortOptions())
    assert [*outcome.lines(dry_run=False)] == [
        f"3 pictures sorted into {tmp_path / 'sorted'} (3 copied, as they cannot be linked here)"]
    assert len(content(tmp_path / "sorted")) == 4
    undo_sort(tmp_path / "sorted" / SORTED, dry_run=False)
    assert not (tmp_path / "sorted").exists()


def test_what_a_person_moved_changed_or_deleted_the_source_of_stays(pictures: Pictures, tmp_path: Path) -> None:
    folder = tmp_path / "sorted"
    spare = tmp_path / "spare.jpg"
    spare.write_bytes(b"spare")
    sort([*pictures, (spare, "D")], folder, "copy")
    (folder / "Else").mkdir()
    (folder / "Doe, _J_/x.jpg").rename(folder / "Else/x.jpg")
    (folder / f"{UNSORTED}/y.jpg").write_bytes(b"painted over")
    (folder / "mine.txt").write_text("mine")
    again = sort_pictures([*pictures, (spare, "D")], folder, SortOptions(sort_by="copy"))
    assert not again.done
    assert again.left == [(f"{UNSORTED}/y.jpg", "changed since it was sorted")]
    spare.unlink()
    outcome = undo_sort(folder / SORTED, dry_run=False)
    assert dict(outcome.left) == {"Doe, _J_/x.jpg": "moved to Else/x.jpg", f"{UNSORTED}/y.jpg": "changed since it was "
                                  "sorted", "D/spare.jpg": f"the last one: {spare} is gone"}
    assert content(folder).keys() == {SORTED, "Else/x.jpg", f"{UNSORTED}/y.jpg", "D/spare.jpg", "mine.txt"}
    assert [row.file for row in read_sorted(folder)] == [name for name, _ in outcome.left]


def test_pictures_that_came_since_are_added_and_other_answers_refused(pictures: Pictures, tmp_path: Path) -> None:
    folder = tmp_path / "sorted"
    assert sort(pictures[1:], folder) == (2, 0)
    assert sort(pictures, folder) == (1, 2)
    assert find_files(folder).keys() == {"X.JPG", "x-2.jpg", "y.jpg"}
    with pytest.raises(UserError, match=r"1 picture of which .* another artist"):
        sort([(pictures[0][0], "Else")], folder)
    with pytest.raises(UserError, match="way or content"):
        sort(pictures, folder, "copy")


def test_clashes_and_destinations_that_are_not_ours_are_refused(pictures: Pictures, tmp_path: Path) -> None:
    source = tmp_path / "source"
    with pytest.raises(UserError, match="one folder a_b for a:b and a"):
        sort([(pictures[0][0], "a?b"), (pictures[1][0], "a:b")], tmp_path / "sorted")
    assert not (tmp_path / "sorted").exists()
    for place in (source, source / "sorted", tmp_path):
        with pytest.raises(UserError, match="one inside the other or equal"):
            SortOptions(sort_into=place).check([source])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"mine\.txt in .*other, which no sorting made"):
        SortOptions(sort_into=tmp_path / "other").check([source])


@pytest.mark.parametrize("row", ["../x.jpg,/s,A,copy,0", "/A/x.jpg,/s,A,copy,0", "A/b/x.jpg,/s,A,copy,0",
                                 "A/..,/s,A,copy,0", "x.jpg,/s,A,copy,0", "A/x.jpg,/s,A,move,0", "A/x.jpg,s,A,copy,0"])
def test_a_list_that_names_files_elsewhere_removes_nothing(tmp_path: Path, row: str) -> None:
    (tmp_path / "sorted").mkdir()
    (tmp_path / "sorted" / SORTED).write_text(f"file,source,artist,method,digest\n{row}\n")
    (tmp_path / "x.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"sorted\.csv, line 2"):
        undo_sort(tmp_path / "sorted" / SORTED, dry_run=False)
    with pytest.raises(UserError, match="--undo-sort"):
        undo_sort(tmp_path / "x.jpg", dry_run=False)
    assert (tmp_path / "x.jpg").exists()


def test_a_link_in_place_of_an_artists_folder_is_not_followed(pictures: Pictures, tmp_path: Path) -> None:
    sort(pictures[:1], tmp_path / "sorted")
    (tmp_path / "sorted" / "Doe, _J_").rename(tmp_path / "real")
    (tmp_path / "sorted" / "Doe, _J_").symlink_to(tmp_path / "real")
    assert len(undo_sort(tmp_path / "sorted" / SORTED, dry_run=False).left) == 1
    assert (tmp_path / "real" / "x.jpg").exists()
