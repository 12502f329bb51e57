"""What training on several artists per picture has gained: a table of runs beside a predictor that looks at no picture.

python tests/multilabel_table.py FOLDER_OF_PICTURES TRAIN_CSV VAL_CSV RUN... prints it. That predictor gives every
picture the labels' frequencies as scores, and equal shares.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.multilabel.annotations import AnnotationRules
from data.multilabel.dataset import open_annotated
from evaluation.multilabel import MultiLabelMeter
from runtime.checkpoint import read_checkpoint
from runtime.text_table import format_table

FIGURES = ("macro_map", "micro_map", "macro_f1", "share_error")


def trivial_figures(pictures: Path, train_csv: Path, val_csv: Path) -> dict[str, float]:
    """Those of label frequencies as scores; the share error is that of equal shares."""
    rules = AnnotationRules(root=pictures)
    train, _ = open_annotated(train_csv, rules, torch.as_tensor)
    val, _ = open_annotated(val_csv, rules, torch.as_tensor, classes=train.classes)
    targets = torch.stack([val.target(number) for number in range(len(val))])
    frequencies = torch.logit(torch.from_numpy(train.counts() / len(train))).float().expand_as(targets)
    found = []
    for logits in (frequencies, torch.zeros_like(targets)):
        meter = MultiLabelMeter(train.classes, 0.5)
        meter.update(0, logits, targets)
        found.append(meter.result())
    return {**found[0], "share_error": found[1]["share_error"]}


def table(pictures: Path, train_csv: Path, val_csv: Path, runs: list[Path]) -> dict[str, dict[str, float]]:
    """The figures of the trivial predictor and of each run's best epoch, by name; prints them."""
    figures = {"no picture seen": trivial_figures(pictures, train_csv, val_csv)}
    figures |= {run.name: read_checkpoint(run / "model_best.pth").content["metrics"] for run in runs}
    rows = [(name, *(f"{found[key]:.{4 if key == 'share_error' else 1}f}" for key in FIGURES))
            for name, found in figures.items()]
    print("\n".join(format_table([("", "macro mAP", "micro mAP", "macro F1", "share error"), *rows])))
    return figures


if __name__ == "__main__":
    table(*map(Path, sys.argv[1:4]), [Path(run) for run in sys.argv[4:]])
