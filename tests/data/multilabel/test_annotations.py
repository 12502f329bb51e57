"""Annotation files with every mistake that people make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.multilabel.annotations import (
    Annotation,
    AnnotationRules,
    read_annotations,
    write_annotated_split,
    write_annotations,
)
from tests.kills import count_calls
from utils import UserError


def read(folder: Path, content: str | bytes, **rules: object) -> tuple[list[Annotation], list[str]]:
    path = folder / "annotations.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_annotations(path, AnnotationRules(root=folder, **rules))


HEADER = "image_path,labels\n"
DOCUMENTED = HEADER + 'mix_samples/img_001.jpg,"artist_A,artist_B"\nmix_samples/img_002.jpg,"(re:zero:1.4),artist_C"\n'


def test_the_documented_file_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, DOCUMENTED) == ([
        Annotation("mix_samples/img_001.jpg", {"artist_A": 1.0, "artist_B": 1.0}),
        Annotation("mix_samples/img_002.jpg", {"re:zero": 1.4, "artist_C": 1.0})], [])


@pytest.mark.parametrize("content", [
    b'\xef\xbb\xbfimage_path,labels\r\nx.png,"a,b"\r\n', b'labels ,"image_path"\n"a,b",x.png\n\n',
    b'id,image_path,note,labels\n7,x.png,"one\ntwo","a,b"\n', b'image_path,labels\nx.png," a,\nb "\n'])
def test_marks_line_ends_other_columns_and_blank_lines_change_nothing(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path, content) == ([Annotation("x.png", {"a": 1.0, "b": 1.0})], [])


BAD_ROWS = [
    (b"x.png,\n", "an empty label"), (b'x.png,"a,,b"\n', "an empty label"), (b"x.png,(a:0)\n", "weight 0"),
    (b"x.png,(a:nan)\n", "weight nan"), (b"x.png,a,b\n", "3 cells"), (b"x.png\n", "1 cell"),
    (b",a\n", "image_path ''"),
    (b"a\x01.png,a\n", "image_path 'a\\x01.png'"), (b"../x.png,a\n", "leaves"), (b"b/../../x.png,a\n", "leaves"),
    (b"good.png,a\n", "'good.png' of line 2 again"), (b"./sub/../good.png,b\n", "of line 2 again")]


@pytest.mark.parametrize(("row", "found"), BAD_ROWS)
def test_a_bad_row_is_told_with_file_and_line_or_left_out(tmp_path: Path, row: bytes, found: str) -> None:
    content = HEADER.encode() + b"good.png,a\n" + row + b"last.png,b\n"
    with pytest.raises(UserError) as caught:
        read(tmp_path, content)
    assert found in caught.value.found
    assert caught.value.found.endswith(f"in {tmp_path / 'annotations.csv'}, line 3")
    annotations, invalid = read(tmp_path, content, skip_invalid=True)
    assert [annotation.path for annotation in annotations] == ["good.png", "last.png"]
    assert invalid == [str(caught.value)]


@pytest.mark.parametrize(("content", "found"), [
    ("", "an empty file"), ("x.png,a\n", "the header"), ("image_path;labels\nx.png;a\n", "the header"),
    ("image_path,labels,labels\nx.png,a,b\n", "the header"), (HEADER, "no picture"),
    (HEADER + 'x.png,"a\n', "unexpected end"), (HEADER + "../x.png,a\n", "no picture")])
def test_a_file_that_is_none_is_refused_even_where_rows_may_be_skipped(tmp_path: Path, content: str,
                                                                       found: str) -> None:
    with pytest.raises(UserError, match=f"{found}.*annotations.csv, line"):
        read(tmp_path, content, skip_invalid=True)


def test_paths_may_leave_the_root_where_that_is_allowed(tmp_path: Path) -> None:
    content = HEADER + f"../x.png,a\n{tmp_path / 'y.png'},a\n..z/w.png,a\n"
    assert len(read(tmp_path, content, allow_outside=True)[0]) == 3
    absolute = HEADER + f"{tmp_path.parent / 'elsewhere.png'},a\n"
    assert len(read(tmp_path, absolute)[0]) == 1  # an absolute path says plainly where it leads


@pytest.mark.parametrize("root", [Path(), Path("sub"), Path("sub/..")])
def test_a_relative_root_is_left_by_two_dots_all_the_same(root: Path, tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(HEADER + "../x.png,a\n", encoding="utf-8")
    with pytest.raises(UserError, match="leaves"):
        read_annotations("a.csv", AnnotationRules(root=root))


@pytest.mark.parametrize(("row", "label_format", "labels"), [
    ("\"['a', 'b']\"", "json", {"a": 1.0, "b": 1.0}), ("1girl long_hair", "danbooru", {"1girl": 1.0, "long_hair": 1.0}),
    (r"a \(b\)", "danbooru", {"a": 1.0, "(b)": 1.0}), (r"a \(b\)", "csv", {r"a \(b\)": 1.0})])
def test_lists_and_tags_are_read_in_the_format_that_is_named(tmp_path: Path, row: str, label_format: str,
                                                             labels: dict[str, float]) -> None:
    content = HEADER + f"x.png,{row}\n"
    assert read(tmp_path, content, label_format=label_format) == ([Annotation("x.png", labels)], [])
    if row != "1girl long_hair":
        with pytest.raises(UserError, match=r"--label-format.*csv"):
            read(tmp_path, content)


def test_a_list_without_a_label_is_an_error_of_its_row(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"without a label.*line 2"):
        read(tmp_path, HEADER + "x.png,[]\n", label_format="json")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    annotations = [Annotation('中, "文".png', {"a": 1.0, "(b:2)": 1.0}), Annotation("x.png", {"re:zero": 1.4}),
                   Annotation("y.png", {"x_y z_w": 1.0}), Annotation("z.png", {"['a'": 1.0})]
    write_annotations(tmp_path / "written.csv", annotations, "|")
    rules = AnnotationRules(root=tmp_path, delimiter="|")
    assert read_annotations(tmp_path / "written.csv", rules) == (annotations, [])


FUZZ = st.lists(st.sampled_from([
    b"image_path", b"labels", b",", b"\n", b"\r\n", b'"', b"\x00", b"\xff", b"\xef\xbb\xbf", b"x.png", b"../", b"/",
    b"a", b"(a:2)", b"(", b":", b"nan)", b"\xe2\x80\xa8", b"\r", b"\\", "é".encode()]), max_size=30).map(b"".join)


def never_a_traceback(content: bytes, folder: Path) -> None:
    for skip_invalid in (False, True):
        try:
            annotations, invalid = read(folder, content, skip_invalid=skip_invalid)
        except UserError as error:
            annotations, invalid = [], [str(error)]
        assert all("annotations.csv, line " in line for line in invalid)
        if annotations:
            write_annotations(folder / "again.csv", annotations)
            again = read_annotations(folder / "again.csv", AnnotationRules(root=folder))
            assert again == (annotations, [])


HEADERS = st.sampled_from([b"", HEADER.encode(), b"labels,more,image_path\r\n"])
CONTENT = st.tuples(HEADERS, st.one_of(FUZZ, st.binary())).map(b"".join)


@given(content=CONTENT)
def test_a_fuzzed_file_gives_a_line_and_never_a_traceback(tmp_path_factory: pytest.TempPathFactory,
                                                          content: bytes) -> None:
    never_a_traceback(content, tmp_path_factory.mktemp("fuzz", numbered=True))


@pytest.mark.exhaustive
def test_ten_thousand_fuzzed_files(tmp_path: Path) -> None:
    settings(max_examples=10_000)(given(content=CONTENT)(lambda content: never_a_traceback(content, tmp_path)))()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_kill_leaves_no_sides_of_two_splits(tmp_path: Path) -> None:
    sides = [tmp_path / "train.csv", tmp_path / "val.csv"]
    states: list[list[str]] = []
    while len(states) < 3 or states[-1] != ["new", "new"]:
        write_annotated_split({path: [Annotation("old.png", {"a": 1.0})] for path in sides})
        if not os.fork():
            count_calls(("unlink", "replace"), len(states) + 1, lambda call: os._exit(9))
            write_annotated_split({path: [Annotation("new.png", {"a": 1.0})] for path in sides})
            os._exit(0)
        os.wait()
        states.append(["old" if "old" in path.read_text() else "new" for path in sides if path.exists()])
    assert all(len(set(state)) <= 1 for state in states)
    assert states[0] == ["old", "old"]
