"""label_stats.csv says what the annotations hold."""

from __future__ import annotations

from pathlib import Path

from torchvision.transforms.functional import to_tensor

from data.csv_files import read_rows
from data.multilabel.annotations import Annotation
from data.multilabel.dataset import MultiLabelImageDataset
from data.multilabel.label_stats import COLUMNS, write_label_stats


def test_counts_shares_and_mean_weights_are_those_of_the_pictures(tmp_path: Path) -> None:
    pictures = MultiLabelImageDataset([
        Annotation("1.png", {"a, b": 1.4, "c": 1.0}), Annotation("2.png", {"a, b": 1.0}),
        Annotation("3.png", {"c": 1.0}), Annotation("4.png", {"a, b": 1.2}), Annotation("5.png", {"d": 2.0})],
        tmp_path, to_tensor)
    pictures.leave_out({tmp_path / "5.png"})
    write_label_stats(tmp_path, pictures)
    assert [row for _, row in read_rows(tmp_path / "label_stats.csv", COLUMNS)] == [
        ["class_id", "class_name", "count", "share", "mean_weight"], ["0", "a, b", "3", "0.750000", "1.2"],
        ["1", "c", "2", "0.500000", "1"], ["2", "d", "0", "0.000000", "0"]]
