"""The grammar of weighted labels, and annotation files with every mistake that people make."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from data.multilabel.annotations import (
    Annotation,
    AnnotationRules,
    format_labels,
    parse_labels,
    read_annotations,
    write_annotations,
)
from utils import UserError

# ---- the grammar -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "labels"), [
    ("artist_A,artist_B", {"artist_A": 1, "artist_B": 1}),
    ("(re:zero:1.4),artist_C", {"re:zero": 1.4, "artist_C": 1}),
    ("a:0.6", {"a:0.6": 1}), (":)", {":)": 1}), ("(o)_(o)", {"(o)_(o)": 1}), ("user:2024", {"user:2024": 1}),
    ("()", {"()": 1}), ("(a)", {"(a)": 1}), ("(a:b)", {"(a:b)": 1}), ("(a:1.4", {"(a:1.4": 1}),
    ("(a:2)b", {"(a:2)b": 1}),
    ("(a:1_0)", {"(a:1_0)": 1}), ("(a:0x1)", {"(a:0x1)": 1}), ("(a:１)", {"(a:１)": 1}), ("（a:2）", {"（a:2）": 1}),
    ("((a:2):1)", {"(a:2)": 1}), ("((a:2):3)", {"(a:2)": 3}), ("(:):2)", {":)": 2}), ("((o)_(o):.5)", {"(o)_(o)": 0.5}),
    ("(a:2.)", {"a": 2}), ("(a:+2e-1)", {"a": 0.2}), ("( a b : 2 )", {"a b": 2}), ("((nan):1)", {"(nan)": 1}),
    ("  van Gogh (copy) ,齐白石", {"van Gogh (copy)": 1, "齐白石": 1}), ("Zoe\u0308,(Zoë:2)", {"Zoë": 3}),
    ("a,a", {"a": 2}), ("b,(a:0.5),(b:0.25)", {"b": 1.25, "a": 0.5}),
])
def test_every_text_has_one_meaning(text: str, labels: dict[str, float]) -> None:
    parsed = parse_labels(text)
    assert parsed == labels
    assert list(parsed) == list(labels)
    assert parse_labels(format_labels(parsed)) == parsed


@pytest.mark.parametrize(("labels", "text"), [
    ({"a": 1.0}, "a"), ({"a": 1.4, "b": 2.0}, "(a:1.4),(b:2)"), ({"(a:2)": 1.0}, "((a:2):1)"), ({":)": 1.0}, ":)"),
    ({"(a:nan)": 1.0}, "((a:nan):1)"), ({"(a:x)": 1.0}, "(a:x)"), ({"a": 1e22}, "(a:1e+22)")])
def test_the_shortest_text_is_written(labels: dict[str, float], text: str) -> None:
    assert format_labels(labels) == text


@pytest.mark.parametrize(("text", "found"), [
    ("", "an empty label"), ("  ", "an empty label"), ("a,,b", "an empty label"), ("a,", "an empty label"),
    ("(:2)", "an empty label"), ("( :2)", "an empty label"), ("(a:0)", "the weight 0 of '(a:0)'"),
    ("b,(a:-1)", "the weight -1 of"), ("(a:nan)", "the weight nan of"), ("(a:Inf)", "the weight inf of"),
    ("(a:-infinity)", "the weight -inf of"), ("(a:1e999)", "the weight inf of"), ("(a:1e-999)", "the weight 0 of"),
    ("(a:1e-40)", "the weight 1e-40 of"), ("a\nb", "holds a control character"),
    ("a\x00", "holds a control character")])
def test_what_means_nothing_is_refused(text: str, found: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_labels(text)
    assert found in caught.value.found


def test_a_delimiter_of_the_users_lets_labels_hold_commas() -> None:
    assert parse_labels("Bosch, Hieronymus;(Bruegel, Pieter:2)", ";") == {"Bosch, Hieronymus": 1, "Bruegel, Pieter": 2}
    assert parse_labels("a b\tc", "\t") == {"a b": 1, "c": 1}
    assert parse_labels("a|b||c", "||") == {"a|b": 1, "c": 1}


def test_a_label_that_holds_the_delimiter_cannot_be_written() -> None:
    with pytest.raises(UserError, match="'Bosch, Hieronymus', which holds the delimiter ','"):
        format_labels({"Bosch, Hieronymus": 1.0})
    with pytest.raises(UserError, match="holds the delimiter ';'"):
        parse_labels("a\u037eb", ";")  # the Greek question mark, which is a semicolon in NFC


@pytest.mark.parametrize("delimiter", ["", " ", "\n", "a", "3", ":", "(", ",)", ".", "-"])
def test_a_delimiter_that_weights_need_is_refused(delimiter: str) -> None:
    with pytest.raises(UserError, match="--label-delimiter"):
        parse_labels("a", delimiter)


# ---- Hypothesis ------------------------------------------------------------------------------------------------------

PIECES = st.lists(st.sampled_from(["(", ")", ":", ";", " ", "1.4", "0", "nan", "-", "e5", "a", "ë", "e\u0308", "齐",
                                   "'"]), max_size=8).map("".join)
WORDS = st.one_of(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8), PIECES)
WEIGHTED = st.tuples(WORDS, st.floats(1e-9, 1e9)).map(lambda pair: f"({pair[0]}:{pair[1]!r})")
TEXTS = st.tuples(st.sampled_from([",", ";", "|", "||", "\t", "、"]), st.lists(st.one_of(WORDS, WEIGHTED), max_size=4))
LABELS = st.dictionaries(WORDS.map(lambda text: unicodedata.normalize("NFC", text).strip()), st.floats(1e-30, 1e30),
                         max_size=3)


def parse_format_parse(pieces: tuple[str, list[str]]) -> None:
    delimiter, entries = pieces
    try:
        labels = parse_labels(delimiter.join(entries), delimiter)
    except UserError:
        reject()
    again = parse_labels(format_labels(labels, delimiter), delimiter)
    assert list(again.items()) == list(labels.items())


def format_parse(labels: dict[str, float]) -> None:
    try:
        text = format_labels(labels)
    except UserError:
        reject()
    assert not labels or list(parse_labels(text).items()) == list(labels.items())


test_parse_format_parse_is_parse = given(TEXTS)(parse_format_parse)
test_what_is_formatted_is_parsed = given(LABELS)(format_parse)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("strategy", "identity"), [(TEXTS, parse_format_parse), (LABELS, format_parse)])
def test_ten_thousand_cases(strategy: st.SearchStrategy, identity: Callable[..., None]) -> None:
    settings(max_examples=10_000, suppress_health_check=list(HealthCheck))(given(strategy)(identity))()


# ---- the files -------------------------------------------------------------------------------------------------------


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
    (b"x.png,(a:nan)\n", "weight nan"), (b"x.png,a,b\n", "3 cell(s)"), (b"x.png\n", "1 cell(s)"),
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


def test_what_was_written_is_read(tmp_path: Path) -> None:
    annotations = [Annotation('中, "文".png', {"a": 1.0, "(b:2)": 1.0}), Annotation("x.png", {"re:zero": 1.4})]
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
