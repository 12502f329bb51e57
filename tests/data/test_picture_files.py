"""Which files below a folder are pictures, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.picture_files import expand_inputs, list_images
from utils import UserError

# ---- list_images -----------------------------------------------------------------------------------------------------


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, **options: object) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder, **options)]


def test_pictures_are_listed_by_relative_path_whatever_their_case_or_script(tmp_path: Path) -> None:
    touch(tmp_path, "b.JPG", "a/z.png", "a.png", "中文/图.webp", "a b/c d.Jpeg", "a/é.gif", "notes.txt", "B.bmp")
    assert names(tmp_path) == ["B.bmp", "a b/c d.Jpeg", "a.png", "a/z.png", "a/é.gif", "b.JPG", "中文/图.webp"]
    assert names(tmp_path, recursive=False) == ["B.bmp", "a.png", "b.JPG"]
    assert names(tmp_path, extensions={".png"}) == ["a.png", "a/z.png"]


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.png", ".git/a.png", "a.png", "b/._a.png")
    assert names(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_linked_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.png")
    touch(tmp_path / "root", "b.png")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "root")
    assert names(tmp_path / "root") == ["b.png", "link/a.png"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none_is_told(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=kind):
        list_images(tmp_path / kind)


# ---- expand_inputs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.png", "画 家.webp"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(("inputs", "recursive", "expected"), [
    (["b.png", "a.JPG", "b.png"], False, ["b.png", "a.JPG", "b.png"]), (["."], False, ["a.JPG", "b.png", "画 家.webp"]),
    (["sub", "."], True, ["sub/c.png", "a.JPG", "b.png", "sub/c.png", "画 家.webp"]),
    (["notes.txt"], False, ["notes.txt"])])
def test_inputs_keep_their_order_and_folders_stand_for_their_pictures(folder: Path, inputs: list[str], recursive: bool,
                                                                      expected: list[str]) -> None:
    assert [path.as_posix() for path in expand_inputs(inputs, recursive=recursive)] == expected


@pytest.mark.parametrize("content", ["sub\r\n\r\n画 家.webp\r\ngone.png", "\ufeffsub\n画 家.webp\ngone.png\n"])
def test_a_list_is_read_line_by_line_and_its_missing_files_stay(folder: Path, content: str) -> None:
    (folder / "list.txt").write_bytes(content.encode())
    found = expand_inputs(["b.png", "@list.txt"], recursive=False)
    assert [path.as_posix() for path in found] == ["b.png", "sub/c.png", "画 家.webp", "gone.png"]


@pytest.mark.parametrize(("inputs", "found"), [
    (["gone.png"], "no gone.png"), (["@gone.txt"], "the list gone.txt"), (["empty"], "no picture in empty"),
    (["@utf16.txt"], "not UTF-8 in the list utf16.txt")])
def test_what_names_no_picture_is_told(folder: Path, inputs: list[str], found: str) -> None:
    (folder / "empty").mkdir()
    (folder / "utf16.txt").write_bytes("b.png".encode("utf-16"))
    with pytest.raises(UserError, match=found):
        expand_inputs(inputs, recursive=True)
