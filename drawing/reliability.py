"""A PNG of what probabilities are worth: how many answers are right at each, and known artists beside others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drawing.plots import GREEN, GREY, INK, RED, halo
from evaluation.calibration import BINS, Calibration, calibration_error, reliability
from utils import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EDGES = (-0.07, 1.07)  # beyond 0 and 1, so that the largest points and lines at the ends are seen whole


def reliability_plot(before: np.ndarray, after: np.ndarray, right: np.ndarray, outside: np.ndarray,
                     calibration: Calibration, path: Path) -> None:
    """Draw validation answers before and after calibration, and the thresholds between the verdicts.

    Args:
        before: highest probability of each validation picture, (N,).
        after: the same, calibrated.
        right: whether the class is right, (N,).
        outside: highest calibrated probability of each picture of other artists, (M,), M ≥ 0.
        calibration: for its thresholds.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.4), dpi=110, layout="constrained")
    first, second, third = figure.subplots(1, 3)
    _diagram(first, "before", before, right, GREY)
    _diagram(second, f"after: temperature {calibration.temperature:.3f}", after, right, GREEN)
    _verdicts(third, after, right, outside, calibration)
    for axes in (first, second, third):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(EDGES)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png")


def _diagram(axes: Axes, title: str, scores: np.ndarray, right: np.ndarray, colour: str) -> None:
    means, shares, counts = zip(*reliability(scores, right), strict=True)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    axes.scatter(means, shares, s=[20 + 600 * count / len(scores) for count in counts], color=colour, alpha=0.75)
    axes.set_title(f"{title}, ECE {calibration_error(scores, right):.3f}", loc="left", color=INK)
    axes.set(xlabel="probability (points grow with their number of pictures)", ylabel="share right", ylim=EDGES)


def _verdicts(axes: Axes, scores: np.ndarray, right: np.ndarray, outside: np.ndarray, calibration: Calibration) -> None:
    parts = {"right": (scores[right], GREEN), "wrong": (scores[~right], GREY), "unknown artists": (outside, RED)}
    parts = {name: part for name, part in parts.items() if len(part[0])}
    axes.hist([values for values, _ in parts.values()], bins=BINS, range=(0, 1), stacked=True,
              color=[colour for _, colour in parts.values()], label=list(parts))
    for name, threshold, style in (("possible", calibration.possible, "--"), ("confident", calibration.confident, "-")):
        if threshold <= 1:
            axes.axvline(threshold, color=INK, linewidth=1.6, linestyle=style, path_effects=halo(),
                         label=f"{name} from {threshold:.3f}")
    axes.set_title("unknown ╎ possible │ confident" if calibration.confident <= 1 else "unknown ╎ possible",
                   loc="left", color=INK)
    axes.set(xlabel="calibrated probability", ylabel="pictures")
    axes.legend(framealpha=0.9, edgecolor="none")
