"""How well each artist is recognised, and for whom it is most often taken: report.csv and confusion.png."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from drawing.confusion import CONFUSION, confusion_picture
from evaluation.metrics import ClassificationMeter
from utils import write_text

REPORT = "report.csv"
COLUMNS = ("id", "artist", "train_count", "support", "precision", "recall", "most_often_taken_for",
           "times_taken_for")


def write_report(folder: Path, meter: ClassificationMeter, classes: Sequence[str],
                 train_counts: np.ndarray) -> dict[str, Path]:
    """Write one row per class, in the order of ids, and the confusion picture; the pictures written, by title.

    A share without pictures stays empty.

    Args:
        folder: gets report.csv and, unless every picture was recognised, confusion.png.
        meter: after its `result` was asked.
        classes: names.
        train_counts: pictures of each class to train on, (classes,).
    """
    taken = Counter(dict(enumerate(meter.hits.tolist())))
    favourite: dict[int, tuple[str, int]] = {}
    for (truth, answer), count in sorted(meter.confusions.items()):
        taken[answer] += count
        if count > favourite.get(truth, ("", 0))[1]:
            favourite[truth] = classes[answer], count
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for number, name in enumerate(classes):
        support, hits = int(meter.support[number]), int(meter.hits[number])
        table.writerow([number, name, train_counts[number], support, _share(hits, taken[number]),
                        _share(hits, support), *favourite.get(number, ("", 0))])
    write_text(folder / REPORT, text.getvalue())
    picture = folder / CONFUSION
    picture.unlink(missing_ok=True)  # that of an earlier, worse epoch
    drawn = confusion_picture(meter.confusions, meter.hits.tolist(), meter.support.tolist(), classes, picture)
    return {"most confused artists": picture} if drawn else {}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else ""
