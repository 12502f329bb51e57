"""Work is announced, and its results pass through as they are."""

from __future__ import annotations

import pytest

from runtime.progress import announced


def test_off_a_terminal_a_line_says_what_is_done_to_how_many(capsys: pytest.CaptureFixture) -> None:
    assert list(announced("checking")(iter([3, 1, 2]), 3)) == [3, 1, 2]
    told = capsys.readouterr()
    assert (told.out, told.err) == ("checking 3 pictures\n", "")
