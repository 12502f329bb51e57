"""PNG drawings for people: the curves of a training run, and points of a measurement.

Matplotlib is imported where it is used and never through `pyplot`, so no window system and no global state is touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from utils import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, GREEN, GREY, RED, BLUE = "#1d2330", "#0b7a5e", "#7a8699", "#d1401f", "#3b5bdb"
METRICS = {"val_top1": "top-1", "val_macro_map": "macro mAP"}  # a run has one of the two


def halo() -> list[Any]:
    """Path effects of text that stays legible upon lines."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3, foreground="white")]


def tidy(axes: Axes) -> None:
    """A light grid, and no frame where there is no scale."""
    axes.grid(color="#dfe3e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


# ---- training curves -------------------------------------------------------------------------------------------------


def training_curves(records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write a PNG with loss, top-1 or macro mAP (the one that the run has), and learning rate over the epochs.

    Args:
        records: the objects of `metrics.jsonl` in order, each with `epoch`; a key that a record lacks (an epoch without
            an evaluation) leaves no point.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 4), dpi=110, layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    _curve(loss, records, "train_loss", "training", GREY)
    _curve(loss, records, "val_loss", "validation", RED)
    judged = {key: name for key, name in METRICS.items() if _points(records, key)}
    for key, name in judged.items():
        _curve(accuracy, records, key, f"validation {name}", GREEN)
        _mark_highest(accuracy, records, key)
    _curve(rate, records, "lr", "learning rate", BLUE)
    rate.yaxis.set_major_formatter("{x:.3g}")
    shown = f"validation {' and '.join(judged.values())}, %" if judged else "no evaluation yet"
    for axes, name in ((loss, "loss"), (accuracy, shown), (rate, "learning rate")):
        axes.set_title(name, loc="left", color=INK)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        tidy(axes)
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
    """The first of the highest points, with its value above: there, no point of its curve can be."""
    epoch, value = max(_points(records, key), key=lambda point: point[1])
    axes.plot(epoch, value, "o", color=GREEN, markersize=8)
    axes.margins(x=0.08, y=0.14)
    axes.annotate(f"{value:.2f}", (epoch, value), (0, 9), textcoords="offset points", ha="center", color=INK,
                  fontweight="bold", path_effects=halo())


# ---- speed -----------------------------------------------------------------------------------------------------------


def scatter(panels: Mapping[str, Sequence[tuple[str, float, float]]], vertical: str, path: str | os.PathLike[str],
            title: str = "") -> None:
    """Write a PNG of labelled points (label, x, y): a panel for each name of a horizontal axis, over one vertical."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5 * len(panels), 4.5), dpi=110, layout="constrained")
    figure.suptitle(title, color=INK, fontsize=11, wrap=True)
    for axes, (name, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        low, high = limits([x for _, x, _ in points])
        for label, x, y in points:
            axes.plot(x, y, "o", color=GREEN)
            left = x < (low + high) / 2  # the label is written where there is room
            axes.annotate(label, (x, y), (6 if left else -6, 6), textcoords="offset points", color=INK,
                          ha="left" if left else "right", path_effects=halo())
        axes.set(xlabel=name, ylabel=vertical, xlim=(low, high), ylim=(0, 1.15 * max(y for _, _, y in points)))
        tidy(axes)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def limits(values: Sequence[float]) -> tuple[float, float]:
    """An axis for positive values with room beside them, a fifth of the highest on each side where there is but one."""
    low, high = min(values), max(values)
    room = max(0.2 * (high - low), 0.2 * high if high == low else 0.05 * high)
    return max(0, low - room), high + room
