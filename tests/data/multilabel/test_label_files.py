"""Pictures and text files of the same name become annotations; what has no label is named."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from data.multilabel.annotations import Annotation
from data.multilabel.grammar import LabelFormat, LabelGrammar
from data.multilabel.label_files import LabelledFolder, read_label_files
from utils import UserError


def make(folder: Path, files: dict[str, str | bytes | None]) -> Path:
    """Write files; pictures, which are None, are not opened here and stay empty."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else (content or "").encode())
    return folder


def read(folder: Path, *, recursive: bool = True, delimiter: str = ",", skip_invalid: bool = False,
         label_format: LabelFormat | None = None) -> LabelledFolder:
    return read_label_files(folder, recursive=recursive, skip_invalid=skip_invalid,
                            grammar=LabelGrammar(delimiter=delimiter, format=label_format))


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


@pytest.mark.parametrize(("files", "told", "left_out"), [
    (["a.jpg.txt", "a.txt", "a.caption"], ["passed over: a.txt (a.jpg.txt is read)",
                                           "passed over: a.caption (a.jpg.txt is read)"], {}),
    (["a.jpg.txt"], [], {}), (["a.caption"], [], {}), (["a.jpg.caption"], [], {}),
    (["a.txt", "b.png", "b.png.txt"], [], {}),
    (["a.txt", "a.png"], [], {}), (["a.jpg.txt", "a.png"], [], {"a.png": "no a.txt"})])
def test_every_customary_name_of_a_label_file_is_found(tmp_path: Path, files: list[str], told: list[str],
                                                       left_out: dict[str, str]) -> None:
    make(tmp_path, {"a.jpg": None, **{name: None if name.endswith("png") else name for name in files}})
    found = read(tmp_path)
    assert found.passed_over == told
    assert found.left_out == left_out
    assert found.annotations[0].labels == {files[0]: 1.0}


@pytest.mark.parametrize(("texts", "label_format", "labels"), [
    (['["a",\n "b"]\n', "['c']"], "json", [{"a": 1, "b": 1}, {"c": 1}]),
    (["1girl solo long_hair\n", "1girl smile a_b"], "danbooru", [{"1girl": 1, "solo": 1, "long_hair": 1},
                                                                 {"1girl": 1, "smile": 1, "a_b": 1}]),
    (["1girl solo x_y", "1girl, solo, z"], "danbooru", [{"1girl": 1, "solo": 1, "x_y": 1},
                                                        {"1girl": 1, "solo": 1, "z": 1}])])
def test_files_of_other_programs_are_read_by_name_and_refused_without(
        tmp_path: Path, texts: list[str], label_format: LabelFormat, labels: list[dict[str, float]]) -> None:
    make(tmp_path, {f"{number}.{ending}": text if ending == "txt" else None
                    for number, text in enumerate(texts) for ending in ("jpg", "txt")})
    found = read(tmp_path, label_format=label_format)
    assert [annotation.labels for annotation in found.annotations] == labels
    if "smile" not in texts[1]:
        with pytest.raises(UserError, match=f"--label-format {label_format}"):
            read(tmp_path)


def test_a_line_of_tags_among_files_of_labels_is_refused_or_skipped(tmp_path: Path) -> None:
    make(tmp_path, {f"{number}.jpg": None for number in range(3)} | {
        f"{number}.txt": "1girl\nsolo" for number in range(3)} | {"a.jpg": None, "a.txt": "solo 1girl"})
    with pytest.raises(UserError, match=r"'solo 1girl'.*a.txt, line 1.*--label-format danbooru"):
        read(tmp_path)
    found = read(tmp_path, skip_invalid=True)
    assert (len(found.annotations), len(found.invalid)) == (3, 1)
    assert {"solo 1girl": 1} in [annotation.labels for annotation in read(tmp_path, label_format="csv").annotations]


def test_weights_without_parentheses_are_noted_once(tmp_path: Path) -> None:
    found = read(make(tmp_path, {"a.jpg": None, "a.txt": "x:0.7", "b.jpg": None, "b.txt": "y:0.3,x:0.7"}))
    assert len([line for line in found.report() if "'x:0.7' and 1 more" in line]) == 1


def test_odd_signs_within_a_line_split_no_label(tmp_path: Path) -> None:
    make(tmp_path, {"a.jpg": None, "a.txt": "one\u2028two"})
    with pytest.raises(UserError, match="holds a control character"):
        read(tmp_path)
