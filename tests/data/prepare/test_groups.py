"""--group-by: a file, a column of a file, or a regular expression."""

from __future__ import annotations

from pathlib import Path

import pytest

from data.prepare.groups import check_group_names, read_groups
from utils import UserError

NAMES = ["Anna/book1/é.png", "Anna/book2/b.png", "Bob/book2/c.png", "Bob/loose.png"]


def test_a_file_has_the_groups_in_the_column_group_or_in_another(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_bytes("\ufeffgroup,path,series\r\n1,Anna/book1/e\u0301.png,x\r\n2,Bob/loose.png,\r\n"
                     "3,Elsewhere/a.png,y\r\n,Anna/book2/b.png,z\r\n".encode())
    assert read_groups(str(path), NAMES) == {"Anna/book1/é.png": "1", "Bob/loose.png": "2"}
    assert read_groups(f"{path}:series", NAMES) == {"Anna/book1/é.png": "x", "Anna/book2/b.png": "z"}


def test_the_colon_of_a_drive_is_part_of_the_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "C:groups.csv").write_text("path,group,book\nBob/loose.png,1,2\nBob/book2/c.png,1,2\n")
    assert set(read_groups("C:groups.csv", NAMES).values()) == {"1"}
    assert set(read_groups("C:groups.csv:book", NAMES).values()) == {"2"}


def test_an_expression_is_searched_in_the_path_and_may_have_colons() -> None:
    assert read_groups("(?:^|/)(book[0-9]+)/", NAMES) == dict(zip(NAMES, ["book1", "book2", "book2"], strict=False))
    assert read_groups("^([^/]+/[^/]+)/", NAMES)["Bob/book2/c.png"] == "Bob/book2"
    assert read_groups("book1/(.)[.]", ["A/book1/e\u0301.png", "A/b.png"]) == {"A/book1/e\u0301.png": "é"}


@pytest.mark.parametrize(("group_by", "complaint"), [
    ("book[0-9]", "with 0 groups"), ("(book)([0-9])", "with 2 groups"), ("(book", "no regular expression"),
    ("missing.csv", "which is no file"), (r"C:\data\missing.csv", "which is no file"),
    ("(volume[0-9])", "none of 4 pictures a group"), ("^(A|B)?", "none of"), ("[a-z](/)", "one group in the whole")])
def test_what_gives_no_groups_is_refused(group_by: str, complaint: str) -> None:
    names = NAMES if complaint != "none of" else ["Carl/a.png"]
    with pytest.raises(UserError) as error:
        read_groups(group_by, names)
    assert complaint in str(error.value)
    assert "--group-by" in str(error.value)


@pytest.mark.parametrize(("text", "complaint"), [
    ("picture,group\na,b\n", "the header"), ("path,path,group\na,b,c\n", "the header"),
    ("path,book\na,b\n", "the header"),
    ("path,group\na\n", "1 cell"), ("path,group\na,1\na,2\n", "'1' and '2' for a"), ("", "an empty file"),
    ("path,group\nAnna\\book1\\b.png,1\n", "none of 4 pictures a group"), ("path,group\n", "none of 4")])
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(UserError, match=r"found .*; expected") as error:
        read_groups(str(tmp_path / "groups.csv"), NAMES)
    assert complaint in str(error.value)


def test_a_group_that_no_picture_has_cannot_be_left_out() -> None:
    assert check_group_names(["e\u0301", "b"], {"1": "é", "2": "b"}) == ("é", "b")
    with pytest.raises(UserError, match="c, a group that no picture has"):
        check_group_names(["b", "c"], {"1": "b"})
