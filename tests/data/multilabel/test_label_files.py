"""Pictures and text files of the same name become annotations; what has no label is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from data.multilabel.annotations import Annotation
from data.multilabel.label_files import LabelledFolder, read_label_files
from utils import UserError


def make(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    """Write files; pictures, which are None, are not opened here and stay empty."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else (content or "").encode())
    return folder


def read(folder: Path, *, recursive: bool = True, delimiter: str = ",", skip_invalid: bool = False) -> LabelledFolder:
    return read_label_files(folder, recursive=recursive, delimiter=delimiter, skip_invalid=skip_invalid)


def test_lines_and_delimiters_part_labels_and_spaces_do_not(tmp_path: Path) -> None:
    found = read(make(tmp_path, {
        "a.jpg": None, "a.txt": "van Gogh (copy)\r\n\r\n  (re:zero:1.4)  \r\n", "b.png": None,
        "b.txt": b"\xef\xbb\xbf\xe9\xbd\x90 \xe7\x99\xbd,x y\nx y\n", "sub/c.png": None, "sub/c.txt": "z",
        "notes.txt": "n"}))
    assert found.annotations == [Annotation("a.jpg", {"van Gogh (copy)": 1.0, "re:zero": 1.4}),
                                 Annotation("b.png", {"齐 白": 1.0, "x y": 2.0}), Annotation("sub/c.png", {"z": 1.0})]
    assert not found.left_out
    assert not found.invalid


def test_sub_folders_and_the_delimiter_are_the_users_choice(tmp_path: Path) -> None:
    make(tmp_path, {"a.jpg": None, "a.txt": "Bosch, H|x", "sub/c.png": None, "sub/c.txt": "z"})
    assert read(tmp_path, recursive=False, delimiter="|").annotations == [
        Annotation("a.jpg", {"Bosch, H": 1.0, "x": 1.0})]


def test_pictures_without_a_label_are_named_with_the_reason(tmp_path: Path) -> None:
    found = read(make(tmp_path, {"a.jpg": None, "a.txt": "x", "b.jpg": None, "c.jpg": None, "c.txt": " \n\n"}))
    assert found.left_out == {"b.jpg": "no b.txt", "c.jpg": "c.txt is empty"}


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems that refuse such names themselves")
def test_a_picture_whose_name_no_csv_can_hold_is_named(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    found = read(make(tmp_path, {"a.jpg": None, "a.txt": "x", f"{odd}.jpg": None, f"{odd}.txt": "x"}))
    assert [annotation.path for annotation in found.annotations] == ["a.jpg"]
    assert list(found.left_out) == [f"{odd}.jpg"]


@pytest.mark.parametrize(("content", "found"), [
    ("x\n\n(y:0)\n", "the weight 0 of '(y:0)' in {path}, line 3"), ("x,,y", "an empty label in {path}, line 1"),
    (b"Zo\xeb", "not UTF-8 in {path}")])
def test_a_label_file_with_an_error_is_refused_or_skipped(tmp_path: Path, content: str | bytes, found: str) -> None:
    make(tmp_path, {"a.jpg": None, "a.txt": "x", "b.jpg": None, "b.txt": content})
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert found.format(path=tmp_path / "b.txt") in caught.value.found
    skipped = read(tmp_path, skip_invalid=True)
    assert [annotation.path for annotation in skipped.annotations] == ["a.jpg"]
    assert skipped.invalid == [str(caught.value)]


@pytest.mark.parametrize("files", [{}, {"a.jpg": None}, {"sub/a.jpg": None, "sub/a.txt": "x"}])
def test_a_folder_without_labels_is_refused(tmp_path: Path, files: dict[str, str | None]) -> None:
    with pytest.raises(UserError, match="no picture with a label"):
        read(make(tmp_path, files), recursive=False)


def test_paths_are_relative_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "mix", {"sub/a.jpg": None, "sub/a.txt": "x"})
    monkeypatch.chdir(tmp_path)
    found = read(Path("mix"))
    assert found.with_paths(found.annotations, relative=True)[0].path == "sub/a.jpg"
    assert found.with_paths(found.annotations, relative=False)[0].path == (tmp_path / "mix/sub/a.jpg").as_posix()
