"""thresholds.csv: the probability from which on each label counts as present, chosen on the validation pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data.csv_files import malformed, read_table, write_rows
from evaluation.multilabel import MultiLabelMeter
from runtime.checkpoint import THRESHOLDS
from utils import UserError

COLUMNS = ("class_id", "class_name", "threshold", "ap", "f1")


def write_thresholds(folder: Path, meter: MultiLabelMeter) -> None:
    """Write one row per label, in the order of ids, to thresholds.csv in `folder`.

    `threshold` gives the highest F1 over the validation pictures, `f1` is that F1 and `ap` the average precision, both
    from 0 to 1. A label without validation pictures has the threshold of --threshold, and neither `ap` nor `f1`.

    Args:
        folder: gets thresholds.csv.
        meter: after its `result`.
    """
    columns = meter.classes, meter.thresholds.tolist(), meter.ap.tolist(), meter.f1.tolist(), meter.support.tolist()
    write_rows(folder / THRESHOLDS, [COLUMNS, *(
        (number, name, f"{threshold:.8g}", *((f"{ap:.6f}", f"{f1:.6f}") if support else ("", "")))
        for number, (name, threshold, ap, f1, support) in enumerate(zip(*columns, strict=True)))])


def read_thresholds(path: str | os.PathLike[str], classes: Sequence[str]) -> list[float]:
    """The threshold of each of `classes`, in their order.

    Raises:
        UserError: the file is missing or malformed, or holds other labels.
    """
    thresholds: list[float] = []
    for line, row in read_table(path, COLUMNS[:3]):
        number = len(thresholds)
        expected = [str(number), classes[number]] if number < len(classes) else ["no further label"]
        if row[:2] != expected:
            raise malformed(path, line, f"the label {','.join(row[:2])!r}", ",".join(expected))
        try:
            threshold = float(row[2])
        except ValueError:
            threshold = -1.0
        if not 0 <= threshold <= 1:
            raise malformed(path, line, f"the threshold {row[2]!r}", "a number from 0 to 1")
        thresholds.append(threshold)
    if len(thresholds) < len(classes):
        raise UserError(f"{len(thresholds)} labels in {path}", f"the {len(classes)} of the checkpoint",
                        "take the thresholds.csv of the same run")
    return thresholds
