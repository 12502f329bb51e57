"""A PNG of pictures in rows, each with a caption and its file's name below, and framed where it is right or wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image, ImageDraw, ImageOps

from data.images import ImageError, decode_image
from drawing.lettering import draw_text, keep_end, text_notes, text_width, wrap
from drawing.palette import GREEN, INK, MOUNT, PAPER, RED, SLATE
from utils import atomic_path

SIDE, GAP, FRAME, BADGE, TEXT, TITLE, SMALL, LEADING = 192, 16, 5, 26, 15, 22, 12, 5  # px
LEAST = 640  # px of width, for title and headings
Mark = Literal["right", "wrong", "not judged", "plain"]
# A frame's colour, the sign in its corner, for those who do not tell red from green, and what both mean.
MARKS: dict[Mark, tuple[str, str, str]] = {
    "right": (GREEN, "✓", "✓ green: right"), "wrong": (RED, "✗", "✗ red: wrong"),
    "not judged": (SLATE, "", "grey: not judged, in no known artist's folder"), "plain": (MOUNT, "", "")}
GONE = "not found, or damaged"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a sheet.

    Attributes:
        picture: a file or pixels, shown whole; of a file that cannot be read, or None, there is an empty square.
        file: its name, in small letters below the caption; of a long one the end.
        caption: the text below, one or more lines; each takes at most two lines of the sheet, then an ellipsis.
        mark: whether what the caption says is right.
    """

    picture: Path | Image.Image | None
    file: str
    caption: str = ""
    mark: Mark = "plain"


class Line(NamedTuple):
    """A line of text."""

    text: str
    colour: str = INK
    size: int = TEXT


def contact_sheet(sections: Sequence[tuple[str, Sequence[Tile]]], path: Path, *, title: str, columns: int = 6,
                  side: int = SIDE) -> None:
    """Write a PNG with a title, and in each section a heading and its pictures in reading order.

    Args:
        sections: headings, which may be empty, and at least one picture in all.
        path: the PNG to write.
        title: above the pictures, beside the meaning of the frames.
        columns: tiles per row, ≥ 1.
        side: of a picture, px.
    """
    tiles = [tile for _, group in sections for tile in group]
    columns = min(columns, max(len(group) for _, group in sections))
    width = max(LEAST, GAP + columns * (side + GAP))
    legend = "    ".join(meaning for mark, (_, _, meaning) in MARKS.items() if mark in {tile.mark for tile in tiles})
    note = text_notes(text for tile in tiles for text in (*tile.caption.split("\n"), tile.file))
    rows: list[tuple[list[Line], Sequence[Tile]]] = [
        ([*_fit(title, width - 2 * GAP, 4, size=TITLE), *_fit(legend, width - 2 * GAP, 3)], ())]
    for heading, group in sections:
        rows.append((_fit(heading, width - 2 * GAP, 2), ()))
        rows += [([], group[start:start + columns]) for start in range(0, len(group), columns)]
    rows.append((_fit(note, width - 2 * GAP, 5, SLATE, SMALL), ()))
    captions = [[caption_lines(tile, side) for tile in row] for _, row in rows]
    heights = [_height(lines) + bool(lines) * GAP // 2 + bool(row) * (side + LEADING + GAP) + max(map(_height, below),
               default=0) for (lines, row), below in zip(rows, captions, strict=True)]
    sheet = Image.new("RGB", (width, GAP + sum(heights)), PAPER)
    draw, top = ImageDraw.Draw(sheet), GAP
    for (lines, row), below, height in zip(rows, captions, heights, strict=True):
        _draw_lines(draw, GAP, top, lines)
        for left, tile, caption in zip(range(GAP, width, side + GAP), row, below, strict=False):
            _draw_picture(sheet, draw, tile, left, top, side)
            _draw_lines(draw, left, top + side + LEADING, caption)
        top += height
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", compress_level=1)  # under half the time of 6, for as many bytes


def caption_lines(tile: Tile, side: int) -> list[Line]:
    """The caption in lines of `side` px, the first in its mark's colour, and the file's name."""
    first = INK if tile.mark == "plain" else MARKS[tile.mark][0]
    lines = [line for number, text in enumerate(tile.caption.split("\n"))
             for line in _fit(text, side, 2, INK if number else first)]
    return [*lines, Line(keep_end(tile.file, SMALL, side), SLATE, SMALL)]


def thumbnail(picture: Path | Image.Image | None, side: int) -> Image.Image | None:
    """The whole picture on a square of `side` px; None where its file was moved or damaged since."""
    try:
        picture = decode_image(picture) if isinstance(picture, Path) else picture
        return ImageOps.pad(picture, (side, side), color=MOUNT) if picture else None
    except ImageError:
        return None


def _fit(text: str, width: int, lines: int, colour: str = INK, size: int = TEXT) -> list[Line]:
    return [Line(line, colour, size) for line in wrap(text, size, width, lines)] if text else []


def _height(lines: Sequence[Line]) -> int:
    return sum(line.size + LEADING for line in lines)


def _draw_lines(draw: ImageDraw.ImageDraw, left: float, top: float, lines: Sequence[Line]) -> None:
    for line in lines:
        draw_text(draw, (left, top + line.size), line.text, line.size, line.colour)
        top += line.size + LEADING


def _draw_picture(sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, side: int) -> None:
    colour, sign, _ = MARKS[tile.mark]
    frame = 0 if tile.mark == "plain" else FRAME
    draw.rectangle((left, top, left + side - 1, top + side - 1), fill=MOUNT, outline=colour, width=frame)
    if picture := thumbnail(tile.picture, side - 2 * frame):
        sheet.paste(picture, (left + frame, top + frame))
    else:
        _draw_lines(draw, left + BADGE + 4, top + side // 2, _fit(GONE, side - 2 * BADGE, 2, SLATE, SMALL))
    if sign:
        draw.rectangle((left, top, left + BADGE, top + BADGE), fill=colour)
        draw_text(draw, (left + (BADGE - text_width(sign, TEXT + 3)) / 2, top + TEXT + 4), sign, TEXT + 3, PAPER)
