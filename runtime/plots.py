"""PNG pictures for people: a contact sheet of judged pictures, and the curves of a training run.

Matplotlib is imported where it is used and never through `pyplot`, so no window system and no global state is touched.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

from utils import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIDE, GAP, FRAME, BADGE, TEXT, TITLE = 192, 16, 5, 26, 15, 22  # px
LINE = TEXT + 5  # px from one line of text to the next
INK, PAPER, MOUNT = "#1d2330", "#ffffff", "#eef0f3"
# Told apart by those who do not see red and green, too: dark blue-green and orange-red, and a mark in the corner.
VERDICTS = {True: ("#0b7a5e", "✓"), False: ("#d1401f", "✗"), None: ("#6b7280", "")}


# ---- contact sheet ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One picture of a contact sheet.

    Args:
        image: any mode and size; it is shown whole.
        caption: the text below, one or more lines; a line that is too long is cut with an ellipsis.
        good: whether the prediction is right; None where the truth is not known.
    """

    image: Image.Image
    caption: str
    good: bool | None = None


def contact_sheet(entries: Sequence[Tile], path: str | os.PathLike[str], *, columns: int = 6, title: str = "") -> None:
    """Write a PNG with the pictures in reading order, framed green where right and red where wrong.

    Args:
        entries: the tiles; a few dozen make one sheet.
        path: the PNG to write.
        columns: tiles per row, ≥ 1.
        title: a line above all.

    Raises:
        ValueError: there are no entries.
    """
    if not entries:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(entries))
    lines = max(len(entry.caption.splitlines()) for entry in entries)
    top = GAP + (TITLE + GAP if title else 0)
    cell_width, cell_height = SIDE + GAP, SIDE + 6 + lines * LINE + GAP
    rows = math.ceil(len(entries) / columns)
    sheet = Image.new("RGB", (GAP + columns * cell_width, top + rows * cell_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_line(draw, (GAP, GAP), title, TITLE, INK, sheet.width - 2 * GAP)
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        _draw_tile(draw, sheet, entry, GAP + column * cell_width, top + row * cell_height)
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def _draw_tile(draw: ImageDraw.ImageDraw, sheet: Image.Image, entry: Tile, left: int, top: int) -> None:
    colour, mark = VERDICTS[entry.good]
    draw.rectangle((left, top, left + SIDE - 1, top + SIDE - 1), fill=MOUNT, outline=colour, width=FRAME)
    inside = SIDE - 2 * FRAME
    sheet.paste(ImageOps.pad(entry.image.convert("RGB"), (inside, inside), color=MOUNT), (left + FRAME, top + FRAME))
    if mark:
        draw.rectangle((left, top, left + BADGE, top + BADGE), fill=colour)
        font, _ = typeset(mark, TEXT + 3)
        draw.text((left + BADGE / 2, top + BADGE / 2), mark, fill=PAPER, font=font, anchor="mm")
    for number, line in enumerate(entry.caption.splitlines()):
        _draw_line(draw, (left, top + SIDE + 6 + number * LINE), line, TEXT, INK if number else colour, SIDE)


def _draw_line(draw: ImageDraw.ImageDraw, corner: tuple[int, int], text: str, size: int, colour: str,
               width: int) -> None:
    font, text = typeset(text, size)
    if font.getlength(text) > width:
        while text and font.getlength(text + "…") > width:
            text = text[:-1]
        text += "…"
    # Drawn from the baseline: fonts of different scripts, with different heights, stand on the same line.
    draw.text((corner[0], corner[1] + size), text, fill=colour, font=font, anchor="ls")


def typeset(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font for `text`, and `text` as that font can draw it: what it lacks becomes an escape, never an empty box."""
    lacks: dict[str, set[str]] = {}
    for file in _font_files():
        lacks[file] = {char for char in text if not char.isprintable() or ord(char) not in _glyphs(file)}
        if not lacks[file]:
            break
    best = min(lacks, key=lambda file: len(lacks[file]))
    drawn = "".join(char.encode("unicode_escape").decode() if char in lacks[best] else char for char in text)
    return ImageFont.truetype(best, size), drawn


@functools.cache
def _font_files() -> tuple[str, ...]:
    """Upright fonts of regular weight: DejaVu Sans, which matplotlib brings, then the system's, sans-serif ones first.

    Left out: fonts of boxes that stand for missing letters ("Last Resort"), faces behind the first of a collection,
    and what Pillow cannot draw at any size (colour bitmaps).
    """
    from matplotlib import font_manager

    names = {entry.fname: entry.name for entry in font_manager.fontManager.ttflist
             if entry.style == "normal" and entry.weight in (400, "normal", "regular") and entry.stretch == "normal"
             and not entry.name.lstrip(".").startswith(("Last Resort", "LastResort"))
             and not getattr(entry, "index", 0)}
    serif = {file: not any(word in name.lower() for word in ("sans", "gothic", "hei")) for file, name in names.items()}
    ranked = sorted(names, key=lambda file: (serif[file], names[file], file))
    return (font_manager.findfont("DejaVu Sans"), *filter(_drawable, ranked))


def _drawable(file: str) -> bool:
    try:
        ImageFont.truetype(file, TEXT)
    except OSError:
        return False
    return True


@functools.cache
def _glyphs(file: str) -> frozenset[int]:
    """The code points that the font has a glyph for."""
    from matplotlib.font_manager import get_font

    return frozenset(get_font(file).get_charmap())


# ---- training curves -------------------------------------------------------------------------------------------------


def training_curves(records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write a PNG with loss, top-1 or macro mAP, and learning rate over the epochs.

    Args:
        records: the objects of `metrics.jsonl` in order, each with `epoch`; a key that a record lacks (an epoch without
            an evaluation) leaves no point.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), dpi=110, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _curve(loss, records, "train_loss", "training", "#7a8699")
    _curve(loss, records, "val_loss", "validation", "#d1401f")
    for key, name in (("val_top1", "top-1"), ("val_macro_map", "macro mAP")):  # a run has one of the two
        _curve(accuracy, records, key, f"validation {name}", "#0b7a5e")
        _mark_highest(accuracy, records, key)
    _curve(rate, records, "lr", "learning rate", "#3b5bdb")
    rate.yaxis.set_major_formatter("{x:.3g}")
    for axes, name in ((loss, "loss"), (accuracy, "top-1 or macro mAP, %"), (rate, "learning rate")):
        axes.set_title(name, loc="left", color=INK)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(color="#dfe3e8", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    if loss.lines:
        loss.legend(frameon=False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def _points(records: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    return [(record["epoch"], record[key]) for record in records if record.get(key) is not None]


def _curve(axes: Axes, records: Sequence[Mapping[str, Any]], key: str, label: str, colour: str) -> None:
    points = _points(records, key)
    if points:
        # A run of few epochs shows its points; a single one would otherwise be a line of no length.
        axes.plot(*zip(*points, strict=True), label=label, color=colour, linewidth=1.8,
                  marker="o" if len(points) <= 30 else None, markersize=3.5)


def _mark_highest(axes: Axes, records: Sequence[Mapping[str, Any]], key: str) -> None:
    points = _points(records, key)
    if points:
        epoch, value = max(points, key=lambda point: point[1])
        axes.plot(epoch, value, "o", color="#0b7a5e", markersize=8)
        axes.annotate(f"{value:.2f}", (epoch, value), (0, -16), textcoords="offset points", ha="center", color=INK)


# ---- speed -----------------------------------------------------------------------------------------------------------


def scatter(panels: Mapping[str, Sequence[tuple[str, float, float]]], vertical: str,
            path: str | os.PathLike[str]) -> None:
    """Write a PNG of labelled points (label, x, y): a panel for each name of a horizontal axis, over one vertical."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * len(panels), 4.5), dpi=110, layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for label, x, y in points:
            axes.plot(x, y, "o", color="#0b7a5e")
            axes.annotate(label, (x, y), (5, 5), textcoords="offset points", color=INK)
        axes.set(xlabel=name, ylabel=vertical)
        axes.margins(0.2)
        axes.set_ylim(0, 1.15 * max(y for _, _, y in points))
        axes.grid(color="#dfe3e8", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
