"""Names that every system and file can hold."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.names import fit_file_name, folder_name, folder_name_problem, line_problem, nfc


@pytest.mark.parametrize("name", ["Anna", "中文 画家", "O'Keeffe (2)", "Dr. Who", "COM10", "consul", "a.b",
                                  "葛飾\u3000北斎", "a\u00a0b", "\u200dx", "نی\u200cما"])
def test_names_that_every_system_takes(name: str) -> None:
    assert folder_name_problem(name) is None


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a:b", "who?", "a*", "a|b", "<a>", 'a"b', "a\tb", "end.", "end ", ".a",
                                  "..", "NUL", "con.txt", "Lpt1", "\udce9", "a\u2028b"])
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


@given(name=st.text(st.characters(exclude_categories=[])))
def test_training_takes_every_folder_that_prepare_makes(name: str) -> None:
    assert folder_name_problem(name) or line_problem(name) is None


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems that refuse such names themselves")
@pytest.mark.parametrize("letter", ["a", "ë", "石", "👩", os.fsdecode(b"\xe9")])
def test_every_name_gets_a_file_and_long_ones_their_own(tmp_path: Path, letter: str) -> None:
    size = len(os.fsencode(letter))
    names = [fit_file_name(start, "_result.json", tmp_path)
             for start in (letter * (255 // size), letter * (255 // size - 1), letter * 3)]
    assert len(set(names)) == 3
    assert names[2] == f"{letter * 3}_result.json"
    for name in names:
        (tmp_path / f".{name}.partial").touch()  # the longest name that writing it needs
        assert name.endswith("_result.json")


@given(st.text())
@example("a/b:c. ")
@example("CON.x")
@example("画" * 200)
def test_any_text_gives_a_name_that_a_folder_can_have(text: str) -> None:
    name = folder_name(text, Path("/"))
    assert folder_name_problem(name) is None
    assert len(name.encode()) <= 255
    if text and folder_name_problem(text) is None and len(text.encode()) < 200:
        assert name == nfc(text)
