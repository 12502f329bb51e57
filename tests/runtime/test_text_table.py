"""Tables stay in line and within the terminal, whatever the script of the names."""

from __future__ import annotations

import pytest

from runtime.text_table import RULE, columns, format_table


@pytest.mark.parametrize(("text", "wide"), [("abc", 3), ("中文", 4), ("Zoe\u0308", 3), ("ｱ", 1), ("Ａ", 2), ("", 0)])
def test_columns_of_a_terminal(text: str, wide: int) -> None:
    assert columns(text) == wide


def test_columns_are_aligned() -> None:
    assert format_table([("artist", "train"), RULE, ("Anna", 5), ("葛飾", 123456)]) == [
        "artist   train", "--------------", "Anna         5", "葛飾    123456"]


def test_long_names_are_shortened_to_the_width() -> None:
    lines = format_table([("artist", "n"), RULE, ("x" * 200, 12), ("画" * 200, 3)], width=30)
    assert {columns(line) for line in lines} <= {29, 30}
    assert lines[2] == "x" * 25 + "…" + "  12"
    assert lines[3].startswith("画" * 12 + "…")
