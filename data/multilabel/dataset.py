"""Images with several weighted labels each, from an annotation file, and the statistics of their labels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import compress
from pathlib import Path

import numpy as np
import torch

from data.csv_files import write_rows
from data.image_list import LabelledImages
from data.images import DEFAULT_MAX_PIXELS
from data.multilabel.annotations import Annotation, AnnotationRules, read_annotations
from data.multilabel.grammar import weight_notes
from data.transforms import Transform
from utils import UserError, counted

LABEL_STATS = "label_stats.csv"
STATS_COLUMNS = ("class_id", "class_name", "count", "share", "mean_weight")


class MultiLabelImageDataset(LabelledImages):
    """Annotated images in the order of their file.

    Labels are kept as (label, weight) pairs: image i has the pairs `starts[i]` to `starts[i + 1]`. So memory grows with
    images and not with images times labels. Only `target` makes a row of all labels.

    Attributes:
        root: the folder that relative paths start from.
        classes: label names; an image's target has one weight for each.
        names: each image's path as its annotation spells it.
        unknown: label → images, of labels that the given `classes` lack; they are in no target.
        unlabelled: names of images that are left out because all their labels are unknown.
    """

    def __init__(self, annotations: Sequence[Annotation], root: Path, transform: Transform, *,
                 classes: Sequence[str] | None = None, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Take the annotations; no file is opened yet.

        Args:
            annotations: images and their labels.
            root: the folder that relative paths start from.
            transform: from an RGB image to the network's input.
            classes: the names and order of the labels; without them, those of `annotations` in code-point order.
            max_pixels: images whose header claims more count as unreadable.

        Raises:
            UserError: no image has a label of `classes`.
        """
        super().__init__((), transform, max_pixels=max_pixels)
        self.root = root
        self.classes = list(classes if classes is not None else sorted({label for _, labels in annotations
                                                                        for label in labels}))
        class_ids = {name: number for number, name in enumerate(self.classes)}
        self.unknown: dict[str, int] = {}
        self.unlabelled: list[str] = []
        self.names: list[str] = []
        pairs: list[tuple[int, float]] = []
        starts = [0]
        for name, labels in annotations:
            known = [(class_ids[label], weight) for label, weight in labels.items() if label in class_ids]
            for label in labels.keys() - class_ids.keys():
                self.unknown[label] = self.unknown.get(label, 0) + 1
            if known:
                self.names.append(name)
                pairs += known
                starts.append(len(pairs))
            else:
                self.unlabelled.append(name)
        if not self.names:
            raise UserError(f"{counted(len(annotations), 'annotated picture')} without any of the {len(self.classes)} "
                            "labels of the training set", "the labels that are trained",
                            "check that both files name them alike")
        self.unknown = dict(sorted(self.unknown.items()))
        table = np.array(pairs, dtype=[("label", np.int64), ("weight", np.float32)])
        self.labels, self.weights = table["label"].copy(), table["weight"].copy()
        self.starts = np.array(starts, dtype=np.int64)

    def target(self, index: int) -> torch.Tensor:
        """The weights of image `index`, as annotated, (labels,) float32; 0 for a label it lacks."""
        own = slice(self.starts[index], self.starts[index + 1])
        weights = torch.zeros(len(self.classes))
        weights[torch.from_numpy(self.labels[own])] = torch.from_numpy(self.weights[own])
        return weights

    def counts(self) -> np.ndarray:
        """Images of each label, (labels,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def mean_weights(self) -> np.ndarray:
        """Mean weight of each label over the images that have it, (labels,) float64; 0 for a label without images."""
        sums = np.bincount(self.labels, self.weights, minlength=len(self.classes))
        return sums / np.maximum(self.counts(), 1)

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        kept = np.array([self.path(index) not in damaged for index in range(len(self))], dtype=bool)
        lengths = np.diff(self.starts)
        chosen = np.repeat(kept, lengths)
        self.names = list(compress(self.names, kept))
        self.labels, self.weights = self.labels[chosen], self.weights[chosen]
        self.starts = np.concatenate([[0], np.cumsum(lengths[kept])])


def open_annotated(path: Path, rules: AnnotationRules, transform: Transform, *, classes: Sequence[str] | None = None,
                   max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[MultiLabelImageDataset, list[str]]:
    """The images of an annotation file, and one line for each row, label and image that is left out.

    Args:
        path: the annotation file.
        rules: how it is read.
        transform: from an RGB image to the network's input.
        classes: the names and order of the labels; without them, those of the file in code-point order.
        max_pixels: images whose header claims more count as unreadable.

    Raises:
        UserError: the file cannot be used, or has no image with a label of `classes`.
    """
    annotations, invalid = read_annotations(path, rules)
    dataset = MultiLabelImageDataset(annotations, rules.root, transform, classes=classes, max_pixels=max_pixels)
    return dataset, [
        *(f"left out: {error}" for error in invalid),
        *weight_notes(dataset.classes if classes is None else ()),
        *(f"left out: the label {label} of {counted(count, 'picture')} in {path}, which the training set lacks"
          for label, count in dataset.unknown.items()),
        *(f"left out: {name} (the training set lacks all of its labels)" for name in dataset.unlabelled)]


def write_label_stats(folder: Path, dataset: MultiLabelImageDataset) -> None:
    """Write one row per label, in the order of ids, to label_stats.csv in `folder`.

    `count` is the number of images with the label, `share` their share of all images, `mean_weight` the label's mean
    weight over them; all three are 0 for a label whose images are all damaged.
    """
    counts, weights = dataset.counts(), dataset.mean_weights()
    write_rows(folder / LABEL_STATS, [STATS_COLUMNS, *(
        (number, name, counts[number], f"{counts[number] / len(dataset):.6f}", f"{weights[number]:.6g}")
        for number, name in enumerate(dataset.classes))])
