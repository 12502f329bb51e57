"""Weighted labels as targets: rows made when they are asked for, and nothing shifted by what is left out."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from data.csv_files import read_rows
from data.image_list import collate
from data.multilabel.annotations import Annotation, AnnotationRules, write_annotations
from data.multilabel.dataset import STATS_COLUMNS, MultiLabelImageDataset, open_annotated, write_label_stats
from utils import UserError, counted

ANNOTATIONS = [Annotation("1.png", {"齐": 1.0, "b": 1.5}), Annotation("sub/2.png", {"B": 1.0}),
               Annotation("3.png", {"b": 0.5, "B": 3.0, "a": 1.0})]


def make(root: Path, **settings: object) -> MultiLabelImageDataset:
    for annotation in ANNOTATIONS:
        (root / annotation.path).parent.mkdir(exist_ok=True)
        Image.new("RGB", (2, 2)).save(root / annotation.path)
    return MultiLabelImageDataset(ANNOTATIONS, root, to_tensor, **settings)


def test_labels_are_ordered_by_code_point_and_targets_are_the_annotated_weights(tmp_path: Path) -> None:
    pictures = make(tmp_path)
    assert pictures.classes == ["B", "a", "b", "齐"]
    assert pictures.names == ["1.png", "sub/2.png", "3.png"]
    assert [pictures.path(index) for index in range(len(pictures))] == [tmp_path / name for name in pictures.names]
    targets = torch.stack([pictures[index].target for index in range(len(pictures))])
    assert targets.tolist() == [[0, 0, 1.5, 1], [1, 0, 0, 0], [3, 1, 0.5, 0]]
    assert targets.dtype == torch.float32
    assert pictures.counts().tolist() == [2, 1, 2, 1]
    assert pictures.counts().dtype == np.int64
    assert pictures.mean_weights().tolist() == [2, 1, 1, 1]


def test_batches_stack_the_targets_of_what_can_be_read(tmp_path: Path) -> None:
    pictures = make(tmp_path)
    (tmp_path / "sub" / "2.png").write_bytes(b"")
    batch = collate([pictures[index] for index in range(3)])
    assert torch.equal(batch.targets, torch.stack([pictures.target(0), pictures.target(2)]))
    assert batch.indices.tolist() == [0, 2]
    assert [index for index, _ in batch.failures] == [1]
    assert len(collate([pictures[1]]).targets) == 0


def test_given_labels_decide_on_the_order_and_others_are_left_out(tmp_path: Path) -> None:
    pictures = make(tmp_path, classes=["b", "x", "a"])
    assert pictures.classes == ["b", "x", "a"]
    assert pictures.names == ["1.png", "3.png"]
    assert torch.stack([pictures.target(0), pictures.target(1)]).tolist() == [[1.5, 0, 0], [0.5, 0, 1]]
    assert pictures.unknown == {"B": 2, "齐": 1}
    assert pictures.unlabelled == ["sub/2.png"]
    assert pictures.counts().tolist() == [2, 0, 1]
    assert pictures.mean_weights().tolist() == [1, 0, 1]


def test_left_out_pictures_shift_no_target(tmp_path: Path) -> None:
    pictures = make(tmp_path)
    expected = pictures.target(2)
    pictures.leave_out({tmp_path / "sub" / "2.png"})
    assert pictures.names == ["1.png", "3.png"]
    assert torch.equal(pictures.target(1), expected)
    assert pictures.counts().tolist() == [1, 1, 2, 1]
    pictures.leave_out({tmp_path / "1.png", tmp_path / "3.png"})
    assert len(pictures) == 0


def test_labels_that_never_meet_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"3 annotated picture.* without any of the 1 labels"):
        make(tmp_path, classes=["A"])


def test_memory_grows_with_pictures_and_not_with_pictures_times_labels(tmp_path: Path) -> None:
    annotations = [Annotation(f"{number}.png", {str(number): 1.0, str(number + 1): 2.0}) for number in range(3_000)]
    tracemalloc.start()
    pictures = MultiLabelImageDataset(annotations, tmp_path, to_tensor)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(pictures.classes) == 3_001
    assert pictures.target(2_999).count_nonzero() == 2
    assert peak < 5e6  # a bool for each picture and label would be 9 MB


def test_what_is_left_out_of_a_file_is_told(tmp_path: Path) -> None:
    write_annotations(tmp_path / "val.csv", [*ANNOTATIONS, Annotation("../4.png", {"a": 1.0})])
    pictures, told = open_annotated(tmp_path / "val.csv", AnnotationRules(root=tmp_path, skip_invalid=True), to_tensor,
                                    classes=["b"])
    assert pictures.names == ["1.png", "3.png"]
    path = tmp_path / "val.csv"
    assert told[0].startswith(f"left out: found the image_path '../4.png', which leaves {tmp_path} in {path}, line 5;")
    assert told[1:] == [
        *(f"left out: the label {label} of {counted(count, 'picture')} in {path}, which the training set lacks"
          for label, count in (("B", 2), ("a", 1), ("齐", 1))),
        "left out: sub/2.png (the training set lacks all of its labels)"]


def test_counts_shares_and_mean_weights_are_those_of_the_pictures(tmp_path: Path) -> None:
    pictures = MultiLabelImageDataset([
        Annotation("1.png", {"a, b": 1.4, "c": 1.0}), Annotation("2.png", {"a, b": 1.0}),
        Annotation("3.png", {"c": 1.0}), Annotation("4.png", {"a, b": 1.2}), Annotation("5.png", {"d": 2.0})],
        tmp_path, to_tensor)
    pictures.leave_out({tmp_path / "5.png"})
    write_label_stats(tmp_path, pictures)
    assert [row for _, row in read_rows(tmp_path / "label_stats.csv", STATS_COLUMNS)] == [
        ["class_id", "class_name", "count", "share", "mean_weight"], ["0", "a, b", "3", "0.750000", "1.2"],
        ["1", "c", "2", "0.500000", "1"], ["2", "d", "0", "0.000000", "0"]]
