"""Rows with their line numbers, whichever program wrote the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.csv_files import read_rows, read_table_at, write_rows
from utils import UserError


@pytest.mark.parametrize("content", [b"a,b\n1,2\n", b"\xef\xbb\xbfa,b\r\n1,2\r\n", b'"a","b"\n\n"1","2"'])
def test_marks_line_ends_blank_lines_and_quotes_change_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(content)
    assert [row for _, row in read_rows(tmp_path / "t.csv", ["a", "b"])] == [["a", "b"], ["1", "2"]]


def test_line_numbers_are_those_of_an_editor(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'a\n\n"two\nlines"\nlast\n')
    assert list(read_rows(tmp_path / "t.csv", ["a"])) == [(1, ["a"]), (4, ["two\nlines"]), (5, ["last"])]


@given(st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), st.integers())))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_rows(path, [("name", "number"), *rows])
    assert b"\r" not in path.read_bytes()
    assert [(name, int(number)) for _, (name, number) in list(read_rows(path, ["name", "number"]))[1:]] == rows


@pytest.mark.parametrize("cell", ["one\rtwo", "one\ntwo", "one\r\ntwo", "\r", "end\r\n", '"\r',
                                  "a\u2028b\x85c\x0bd\x1ce"])
def test_no_cell_of_odd_signs_shifts_rows(tmp_path: Path, cell: str) -> None:
    write_rows(tmp_path / "t.csv", [("a", "b"), (cell, "1"), ("last", cell)])
    assert [row for _, row in read_rows(tmp_path / "t.csv", ["a", "b"])] == [["a", "b"], [cell, "1"], ["last", cell]]


@pytest.mark.parametrize(("content", "told"), [
    (b"", "an empty file in {path}, line 1; expected a,b"), (b"a,b\nZo\xeb,1\n", "not UTF-8 in {path}, line 2"),
    (b'a,b\n"1,2\n', "unexpected end of data in {path}, line 2"), (None, "{path}: No such file")])
def test_what_is_no_such_file_is_told(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        list(read_rows(path, ["a", "b"]))
    assert told.format(path=path) in str(caught.value)


def test_rows_of_a_large_file_are_read_by_number(tmp_path: Path) -> None:
    path, rows = tmp_path / "t.csv", [["a", "b"], ['x, "y"', "1"], ["", "2"], ["北", "3"]]
    write_rows(path, rows)
    assert read_table_at(path, ("b", "a"), [2, 0]) == [["3", "北"], ["1", 'x, "y"']]
    assert read_table_at(path, ("b",), []) == []
    for numbers in ([3], [-1]):
        with pytest.raises(UserError, match="fewer rows in"):
            read_table_at(path, ("a",), numbers)
    write_rows(path, [["a", "b"], ["x\ny", "1"]])
    with pytest.raises(UserError, match="rows of another form"):
        read_table_at(path, ("b",), [0])
    with pytest.raises(UserError, match="No such file"):
        read_table_at(tmp_path / "none.csv", ("a",), [0])
