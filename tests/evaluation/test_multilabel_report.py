"""The figures of several labels, as people read them and as programs do."""

from __future__ import annotations

import json
import math
from pathlib import Path

from evaluation.multilabel_report import figures_table, headline, write_figures

FIGURES = {"macro_map": 71.23456, "micro_map": 80.0, "macro_precision": 1.0, "micro_precision": 2.0,
           "macro_recall": 3.0, "micro_recall": 4.0, "macro_f1": 60.1, "micro_f1": 65.0, "share_error": 0.08125,
           "coverage": 2.5, "loss": 0.25, "pictures": 200, "labels": 30}
BOUNDED = {**FIGURES, "macro_map_error": 0.01234, "micro_map_error": 0.5}


def test_the_line_fits_a_terminal_and_tells_the_bounds_where_there_are_some() -> None:
    assert headline(FIGURES) == "* mAP 71.235 (micro 80.000) F1 60.100 (micro 65.000) share error 0.0813"
    assert headline(BOUNDED).startswith("* mAP 71.235 ± 0.012 (micro 80.000 ± 0.500) F1 60.100 (micro")


def test_the_table_holds_every_figure() -> None:
    lines = figures_table(BOUNDED)
    assert lines[1].split() == ["mAP,", "%", "71.235", "±", "0.012", "80.000", "±", "0.500"]
    assert [line.split()[-1] for line in lines[2:]] == ["2.000", "4.000", "65.000", lines[5], "0.0813", "2.500",
                                                        "0.2500", "30", "200"]
    assert max(map(len, lines)) <= 80


def test_the_file_is_json_even_where_a_figure_is_no_number(tmp_path: Path) -> None:
    write_figures(tmp_path, {**FIGURES, "loss": math.nan})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {**FIGURES, "loss": None}
