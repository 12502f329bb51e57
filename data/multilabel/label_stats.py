"""label_stats.csv: how often each label occurs in the training set, and with what weight."""

from __future__ import annotations

from pathlib import Path

from data.csv_files import write_rows
from data.multilabel.dataset import MultiLabelImageDataset

LABEL_STATS = "label_stats.csv"
COLUMNS = ("class_id", "class_name", "count", "share", "mean_weight")


def write_label_stats(folder: Path, dataset: MultiLabelImageDataset) -> None:
    """Write one row per label, in the order of ids, to label_stats.csv in `folder`.

    `count` is the number of pictures with the label, `share` their share of all pictures, `mean_weight` the mean of the
    label's annotated weights over them; a label of which every picture is damaged has 0 in all three.
    """
    counts, weights = dataset.counts(), dataset.mean_weights()
    write_rows(folder / LABEL_STATS, [COLUMNS, *(
        (number, name, counts[number], f"{counts[number] / len(dataset):.6f}", f"{weights[number]:.6g}")
        for number, name in enumerate(dataset.classes))])
