"""File names of any bytes: one text for all result files, which finds the file again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.names import as_text, from_text, line_problem, named_file
from data.picture_files import expand_inputs, find_pictures

SIGNS = st.one_of(st.characters(exclude_categories=[]), st.sampled_from(["\\", "u", "0", "a", "d", "5", "c", "\n"]))


@given(st.text(SIGNS))
def test_every_name_has_a_text_of_one_line_that_leads_back(name: str) -> None:
    text = as_text(name)
    assert from_text(text) == name
    assert line_problem(text) is None
    assert not text.startswith("\ufeff")


def test_usual_names_are_their_own_text() -> None:
    for name in ("Anna/中文 👩‍🎨\u3000.png", "a\\b.png", "a\\u0041.png", "\u00a0"):
        assert as_text(name) == name
    assert as_text("a\n" + os.fsdecode(b"\xe9") + "\\u000a") == "a\\u000a\\udce9\\u005cu000a"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems that refuse such names themselves")
def test_lists_and_reports_write_names_on_one_line(tmp_path: Path) -> None:
    names = ["new\nline.png", os.fsdecode(b"caf\xe9.png"), "plain.png", "\\u000a.png"]
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / name).with_suffix(".txt").touch()
    (tmp_path / "list").write_text("".join(f"{tmp_path / as_text(name)}\n" for name in names))
    listed = expand_inputs([f"@{tmp_path / 'list'}"], recursive=False).images
    assert listed == [named_file(tmp_path, as_text(name)) for name in names] == [tmp_path / name for name in names]
    report = find_pictures(tmp_path).report()
    assert [line_problem(line) for line in report] == [None] * len(report)
    assert any("new\\u000aline.txt" in line for line in report)
