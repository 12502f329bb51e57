"""The grammar of weighted labels, and the formats of other programs: read where named, refused otherwise."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from data.multilabel.grammar import (
    LabelFormat,
    LabelGrammar,
    find_spaced_tags,
    format_labels,
    read_labels,
    weight_notes,
)
from tests.pictures import parse_labels
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
    ("a,a", {"a": 2}), ("a,", {"a": 1}), ("a, (b:2) , ", {"a": 1, "b": 2}),
    ("b,(a:0.5),(b:0.25)", {"b": 1.25, "a": 0.5}),
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
    ("", "an empty label"), ("  ", "an empty label"), ("a,,b", "an empty label"),
    (",", "an empty label"), ("a,,", "an empty label"), (",a", "an empty label"),
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


# ---- other programs' formats -----------------------------------------------------------------------------------------

FOREIGN = [
    ("['a', 'b']", "json"), ('["a", "b"]', "json"), ('[\n  "a",\n  "b"\n]', "json"), ("{'a': 0.5}", "json"),
    ("[]", "json"), ("['a' 'b']", "json"), (r"hatsune miku \(vocaloid\), solo", "danbooru"),
    (r"(miku \(vocaloid\):1.2)", "danbooru"), ("long_hair blue_eyes", "danbooru"), ("x_y  z_w ", "danbooru")]


@pytest.mark.parametrize(("text", "name"), FOREIGN)
def test_what_looks_like_another_format_is_refused_by_name(text: str, name: str) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(text, LabelGrammar())
    assert f"--label-format {name}" in caught.value.action
    assert "--label-format csv" in caught.value.action


@pytest.mark.parametrize("text", ["Vincent van Gogh", "[a]", "[best] artist", "it's", "'quoted'", "my_artist 2", "a\\b",
                                  "C:\\art", "(o)_(o)", "x_y z_w,", "(x_y z_w:1)", "x_y z_w, u_v", "{a}", "artist_A"])
def test_labels_of_the_grammar_are_not_suspected(text: str) -> None:
    assert read_labels(text, LabelGrammar()) == parse_labels(text)


@pytest.mark.parametrize(("text", "name", "labels"), [
    ("['a', 'b c']", "json", {"a": 1, "b c": 1}), ('["a", "O\'Keeffe, G."]', "json", {"a": 1, "O'Keeffe, G.": 1}),
    ("['a', \"O'Keeffe\",]", "json", {"a": 1, "O'Keeffe": 1}),
    ('{"re:zero": 1.4, "a": 2}', "json", {"re:zero": 1.4, "a": 2}),
    ('["(a:2)", "a"]', "json", {"a": 3}), ("[]", "json", {}), ("{}", "json", {}), ('["\\u9f50"]', "json", {"齐": 1}),
    ('{"(a:2)": 1}', "json", {"(a:2)": 1}),
    ("1girl solo long_hair", "danbooru", {"1girl": 1, "solo": 1, "long_hair": 1}),
    (r"hatsune_miku_\(vocaloid\) (o)_(o)", "danbooru", {"hatsune_miku_(vocaloid)": 1, "(o)_(o)": 1}),
    (r"1girl, hatsune miku \(vocaloid\), ", "danbooru", {"1girl": 1, "hatsune miku (vocaloid)": 1}),
    (r"(miku_\(vocaloid\):1.2) re:zero", "danbooru", {"miku_(vocaloid)": 1.2, "re:zero": 1}),
    ("['a'", "csv", {"['a'": 1}), (r"a \(b\)", "csv", {r"a \(b\)": 1}), ("x_y z_w", "csv", {"x_y z_w": 1})])
def test_a_named_format_is_read(text: str, name: LabelFormat, labels: dict[str, float]) -> None:
    delimiter = ";" if "Keeffe, " in text else ","
    assert read_labels(text, LabelGrammar(format=name, delimiter=delimiter)) == labels


@pytest.mark.parametrize("text", [
    "['a' 'b']", "a,b", "['a', 'b'", '["a", 1]', '{"a": "b"}', '{"a": NaN}', "[" * 100_000,
    '["a"', '{"a": 1, "a": 2}', "null", "'a'", "['\\x']", '[["a"]]', '{"a": true}',
    "[" + " " * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_no_list_is_refused_as_such(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_labels(text, LabelGrammar(format="json"))
    assert "JSON" in caught.value.expected
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(("text", "name"), [('["a,b"]', "json"), ('["a\\nb"]', "json"), ('[""]', "json"),
                                            ('{"a": 0}', "json"), ("(a:0) b", "danbooru"), (" ", "danbooru")])
def test_what_can_be_no_label_is_refused_in_every_format(text: str, name: LabelFormat) -> None:
    with pytest.raises(UserError):
        read_labels(text, LabelGrammar(format=name))


@pytest.mark.parametrize(("text", "name", "labels"), [
    (r"hatsune miku \(vocaloid\), long_hair", None, {"hatsune_miku_(vocaloid)": 1, "long_hair": 1}),
    ("long hair, long_hair, ^_^", None, {"long_hair": 2, "^_^": 1}), (r"(a \: b:2)", "csv", {"a_:_b": 2}),
    ('["long  hair"]', "json", {"long_hair": 1})])
def test_the_normal_form_of_tags_has_underscores_and_no_escapes(text: str, name: LabelFormat | None,
                                                                labels: dict[str, float]) -> None:
    assert read_labels(text, LabelGrammar(format=name, normalize=True)) == labels


@pytest.mark.parametrize(("files", "found"), [
    ([["1girl solo"], ["1girl, solo"], ["solo, 1girl"], ["1girl, b"]], set()),  # solo: in 2 of 3, 1girl: in 3
    ([["1girl solo long_hair"], ["1girl solo blue_eyes"], ["1girl solo"], ["solo 1girl a_b"]], None),
    ([["Vincent van Gogh"], ["Theo van Gogh"], ["Vincent van Gogh"], ["Vincent van Gogh"]], set()),
    ([["van Gogh"], ["Vincent van Gogh"], ["Theo van Gogh"], ["Jan van Gogh"]], set()),
    ([["Vincent van Gogh"]] * 4, set()), ([["my_artist 2"], ["Anna"], ["my_artist 2"]], set()), ([], set())])
def test_words_that_are_labels_elsewhere_make_a_line_of_tags(files: list[list[str]], found: set[str] | None) -> None:
    lines = {line for file in files for line in file}
    expected = {"1girl solo"} if files and files[0] == ["1girl solo"] else lines if found is None else found
    assert find_spaced_tags(files, ",") == expected


def test_a_bare_number_behind_a_colon_is_noted_once() -> None:
    assert weight_notes(["re:zero", "user:2024", ":)", "12:30"]) == []
    note, = weight_notes(["a:0.7", "b", "c:1.25", "a:0.7"])
    assert "'a:0.7' and 1 more" in note
    assert "(a:0.7)" in note


LISTS = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1).map(
    lambda text: unicodedata.normalize("NFC", text.strip())).filter(
    lambda text: text and "\t" not in text and parse_labels(f"(({text}):1)", "\t")), unique=True)


@given(labels=LISTS)
def test_lists_of_json_and_python_hold_any_label(labels: list[str]) -> None:
    entries = [f"({label}:1)" for label in labels]
    for text in (json.dumps(entries), json.dumps(entries, ensure_ascii=False), repr(entries)):
        assert list(read_labels(text, LabelGrammar(format="json", delimiter="\t"))) == labels


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
