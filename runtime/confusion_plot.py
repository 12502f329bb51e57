"""The confusion picture: the classes that are most often taken for one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runtime.plots import INK, typeset
from utils import atomic_path

CONFUSION = "confusion.png"
MOST = 30  # classes on the picture: more cannot be read
LONGEST, SIZE = 24, 10  # letters of a name, their size in points


def most_confused(confusions: Mapping[tuple[int, int], int], limit: int = MOST) -> list[int]:
    """The classes in the most confusions, as what was shown or as what was answered, in the order of their ids."""
    part = Counter()
    for (truth, answer), count in confusions.items():
        part[truth] += count
        part[answer] += count
    return sorted(sorted(part, key=lambda number: (-part[number], number))[:limit])


def confusion_picture(confusions: Mapping[tuple[int, int], int], hits: Sequence[int], support: Sequence[int],
                      classes: Sequence[str], path: Path) -> bool:
    """Write a PNG of who is taken for whom, in per cent of each row's pictures; False where nobody is.

    Args:
        confusions: (class, taken for) -> count.
        hits: pictures recognised, per class.
        support: pictures, per class.
        classes: names.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    shown = most_confused(confusions)
    if not shown:
        return False
    counts = np.array([[hits[row] if row == column else confusions.get((row, column), 0) for column in shown]
                       for row in shown])
    shares = 100 * counts / np.maximum([[support[row]] for row in shown], 1)
    side = 3 + 0.36 * len(shown)
    figure = Figure(figsize=(side + 1, side), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    names = [typeset(name if len(name := classes[number]) <= LONGEST else name[:LONGEST - 1] + "…", SIZE)
             for number in shown]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(range(len(shown)), [text for _, text in names])
        for label, (font, _) in zip(axis.get_ticklabels(), names, strict=True):
            label.set_fontproperties(FontProperties(fname=font.path, size=SIZE))
    axes.xaxis.set_tick_params(rotation=90)
    axes.set_xlabel("recognised as", color=INK)
    axes.set_ylabel("drawn by", color=INK)
    axes.set_title(f"the {len(shown)} most confused, % of each row's pictures", color=INK, loc="right")
    for row, column in np.argwhere(counts):
        axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=8,
                  color="white" if shares[row, column] > 55 else INK)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")
    return True
