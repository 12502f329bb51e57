"""report.csv and confusion.png: how well each artist is recognised, and whom it is most often taken for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.csv_files import write_rows
from drawing.confusion import CONFUSION, confusion_picture
from evaluation.metrics import ClassificationMeter

REPORT = "report.csv"
COLUMNS = ("id", "artist", "train_count", "support", "precision", "recall", "most_often_taken_for",
           "times_taken_for")


def write_report(folder: Path, meter: ClassificationMeter, classes: Sequence[str],
                 train_counts: np.ndarray) -> dict[str, Path]:
    """Write one row per class, in the order of ids, and the confusion picture; return the drawings by title.

    Precision and recall without pictures stay empty.

    Args:
        folder: gets report.csv and confusion.png.
        meter: after its `result`.
        classes: names.
        train_counts: training pictures of each class, (classes,).
    """
    hits, support = meter.hits.tolist(), meter.support.tolist()
    predicted = Counter(dict(enumerate(hits)))
    most_taken_for: dict[int, tuple[str, int]] = {}
    for (truth, prediction), count in sorted(meter.confusions.items()):
        predicted[prediction] += count
        if count > most_taken_for.get(truth, ("", 0))[1]:
            most_taken_for[truth] = classes[prediction], count
    write_rows(folder / REPORT, [COLUMNS, *(
        (number, name, train_counts[number], support[number], _share(hits[number], predicted[number]),
         _share(hits[number], support[number]), *most_taken_for.get(number, ("", 0)))
        for number, name in enumerate(classes))])
    picture = folder / CONFUSION
    confusion_picture(meter.confusions, hits, support, classes, picture)
    return {"most confused artists": picture}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""
