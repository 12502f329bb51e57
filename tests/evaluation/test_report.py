"""report.csv against scikit-learn's figures."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from evaluation.metrics import ClassificationMeter
from evaluation.report import write_report

CLASSES = ["Ada", "北斎", "c, d", "never"]


def test_each_row_says_what_scikit_learn_says(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(60, 4, generator=generator)
    logits[:, 3] -= 9
    targets = torch.randint(0, 3, (60,), generator=generator)
    meter = ClassificationMeter(4, np.array([5, 9, 7, 1]))
    for number in range(3):
        meter.update(number, logits[number * 20:][:20], targets[number * 20:][:20])
    figures = meter.result()
    write_report(tmp_path, meter, CLASSES, np.array([5, 9, 7, 1]))
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["artist"] for row in rows] == CLASSES
    answers = logits.argmax(1)
    precision, recall, _, support = precision_recall_fscore_support(targets, answers, labels=range(3))
    matrix = confusion_matrix(targets, answers, labels=range(3))
    np.fill_diagonal(matrix, 0)
    for number, row in enumerate(rows[:3]):
        assert float(row["precision"]) == round(precision[number], 4)
        assert float(row["recall"]) == round(recall[number], 4)
        assert int(row["support"]) == support[number]
        assert int(row["times_taken_for"]) == matrix[number].max()
        assert matrix[number, CLASSES.index(row["most_often_taken_for"])] == matrix[number].max()
    assert (rows[3]["support"], rows[3]["recall"], rows[3]["most_often_taken_for"]) == ("0", "", "")
    assert figures["head"] == 100 * (recall[1] + recall[2]) / 2, "北斎 and c, d have the most pictures to train on"
    assert figures["middle"] == 100 * recall[0]
    assert figures["tail"] == 0
