"""The figures of an evaluation of several labels per picture: as a line, as a table, as a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from runtime.text_table import RULE, format_table
from utils import write_json

FIGURES = "evaluation.json"
KINDS = (("mAP, %", "map"), ("precision, %", "precision"), ("recall, %", "recall"), ("F1, %", "f1"))
SINGLES = (("share error", "share_error", ".4f"), ("coverage", "coverage", ".3f"), ("loss", "loss", ".4f"),
           ("labels with pictures", "labels", "d"), ("pictures", "pictures", "d"))


def headline(figures: Mapping[str, float]) -> str:
    """The line printed after every evaluation."""
    return (f"* mAP {_figure(figures, 'macro_map')} (micro {_figure(figures, 'micro_map')}) F1 "
            f"{_figure(figures, 'macro_f1')} (micro {_figure(figures, 'micro_f1')}) share error "
            f"{figures['share_error']:.4f}")


def figures_table(figures: Mapping[str, float]) -> list[str]:
    """The lines of a table of all figures that `MultiLabelMeter` finds."""
    pairs = [(title, _figure(figures, f"macro_{name}"), _figure(figures, f"micro_{name}")) for title, name in KINDS]
    singles = [(title, "", format(figures[name], form)) for title, name, form in SINGLES]
    return format_table([("", "macro", "micro"), *pairs, RULE, *singles])


def write_figures(folder: Path, figures: Mapping[str, float]) -> None:
    """Write them to evaluation.json in `folder`; one that is no number is null."""
    write_json(folder / FIGURES, {name: value if math.isfinite(value) else None for name, value in figures.items()})


def _figure(figures: Mapping[str, float], name: str) -> str:
    """A figure in percent, with its error bound where it has one."""
    bound = f" ± {figures[f'{name}_error']:.3f}" if f"{name}_error" in figures else ""
    return f"{figures[name]:.3f}{bound}"
