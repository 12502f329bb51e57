"""Pictures with several weighted labels each, from an annotation file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import accumulate, compress
from pathlib import Path

import numpy as np
import torch

from data.image_list import ImageList
from data.images import DEFAULT_MAX_PIXELS
from data.multilabel.annotations import Annotation, AnnotationRules, read_annotations
from data.transforms import Transform
from utils import UserError


class MultiLabelImageDataset(ImageList):
    """Annotated pictures in the order of their file.

    Labels are kept as (label, weight) pairs, so memory grows with pictures and never with pictures times labels; only
    `target` makes a row of all labels.

    Attributes:
        root: the folder that relative paths start from.
        classes: label names; a picture's target has one weight for each.
        names: each picture's path as its annotation spells it.
        unknown: label → pictures, of labels that the given `classes` lack; they are left out of every target.
        unlabelled: names of pictures left out because all their labels are unknown.
    """

    def __init__(self, annotations: Sequence[Annotation], root: Path, transform: Transform, *,
                 classes: Sequence[str] | None = None, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Take the annotations over; no file is opened yet.

        Args:
            annotations: pictures and their labels.
            root: the folder that relative paths start from.
            transform: from an RGB picture to the network's input.
            classes: the names and order of the labels; without them, those of `annotations` in code-point order.
            max_pixels: pictures whose header claims more are unreadable.

        Raises:
            UserError: no picture has a label of `classes`.
        """
        super().__init__((), transform, max_pixels=max_pixels)
        self.root = root
        self.classes = sorted({label for _, labels in annotations for label in labels}) if classes is None else \
            list(classes)
        places = {name: place for place, name in enumerate(self.classes)}
        self.unknown: dict[str, int] = {}
        self.unlabelled: list[str] = []
        self.names: list[str] = []
        pairs: list[tuple[int, float]] = []
        lengths: list[int] = []
        for name, labels in annotations:
            known = [(places[label], weight) for label, weight in labels.items() if label in places]
            for label in labels.keys() - places.keys():
                self.unknown[label] = self.unknown.get(label, 0) + 1
            if known:
                self.names.append(name)
                pairs += known
                lengths.append(len(known))
            else:
                self.unlabelled.append(name)
        if not self.names:
            raise UserError(f"{len(annotations)} annotated picture(s) without any of the {len(self.classes)} labels of "
                            "the training set", "the labels that are trained", "check that both files name them alike")
        self.unknown = dict(sorted(self.unknown.items()))
        self._set_pairs(pairs, lengths)

    def _set_pairs(self, pairs: Iterable[tuple[int, float]], lengths: Iterable[int]) -> None:
        """Picture i has the pairs `starts[i]` to `starts[i + 1]`."""
        table = np.fromiter(pairs, dtype=[("label", np.int64), ("weight", np.float32)])
        self.labels, self.weights = table["label"].copy(), table["weight"].copy()
        self.starts = np.fromiter(accumulate(lengths, initial=0), dtype=np.int64)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of picture `index`."""
        return self.root / self.names[index]

    def target(self, index: int) -> torch.Tensor:
        """The weights of picture `index`, as annotated, (labels,) float32; 0 for a label it lacks."""
        own = slice(self.starts[index], self.starts[index + 1])
        weights = torch.zeros(len(self.classes))
        weights[torch.from_numpy(self.labels[own])] = torch.from_numpy(self.weights[own])
        return weights

    def counts(self) -> np.ndarray:
        """Pictures of each label, (labels,) int64."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def mean_weights(self) -> np.ndarray:
        """Mean weight of each label over the pictures that have it, (labels,) float64; 0 where none has."""
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


def open_annotated(path: Path, rules: AnnotationRules, transform: Transform, *, say: Callable[[str], None],
                   classes: Sequence[str] | None = None,
                   max_pixels: int = DEFAULT_MAX_PIXELS) -> MultiLabelImageDataset:
    """The pictures of an annotation file; what is left out of them is told to `say`, line by line.

    Args:
        path: the annotation file.
        rules: how it is read.
        transform: from an RGB picture to the network's input.
        say: takes a line to tell the user.
        classes: the names and order of the labels; without them, those of the file in code-point order.
        max_pixels: pictures whose header claims more are unreadable.

    Raises:
        UserError: the file cannot be used, or has no picture with a label of `classes`.
    """
    annotations, invalid = read_annotations(path, rules)
    dataset = MultiLabelImageDataset(annotations, rules.root, transform, classes=classes, max_pixels=max_pixels)
    for error in invalid:
        say(f"left out: {error}")
    for label, count in dataset.unknown.items():
        say(f"left out: the label {label} of {count} picture(s) in {path}, which the training set lacks")
    for name in dataset.unlabelled:
        say(f"left out: {name} (the training set lacks all of its labels)")
    return dataset
