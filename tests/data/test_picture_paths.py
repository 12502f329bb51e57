"""Files, folders and lists of both become paths in the order given."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.picture_paths import find_pictures
from utils import UserError


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
    assert [path.as_posix() for path in find_pictures(inputs, recursive=recursive)] == expected


@pytest.mark.parametrize("content", ["sub\r\n\r\n画 家.webp\r\ngone.png", "\ufeffsub\n画 家.webp\ngone.png\n"])
def test_a_list_is_read_line_by_line_and_its_missing_files_stay(folder: Path, content: str) -> None:
    (folder / "list.txt").write_bytes(content.encode())
    found = find_pictures(["b.png", "@list.txt"], recursive=False)
    assert [path.as_posix() for path in found] == ["b.png", "sub/c.png", "画 家.webp", "gone.png"]


@pytest.mark.parametrize(("inputs", "found"), [
    (["gone.png"], "no gone.png"), (["@gone.txt"], "the list gone.txt"), (["empty"], "no picture in empty"),
    (["@utf16.txt"], "not UTF-8 in the list utf16.txt")])
def test_what_names_no_picture_is_told(folder: Path, inputs: list[str], found: str) -> None:
    (folder / "empty").mkdir()
    (folder / "utf16.txt").write_bytes("b.png".encode("utf-16"))
    with pytest.raises(UserError, match=found):
        find_pictures(inputs, recursive=True)
