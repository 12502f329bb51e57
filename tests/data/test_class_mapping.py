"""class_mapping.csv: what is read back, and what is refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.class_mapping import first_difference, read_class_mapping, write_class_mapping
from utils import UserError

NAMES = ["Anna", "Bosch, Hieronymus", 'the "great" one', "中文 画家", "日本語", "line\nbreak", " spaces ", "Zoë"]


def test_an_id_of_many_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(f"class_id,class_name\n{'9' * 5000},a\n")
    with pytest.raises(UserError, match="a whole number from 0"):
        read_class_mapping(tmp_path / "m.csv")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_class_mapping(tmp_path / "class_mapping.csv", NAMES)
    assert read_class_mapping(tmp_path / "class_mapping.csv") == NAMES


# Control characters cannot be in an artist's name; Python's csv module loses a lone carriage return.
@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, unique=True))
def test_any_names_survive(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("mapping") / "class_mapping.csv"
    write_class_mapping(path, names)
    assert read_class_mapping(path) == names


def test_the_file_is_the_documented_one(tmp_path: Path) -> None:
    write_class_mapping(tmp_path / "class_mapping.csv", ["Anna", "中"])
    assert (tmp_path / "class_mapping.csv").read_bytes() == "class_id,class_name\n0,Anna\n1,中\n".encode()


@pytest.mark.parametrize("content", [
    b"\xef\xbb\xbfclass_id,class_name\r\n0,Anna\r\n1,Bob\r\n", b"class_id,class_name\n1,Bob\n\n0,Anna\n\n",
    b'"class_id","class_name"\n"0","Anna"\n"1","Bob"'])
def test_a_byte_order_mark_crlf_blank_lines_and_any_order_are_accepted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    assert read_class_mapping(tmp_path / "m.csv") == ["Anna", "Bob"]


@pytest.mark.parametrize(("content", "line", "complaint"), [
    (b"", 1, "empty file"), (b"class_id,class_name\n", 2, "no class"), (b"0,Anna\n", 1, "header"),
    (b"class_id;class_name\n0;Anna\n", 1, "header"), (b"class_id,class_name\n0,Anna\nx,Bob\n", 3, "'x'"),
    (b"class_id,class_name\n-1,Anna\n", 2, "'-1'"), (b"class_id,class_name\n0,Anna\n0,Bob\n", 3, "'0'"),
    (b"class_id,class_name\n0,Anna\n2,Bob\n", 3, "no class_id 1"), (b"class_id,class_name\n0,Anna\n1,\n", 3, "''"),
    (b"class_id,class_name\n0,Anna\n1,Anna\n", 3, "'Anna' of line 2"),
    (b"class_id,class_name\n0,Anna\n1\n", 3, "1 cell"), (b"class_id,class_name\n0,Bosch, H\n", 2, "3 cell"),
    (b"class_id,class_name\n0,Zo\xeb\n", 2, "not UTF-8"),
    ("class_id,class_name\n0,A\n".encode("utf-16"), 1, "not UTF-8"),
    (b'class_id,class_name\n0,"Anna\n', 2, "unexpected end")])
def test_every_malformation_names_file_and_line(tmp_path: Path, content: bytes, line: int, complaint: str) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_class_mapping(path)
    assert f"{path}, line {line};" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"m\.csv: No such file"):
        read_class_mapping(tmp_path / "m.csv")


@pytest.mark.parametrize(("found", "expected", "phrase"), [
    (["A", "B"], ["A", "B"], None), (["A", "X", "Y"], ["A", "B", "C"], "class 1 is 'X' where 'B' is expected"),
    (["A"], ["A", "B"], "class 1 is missing where 'B' is expected"),
    (["A", "B"], ["A"], "class 1 is 'B' where no such class is expected")])
def test_the_first_difference_is_named(found: list[str], expected: list[str], phrase: str | None) -> None:
    assert first_difference(found, expected) == phrase
