"""Tables for terminals that stay in line with names in any script."""

from __future__ import annotations

import itertools
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


def shortened(text: str, width: int) -> str:
    """`text`, or its beginning and … where it takes more than so many columns."""
    if columns(text) <= width:
        return text
    return text[:sum(wide < width for wide in itertools.accumulate(map(columns, text)))] + "…"


def fold(start: str, items: Sequence[str], *, width: int = 80, most: int = 4) -> list[str]:
    """Lines with `start` and `items`, commas between them; of what is too long for `most` lines, how many more.

    Args:
        start: of the first line.
        items: each of at most half a line.
        width: columns of a line.
        most: lines.
    """
    lines = [start]
    for number, item in enumerate(items):
        is_last = number == len(items) - 1
        more = f" and {len(items) - number} more"
        piece = f" {item}" if is_last else f" {item},"
        if columns(lines[-1] + piece + more * (len(lines) == most and not is_last)) > width:
            if len(lines) == most:
                return [*lines[:-1], lines[-1] + more]
            lines.append(" ")
        lines[-1] += piece
    return lines


def _padded(text: str, width: int) -> str:
    text = shortened(text, width)
    return text + " " * (width - columns(text))
