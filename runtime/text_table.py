"""Tables for terminals that stay in line with names in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

RULE: Sequence[object] = ()  # as a row: a line across the table


def format_table(rows: Sequence[Sequence[object]], *, width: int = 80) -> list[str]:
    """The lines of a table: first column to the left and shortened where needed, the others to the right.

    Args:
        rows: the cells of each row; the header is a row, and `RULE` a line.
        width: columns of the terminal that the table may take.
    """
    texts = [[str(cell) for cell in row] for row in rows]
    others = [max(columns(cell) for cell in column)
              for column in list(zip(*(row for row in texts if row), strict=True))[1:]]
    room = width - sum(2 + other for other in others)
    first = min(room, max(columns(row[0]) for row in texts if row))
    return ["-" * (first + width - room) if not row else
            "  ".join([_padded(row[0], first), *(" " * (wide - columns(cell)) + cell
                                                for cell, wide in zip(row[1:], others, strict=True))])
            for row in texts]


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes: two for a wide letter, as in 中文, none for a combining mark."""
    return sum(0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in ("W", "F"))
               for letter in text)


def _padded(text: str, width: int) -> str:
    if columns(text) > width:
        while columns(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - columns(text))
