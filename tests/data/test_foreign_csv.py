"""CSV files as spreadsheets and other programs write them: read by the names of their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.class_mapping import read_class_mapping
from data.csv_files import read_table
from utils import UserError


@pytest.mark.parametrize("content", [
    "class_name,class_id\nAnna,0\nBob,1\n", ",class_id,class_name\n0,0,Anna\n1,1,Bob\n",
    "class_id, class_name ,count,notes\n1,Bob,12,\n0,Anna,3,\"old, new\"\n",
    "class_id,class_name\n 0 ,Anna\n1,Bob\n,\n ,\n",
    "\ufeffimages,class_name,class_id\r\n7,Anna,0\r\n9,Bob,1\r\n\r\n"], ids=range(5))
def test_a_mapping_is_read_by_the_names_of_its_columns(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.csv").write_bytes(content.encode())
    assert read_class_mapping(tmp_path / "m.csv") == ["Anna", "Bob"]


@pytest.mark.parametrize(("content", "told"), [
    ("class_id,name\n0,Anna\n", "the header 'class_id,name' in {path}, line 1; expected the columns class_id,class_na"),
    ("class_id,class_name,class_name\n0,Anna,A\n", "each once"),
    ("id,class_id,class_name\n0,0,\n", "'' in {path}, line 2"),
    ("id,class_id,class_name\n5,0,Anna\n6,2,Bob\n", "class_id 2 but no class_id 1 in {path}, line 3"),
    ("class_name,class_id\nAnna,0.0\n", "'0.0'"), ("a,class_id,class_name\n0,Anna\n", "2 cells in {path}, line 2"),
    ("class_name,class_id\nAnna,0\nBob,\n", "the class_id '' in {path}, line 3")])
def test_what_is_odd_in_a_mapping_is_told_in_one_line(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_class_mapping(path)
    assert told.format(path=path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,b,a\n1,2,3\n,,\n4,5,6\n")
    assert list(read_table(tmp_path / "t.csv", ["a", "b"])) == [(2, ["3", "2"]), (4, ["6", "5"])]
