"""A PNG of the classes that are most often confused with one another."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from drawing.lettering import escape_note, format_count, typeset
from drawing.palette import GREY, INK
from utils import atomic_path

CONFUSION = "confusion.png"
MOST = 30  # classes on the picture: more cannot be read
LONGEST, SIZE = 24, 10  # letters of a name, their size in points
SMALLEST, LARGEST, MATRIX = 0.36, 0.8, 4.0  # sides of a cell and, between those, of all cells, inches
MARGIN, LINE, CLEAR = 0.2, 0.2, 0.15  # inches: around all, per line of text, from a name to its cells
CORNER, TITLE = 1.4, 2.9  # widths of the text there, inches


def most_confused(confusions: Mapping[tuple[int, int], int], limit: int = MOST) -> list[int]:
    """The classes in the most confusions, as truth or as prediction, in the order of their ids."""
    parts: Counter[int] = Counter()
    for (truth, prediction), count in confusions.items():
        parts[truth] += count
        parts[prediction] += count
    return sorted(sorted(parts, key=lambda number: (-parts[number], number))[:limit])


def confusion_picture(confusions: Mapping[tuple[int, int], int], hits: Sequence[int], support: Sequence[int],
                      classes: Sequence[str], path: Path) -> bool:
    """Write a PNG of confusions in per cent of each row's pictures; without a confusion, False and no file.

    Letters that no installed font has are drawn as escapes; a line at the bottom then explains them.

    Args:
        confusions: (class, predicted class) -> count.
        hits: correctly classified pictures, per class.
        support: pictures, per class.
        classes: names.
        path: the PNG to write.
    """
    shown = most_confused(confusions)
    if not shown:
        return False
    counts = np.array([[hits[row] if row == column else confusions.get((row, column), 0) for column in shown]
                       for row in shown])
    shares = 100 * counts / np.maximum([[support[row]] for row in shown], 1)
    names = [classes[number] for number in shown]
    figure, axes = frame([name if len(name) <= LONGEST else name[:LONGEST - 1] + "…" for name in names])
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in np.argwhere(counts):
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=8,
                  color="white" if shares[row, column] > 55 else INK)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
    return True


def frame(names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure just large enough for square cells, with their names, the axes' names and a title around them."""
    texts = [typeset(name, SIZE) for name in names]
    # Font.getlength counts px at SIZE px, which are points at SIZE points; 72 make an inch.
    longest = max(font.getlength(text) for font, text in texts) / 72 + CLEAR
    inside = len(names) * min(LARGEST, max(SMALLEST, MATRIX / len(names)))
    left = MARGIN + max(longest, CORNER)
    width = left + inside + max(MARGIN, TITLE / 2 - inside / 2)
    note = textwrap.wrap(escape_note(names), int(14 * (width - 2 * MARGIN)))
    below = MARGIN + LINE * len(note) + max(longest, 2 * LINE)
    height = below + inside + 4 * LINE + MARGIN
    figure = Figure(figsize=(width, height), dpi=110)
    axes = figure.add_axes((left / width, below / height, inside / width, inside / height))
    figure.text((left + inside / 2) / width, 1 - MARGIN / height,
                f"the {format_count(len(names), 'artist')} most often confused\n% of each row's pictures",
                color=INK, ha="center", va="top")
    figure.text(MARGIN / width, MARGIN / height, "\n".join(note), color=GREY, fontsize=8, parse_math=False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(texts)), [text for _, text in texts], parse_math=False)
        for label, (font, _) in zip(axis.get_ticklabels(), texts, strict=True):
            label.set_fontproperties(FontProperties(fname=str(font.path), size=SIZE))
    axes.xaxis.set_tick_params(rotation=90)
    # The axes' names stand in the corners: beside the middles the longest class name would push them away.
    for text, top, side in (("drawn by ↓", 1, "bottom"), ("recognised as →", 0, "top")):
        axes.annotate(text, (0, top), (-7, 14 * top - 7), "axes fraction", "offset points", color=GREY,
                      ha="right", va=side)
    return figure, axes
