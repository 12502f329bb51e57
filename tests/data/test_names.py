"""Names that every system and file can hold."""

from __future__ import annotations

import pytest

from data.names import folder_name_problem, line_problem


@pytest.mark.parametrize("name", ["Anna", "中文 画家", "O'Keeffe (2)", "Dr. Who", "COM10", "consul", "a.b"])
def test_names_that_every_system_takes(name: str) -> None:
    assert folder_name_problem(name) is None


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a:b", "who?", "a*", "a|b", "<a>", 'a"b', "a\tb", "end.", "end ", ".a",
                                  "..", "NUL", "con.txt", "Lpt1", "\udce9"])
def test_names_that_windows_or_a_csv_cannot_take(name: str) -> None:
    assert folder_name_problem(name)


@pytest.mark.parametrize(("text", "fits"), [("中文 画家 👩‍🎨", True), ("", True), ("a\tb", False), ("a\nb", False),
                                            ("a\u2028b", False), ("\udce9", False)])
def test_what_one_line_can_hold(text: str, fits: bool) -> None:
    assert (line_problem(text) is None) is fits


@pytest.mark.parametrize(("name", "fits"), [("a/中 文.png", True), ("a/\u200dx.png", True), ("a/\u3000.png", True),
                                            ("a/tab\t.png", False), ("a/line\n.png", False), ("a/\udce9.png", False),
                                            ("a/\u2028.png", False)])
def test_names_that_no_line_of_a_text_file_can_hold(name: str, fits: bool) -> None:
    assert (line_problem(name) is None) == fits
