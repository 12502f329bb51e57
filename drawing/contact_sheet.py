"""A PNG of judged pictures, each framed in the colour of its verdict, with what is said of it below."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from drawing.lettering import explanation, tail, typeset, wrapped, write
from drawing.plots import GREEN, INK, RED
from utils import atomic_path

SIDE, GAP, FRAME, BADGE, TEXT, TITLE, SMALL = 192, 16, 5, 26, 15, 22, 12  # px
LINE = TEXT + 5  # px from one line of text to the next
PAPER, MOUNT, GREY = "#ffffff", "#eef0f3", "#6b7280"
# Told apart by those who do not see red and green, too: dark blue-green and orange-red, and a mark in the corner.
VERDICTS = {True: (GREEN, "✓"), False: (RED, "✗"), None: (GREY, "")}
MEANINGS = {True: "✓ green: right", False: "✗ red: wrong", None: "grey: not judged, in no known artist's folder"}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a contact sheet.

    Args:
        image: any mode and size; it is shown whole.
        caption: the text below, one or more lines; a line that is too long becomes two, and is then cut with an
            ellipsis.
        file: its name, in small letters below that; of a long one the end.
        good: whether the prediction is right; None where the truth is not known.
    """

    image: Image.Image
    caption: str
    file: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Words:
    """A line of text: its pieces, each in a colour, and their size in px."""

    pieces: tuple[tuple[str, str], ...]
    size: int


def contact_sheet(entries: Sequence[Tile], path: str | os.PathLike[str], *, columns: int = 6, title: str = "") -> None:
    """Write a PNG with the pictures in reading order, framed green where right and red where wrong.

    Args:
        entries: the tiles; a few dozen make one sheet.
        path: the PNG to write.
        columns: tiles per row, ≥ 1; the sheet is at least two wide.
        title: above all, beside what the frames say.

    Raises:
        ValueError: there are no entries.
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(entries))
    width = GAP + max(2, columns) * (SIDE + GAP)
    head, foot = heading(entries, title, width - 2 * GAP), footnote(entries, width - 2 * GAP)
    captions = [lines_below(entry) for entry in entries]
    cell_height = SIDE + 6 + max(map(len, captions)) * LINE + GAP
    top = GAP + _height(head) + (GAP - 5 if head else 0)
    bottom = top + math.ceil(len(entries) / columns) * cell_height
    sheet = Image.new("RGB", (width, bottom + _height(foot) + (GAP if foot else 0)), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_words(draw, GAP, GAP, head)
    for number, (entry, caption) in enumerate(zip(entries, captions, strict=True)):
        row, column = divmod(number, columns)
        left, upper = GAP + column * (SIDE + GAP), top + row * cell_height
        _draw_picture(draw, sheet, entry, left, upper)
        _draw_words(draw, left, upper + SIDE + 6, caption, LINE)
    _draw_words(draw, GAP, bottom, foot)
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def heading(entries: Sequence[Tile], title: str, width: int) -> list[Words]:
    """The title, and what the colours of the frames mean: on one line where they fit."""
    lines = [Words(((line, INK),), TITLE) for line in wrapped(title, TITLE, width, 3)] if title else []
    shown = {entry.good for entry in entries}
    legend = [(meaning, VERDICTS[good][0]) for good, meaning in MEANINGS.items() if good in shown]
    one = tuple((f"{text}    ", colour) for text, colour in legend)
    if sum(typeset(text, TEXT)[0].getlength(text) for text, _ in one) <= width:
        return [*lines, Words(one, TEXT)]
    return [*lines, *(Words(((line, colour),), TEXT) for text, colour in legend
                      for line in wrapped(text, TEXT, width, 2))]


def footnote(entries: Sequence[Tile], width: int) -> list[Words]:
    """Why some letters are escapes; nothing where none are."""
    note = explanation(text for entry in entries for text in (*entry.caption.splitlines(), entry.file))
    return [Words(((line, GREY),), SMALL) for line in wrapped(note, SMALL, width, 3)] if note else []


def lines_below(entry: Tile) -> list[Words]:
    """The caption in lines as wide as the tile, the first in its verdict's colour, and the file's name."""
    colour = VERDICTS[entry.good][0]
    lines = [Words(((line, INK if number else colour),), TEXT)
             for number, text in enumerate(entry.caption.splitlines()) for line in wrapped(text, TEXT, SIDE, 2)]
    return [*lines, Words(((tail(entry.file, SMALL, SIDE), GREY),), SMALL)] if entry.file else lines


def _height(lines: Sequence[Words]) -> int:
    return sum(line.size + 5 for line in lines)


def _draw_words(draw: ImageDraw.ImageDraw, left: float, top: float, lines: Sequence[Words], step: int = 0) -> None:
    for line in lines:
        place = left
        for text, colour in line.pieces:
            write(draw, (place, top + line.size), text, line.size, colour)
            place += typeset(text, line.size)[0].getlength(text)
        top += step or line.size + 5


def _draw_picture(draw: ImageDraw.ImageDraw, sheet: Image.Image, entry: Tile, left: int, top: int) -> None:
    colour, mark = VERDICTS[entry.good]
    draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=MOUNT, outline=colour, width=FRAME)
    inside = SIDE - 2 * FRAME
    sheet.paste(ImageOps.pad(entry.image.convert("RGB"), (inside, inside), color=MOUNT), (left + FRAME, top + FRAME))
    if mark:
        draw.rectangle((left, top, left + BADGE, top + BADGE), fill=colour)
        font, _ = typeset(mark, TEXT + 3)
        draw.text((left + BADGE / 2, top + BADGE / 2), mark, fill=PAPER, font=font, anchor="mm")
