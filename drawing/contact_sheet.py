"""A PNG of pictures with predictions: each framed in the colour of its verdict, with a caption below."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageOps

from drawing.lettering import draw_text, escape_note, keep_end, typeset, wrap
from drawing.palette import GREEN, INK, MOUNT, PAPER, RED, SLATE
from utils import atomic_path

SIDE, GAP, FRAME, BADGE, TEXT, TITLE, SMALL = 192, 16, 5, 26, 15, 22, 12  # px
LINE = TEXT + 5  # px from one line of text to the next
# Both colours and a mark in the corner also serve those who do not tell red from green.
VERDICTS = {True: (GREEN, "✓"), False: (RED, "✗"), None: (SLATE, "")}
MEANINGS = {True: "✓ green: right", False: "✗ red: wrong", None: "grey: not judged, in no known artist's folder"}


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a contact sheet.

    Attributes:
        image: any mode and size; it is shown whole.
        caption: the text below, one or more lines; each takes at most two lines of the sheet, then an ellipsis.
        file: its name, in small letters below the caption; of a long one the end.
        good: whether the prediction is right; None where the truth is unknown.
    """

    image: Image.Image
    caption: str
    file: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class TextLine:
    """A line of text: pieces, each a text and its colour, and their size in px."""

    pieces: tuple[tuple[str, str], ...]
    size: int


def contact_sheet(tiles: Sequence[Tile], path: str | os.PathLike[str], *, columns: int = 6, title: str = "") -> None:
    """Write a PNG with the pictures in reading order, framed green where right and red where wrong.

    Args:
        tiles: a few dozen make one sheet.
        path: the PNG to write.
        columns: tiles per row, ≥ 1; the sheet is at least two wide.
        title: above the pictures, beside the meaning of the colours.

    Raises:
        ValueError: there are no tiles.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(tiles))
    width = GAP + max(2, columns) * (SIDE + GAP)
    head, foot = heading(tiles, title, width - 2 * GAP), footnote(tiles, width - 2 * GAP)
    captions = [caption_lines(tile) for tile in tiles]
    cell_height = SIDE + 6 + max(map(len, captions)) * LINE + GAP
    top = GAP + _height(head) + (GAP - 5 if head else 0)
    bottom = top + math.ceil(len(tiles) / columns) * cell_height
    sheet = Image.new("RGB", (width, bottom + _height(foot) + (GAP if foot else 0)), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_lines(draw, GAP, GAP, head)
    for number, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
        row, column = divmod(number, columns)
        left, upper = GAP + column * (SIDE + GAP), top + row * cell_height
        _draw_picture(draw, sheet, tile, left, upper)
        _draw_lines(draw, left, upper + SIDE + 6, caption, LINE)
    _draw_lines(draw, GAP, bottom, foot)
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def heading(tiles: Sequence[Tile], title: str, width: int) -> list[TextLine]:
    """The title, and the meanings of the frames' colours, on one line where they fit."""
    lines = _wrapped(title, INK, TITLE, width, 3) if title else []
    shown = {tile.good for tile in tiles}
    legend = [(meaning, VERDICTS[good][0]) for good, meaning in MEANINGS.items() if good in shown]
    pieces = tuple((f"{text}    ", colour) for text, colour in legend)
    if sum(typeset(text, TEXT)[0].getlength(text) for text, _ in pieces) <= width:
        return [*lines, TextLine(pieces, TEXT)]
    return [*lines, *(line for text, colour in legend for line in _wrapped(text, colour, TEXT, width, 2))]


def footnote(tiles: Sequence[Tile], width: int) -> list[TextLine]:
    """What escapes stand for; nothing where there are none."""
    note = escape_note(text for tile in tiles for text in (*tile.caption.split("\n"), tile.file))
    return _wrapped(note, SLATE, SMALL, width, 3) if note else []


def caption_lines(tile: Tile) -> list[TextLine]:
    """The caption in lines as wide as the tile, the first in its verdict's colour, and the file's name."""
    lines = [line for number, text in enumerate(tile.caption.split("\n"))
             for line in _wrapped(text, INK if number else VERDICTS[tile.good][0], TEXT, SIDE, 2)]
    return [*lines, TextLine(((keep_end(tile.file, SMALL, SIDE), SLATE),), SMALL)] if tile.file else lines


def _wrapped(text: str, colour: str, size: int, width: int, lines: int) -> list[TextLine]:
    return [TextLine(((line, colour),), size) for line in wrap(text, size, width, lines)]


def _height(lines: Sequence[TextLine]) -> int:
    return sum(line.size + 5 for line in lines)


def _draw_lines(draw: ImageDraw.ImageDraw, left: float, top: float, lines: Sequence[TextLine], step: int = 0) -> None:
    for line in lines:
        start = left
        for text, colour in line.pieces:
            draw_text(draw, (start, top + line.size), text, line.size, colour)
            start += typeset(text, line.size)[0].getlength(text)
        top += step or line.size + 5


def _draw_picture(draw: ImageDraw.ImageDraw, sheet: Image.Image, tile: Tile, left: int, top: int) -> None:
    colour, mark = VERDICTS[tile.good]
    draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=MOUNT, outline=colour, width=FRAME)
    inside = SIDE - 2 * FRAME
    sheet.paste(ImageOps.pad(tile.image.convert("RGB"), (inside, inside), color=MOUNT), (left + FRAME, top + FRAME))
    if mark:
        draw.rectangle((left, top, left + BADGE, top + BADGE), fill=colour)
        font, _ = typeset(mark, TEXT + 3)
        draw.text((left + BADGE / 2, top + BADGE / 2), mark, fill=PAPER, font=font, anchor="mm")
