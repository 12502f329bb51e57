"""PNG plots: the curves of a training run, the reliability of probabilities, and labelled points of a measurement.

No plot uses `pyplot`, which opens window systems and keeps global state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from drawing.palette import BLUE, GREEN, GREY, INK, RED
from utils import atomic_path

# The monitored figure of a run, the first of these that it has, and what its validation loss is, if it has one.
METRICS = {"val_top1": ("top-1", "cross-entropy"), "val_macro_map": ("macro mAP", "binary cross-entropy per label"),
           "val_cosine": ("cosine similarity", "loss on features"), "val_mask_ap": ("mask AP", ""),
           "val_box_ap": ("box AP", ""), "val_miou": ("mIoU", "")}
HALO = [withStroke(linewidth=3, foreground="white")]  # keeps text and lines legible upon lines
ANSWERS = {"right": GREEN, "wrong": GREY, "unknown artists": RED}
PERCENT = PercentFormatter(1)
EDGES = (-0.07, 1.07)  # beyond 0 and 1, so that points and lines at the ends are drawn whole
Records = Sequence[Mapping[str, Any]]
Bin = tuple[float, float, int]  # mean probability, share right, number of answers


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def _tidy(axes: Axes) -> None:
    """A light grid, and no frame where there is no scale."""
    axes.grid(color="#dfe3e8", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def training_curves(records: Records, path: str | os.PathLike[str]) -> None:
    """Write a PNG with both losses, top-1 or macro mAP (whichever the run has), and learning rate over the epochs.

    The losses have a panel each: training's may have smoothing, mixing, weights, shares, features and a teacher in it,
    validation's, where the run has one, is plain.

    Args:
        records: the objects of `metrics.jsonl` in order, each with `epoch`; a key that a record lacks (an epoch without
            an evaluation) leaves no point.
        path: the PNG to write.
    """
    figure = Figure(figsize=(16, 4), dpi=110)
    # Fixed: panels stay where they are from epoch to epoch, and matplotlib's own layout takes as long as the drawing.
    figure.subplots_adjust(left=0.04, right=0.995, bottom=0.13, top=0.91, wspace=0.24)
    found = monitored(records)
    name, plain_loss = METRICS[found] if found else ("", "loss")
    unit = "" if found == "val_cosine" else ", %"
    panels = {"train_loss": ("training loss (all that training lowers)", GREY),
              **({"val_loss": (f"validation {plain_loss}", RED)} if plain_loss else {}),
              found or "": (f"validation {name}{unit}" if found else "no evaluation yet", GREEN),
              "lr": ("learning rate", BLUE)}
    for axes, (key, (title, colour)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        if points := _points(records, key):
            # A run of few epochs shows its points: a line through a single one has no length.
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.8, markersize=3.5,
                      marker="o" if len(points) <= 30 else None)
        axes.set_title(title, loc="left", color=INK)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if key in METRICS:
            _mark_highest(axes, points)
        if key == "lr":
            axes.yaxis.set_major_formatter("{x:.3g}")
        _tidy(axes)
    _save(figure, path)


def monitored(records: Records) -> str | None:
    """The key of the figure that chooses the best network; None where no record has one."""
    return next((key for key in METRICS if _points(records, key)), None)


def _points(records: Records, key: str) -> list[tuple[int, float]]:
    return [(record["epoch"], record[key]) for record in records if record.get(key) is not None]


def _mark_highest(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    """Mark the first of the highest points and write its value above it, where the curve cannot be."""
    epoch, value = max(points, key=lambda point: point[1])
    axes.plot(epoch, value, "o", color=GREEN, markersize=8)
    axes.margins(x=0.08, y=0.14)
    axes.annotate(f"{value:.2f}", (epoch, value), (0, 9), textcoords="offset points", ha="center", color=INK,
                  fontweight="bold", path_effects=HALO)


def reliability_plot(diagrams: Mapping[str, Sequence[Bin]], answers: Mapping[str, np.ndarray], score: str,
                     possible: float, confident: float, path: Path) -> None:
    """Draw how often answers are right at each probability before and after calibration, and the verdicts' thresholds.

    Args:
        diagrams: two; title -> the bins that hold answers.
        answers: `right`, `wrong` and `unknown artists` -> the scores of such answers, (N,), N ≥ 0.
        score: `probability` if they are calibrated probabilities, else the name of another score.
        possible: an answer is possible from this score on.
        confident: it is confident from this probability on; above 1 never.
        path: the PNG to write.
    """
    figure = Figure(figsize=(13, 4.8), dpi=110, layout="constrained")
    *panels, last = figure.subplots(1, 3)
    for axes, (title, bins), colour in zip(panels, diagrams.items(), (GREY, GREEN), strict=True):
        means, shares, counts = zip(*bins, strict=True)
        axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
        axes.scatter(means, shares, s=[20 + 600 * count / sum(counts) for count in counts], color=colour, alpha=0.75)
        axes.set(xlabel="probability of the network's answer\n(larger: more pictures; dotted: right as often as said)",
                 ylabel="how often such answers are right", ylim=EDGES)
        axes.yaxis.set_major_formatter(PERCENT)
        axes.set_title(title, loc="left", color=INK)
    shown, of_probability = [name for name in ANSWERS if len(answers[name])], score == "probability"
    limits = {"possible": (possible, "--"), **({"confident": (confident, "-")} if of_probability else {})}
    last.hist([answers[name] for name in shown], bins=15, range=(0, 1) if of_probability else None, stacked=True,
              color=[ANSWERS[name] for name in shown], label=[f"{name} ({len(answers[name])})" for name in shown])
    for name, (threshold, style) in limits.items():
        if threshold <= 1 or not of_probability:
            last.axvline(threshold, color=INK, linewidth=1.6, linestyle=style, path_effects=HALO, label=f"{name} from "
                         + (f"{threshold:.1%}" if of_probability else f"{threshold:.4g}"))
    also = " │ confident" if confident <= 1 and of_probability else ""
    last.set_title(f"verdicts: unknown ╎ possible{also}", loc="left", color=INK)
    last.set(xlabel="calibrated probability" if of_probability else f"score: {score}", ylabel="pictures")
    for axes in (*panels, last):
        axes.spines[["top", "right"]].set_visible(False)
    for axes in (*panels, *([last] if of_probability else [])):
        axes.set_xlim(EDGES)
        axes.xaxis.set_major_formatter(PERCENT)
    figure.legend(loc="outside lower right", ncols=len(shown) + 2, frameon=False)
    _save(figure, path)


def scatter(panels: Mapping[str, Sequence[tuple[str, float, float]]], vertical: str, path: str | os.PathLike[str],
            title: str = "") -> None:
    """Write a PNG of labelled points (label, x, y): a panel for each name of a horizontal axis, over one vertical."""
    figure = Figure(figsize=(6.5 * len(panels), 4.5), dpi=110, layout="constrained")
    figure.suptitle(title, color=INK, fontsize=11, wrap=True)
    for axes, (name, points) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        low, high = limits([x for _, x, _ in points])
        for number, (label, x, y) in enumerate(sorted(points, key=lambda point: point[1:])):
            axes.plot(x, y, "o", color=GREEN)
            left = x < (low + high) / 2  # the label stands on the side with more room
            axes.annotate(label, (x, y), (6 if left else -6, -6 if number % 2 else 6),
                          textcoords="offset points", color=INK, ha="left" if left else "right",
                          va="top" if number % 2 else "bottom", path_effects=HALO)  # neighbours on either side
        axes.set(xlabel=name, ylabel=vertical, xlim=(low, high), ylim=(0, 1.15 * max(y for _, _, y in points)))
        _tidy(axes)
    _save(figure, path)


def limits(values: Sequence[float]) -> tuple[float, float]:
    """Axis limits with room beside positive values; a fifth of the value on each side where there is but one."""
    low, high = min(values), max(values)
    room = max(0.2 * (high - low), 0.2 * high if high == low else 0.05 * high)
    return max(0, low - room), high + room
