"""A PNG of the classes that are most often confused with one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw

from drawing.lettering import draw_text, format_count, text_notes, text_width, wrap
from drawing.palette import BLUE, GREY, INK, PAPER, SLATE
from utils import atomic_path

CONFUSION = "confusion.png"
MOST = 30  # classes on the picture: more cannot be read
NAME, TEXT, SMALL, LONGEST = 15, 13, 12, 220  # px: letters of a name, a cell and the notes; width of a name
SMALLEST, LARGEST, MATRIX = 38, 84, 440  # px: sides of a cell and, between those, of all cells
GAP, LINE, LEAST = 14, 24, 560  # px: around all; per line of text; the least width, for the title


def most_confused(confusions: Mapping[tuple[int, int], int], limit: int = MOST) -> list[int]:
    """The classes of the most frequent confusions, in the order of their ids."""
    chosen: set[int] = set()
    for pair in sorted(confusions, key=lambda pair: (-confusions[pair], pair)):
        if len(chosen.union(pair)) <= limit:
            chosen.update(pair)
    return sorted(chosen)


def confusion_picture(confusions: Mapping[tuple[int, int], int], hits: Sequence[int], support: Sequence[int],
                      classes: Sequence[str], path: Path) -> None:
    """Write a PNG of confusions in per cent of each row's pictures.

    Args:
        confusions: (class, predicted class) -> count.
        hits: correctly classified pictures, per class.
        support: pictures, per class.
        classes: names.
        path: the PNG to write.
    """
    by_pictures = sorted(range(len(classes)), key=lambda number: -support[number])
    shown = most_confused(confusions) or sorted(by_pictures[:MOST])
    which = "of the most frequent confusions" if confusions else "with most pictures, none of them confused"
    names = [wrap(classes[number], NAME, LONGEST)[0] for number in shown]
    strip = _name_strip(names, cell := min(LARGEST, max(SMALLEST, MATRIX // len(shown))))
    inside, left, top = cell * len(shown), GAP + strip.width, GAP + 4 * LINE
    width = max(left + inside + GAP, LEAST)
    note = wrap(text_notes(classes[number] for number in shown), SMALL, width - 2 * GAP, 5)
    picture = Image.new("RGB", (width, top + inside + strip.width + GAP + len(note) * LINE), PAPER)
    picture.paste(strip, (GAP, top))
    picture.paste(strip.rotate(90, expand=True), (left, top + inside))
    draw = ImageDraw.Draw(picture)
    for y, row in enumerate(shown):
        for x, column in enumerate(shown):
            count = hits[row] if row == column else confusions.get((row, column), 0)
            _draw_cell(draw, (left + x * cell, top + y * cell), cell, count / max(1, support[row]))
    for number, (text, colour) in enumerate((
            (f"{sum(hits) / sum(support):.1%} of {format_count(sum(support))} by "
             f"{format_count(len(classes), 'artist')} recognised", INK),
            (f"the {len(shown)} artists {which}, % of each row's pictures", INK),
            ("each row: pictures of one artist; each column: who they are taken for", GREY))):
        draw_text(draw, (GAP, GAP + (number + 0.7) * LINE), text, NAME, colour)
    for number, text in enumerate(note):
        draw_text(draw, (GAP, picture.height - GAP - (len(note) - 1 - number) * LINE), text, SMALL, SLATE)
    with atomic_path(path) as partial:
        picture.save(partial, format="PNG")


def _name_strip(names: Sequence[str], cell: int) -> Image.Image:
    """Names below each other, `cell` px apart, that end at the right edge."""
    widths = [text_width(name, NAME) for name in names]
    strip = Image.new("RGB", (int(max(widths)) + 12, cell * len(names)), PAPER)
    for number, (name, width) in enumerate(zip(names, widths, strict=True)):
        draw_text(ImageDraw.Draw(strip), (strip.width - 8 - width, (number + 0.5) * cell + 5), name, NAME, INK)
    return strip


def _draw_cell(draw: ImageDraw.ImageDraw, corner: tuple[int, int], side: int, share: float) -> None:
    """A square, the darker the larger its `share`, 0 to 1, with that in per cent."""
    (x, y), shade = corner, 0.03 + 0.97 * share
    colour = tuple(round(255 + shade * (part - 255)) for part in ImageColor.getrgb(BLUE))
    draw.rectangle((x, y, x + side - 2, y + side - 2), fill=colour)
    if share:
        text = f"{100 * share:.0f}"
        draw_text(draw, (x + (side - text_width(text, TEXT)) / 2, y + side / 2 + 4), text, TEXT,
                  PAPER if share > 0.5 else INK)
