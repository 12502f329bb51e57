"""The split of annotated pictures into training and validation, with every kept label on both sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.multilabel.annotations import Annotation
from data.multilabel.stratification import stratify
from data.prepare.integrity import find_copies, scan_images
from data.worker_pool import Progress
from utils import UserError, counted


@dataclass(frozen=True, kw_only=True)
class MultiLabelRule:
    """How pictures are split.

    Attributes:
        val_ratio: share of each label's pictures for validation, in (0, 1).
        min_label_count: labels of fewer usable pictures are dropped.
        seed: another seed gives another choice.
    """

    val_ratio: float
    min_label_count: int
    seed: int


@dataclass(kw_only=True)
class MultiLabelSplit:
    """Where every picture and label goes.

    Attributes:
        train: pictures with their kept labels, in the order given.
        val: likewise.
        left_out: path of a picture on neither side → the reason.
        damaged: how many of them cannot be read.
        rare: dropped label → number of its pictures.
        one_sided: kept label of two pictures or more that is on one side only → number of its pictures.
    """

    train: list[Annotation] = field(default_factory=list)
    val: list[Annotation] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    damaged: int = 0
    rare: dict[str, int] = field(default_factory=dict)
    one_sided: dict[str, int] = field(default_factory=dict)


def plan_multilabel_split(folder: Path, annotations: Sequence[Annotation], rule: MultiLabelRule, *, max_pixels: int,
                          workers: int | None, progress: Callable[[str], Progress]) -> MultiLabelSplit:
    """Check every picture of `folder` that has labels, find equal files and split.

    Pictures of more than `max_pixels` px count as damaged. `workers` is that of `map_ordered`. `progress` turns a word
    for what is being done into a wrapper of the results.

    Raises:
        UserError: no label is left, or none with two pictures.
    """
    labels = {folder / annotation.path: annotation.labels for annotation in annotations}
    names = {folder / annotation.path: annotation.path for annotation in annotations}
    damaged = scan_images(list(names), workers=workers, max_pixels=max_pixels, progress=progress("checking"))
    left_out = {names[path]: reason for path, reason in damaged.items()}
    sound = [path for path in names if path not in damaged]
    for first, *others in find_copies(sound, workers=workers, progress=progress("comparing")):
        for path in others:
            same = labels[path] == labels[first]
            left_out[names[path]] = f"same file as {names[first]}" + ("" if same else ", labelled otherwise")
    split = split_annotations([annotation for annotation in annotations if annotation.path not in left_out], rule)
    split.left_out, split.damaged = left_out | split.left_out, len(damaged)
    return split


def split_annotations(annotations: Sequence[Annotation], rule: MultiLabelRule) -> MultiLabelSplit:
    """Drop the rare labels and split the pictures; depends on paths, labels and the rule only.

    Raises:
        UserError: no label is left, or none with two pictures.
    """
    counts = _counts(annotations)
    split = MultiLabelSplit(rare={label: count for label, count in counts.items() if count < rule.min_label_count})
    kept = [Annotation(path, {label: weight for label, weight in labels.items() if label not in split.rare})
            for path, labels in annotations]
    split.left_out = {path: "all its labels are rare" for path, labels in kept if not labels}
    kept = [annotation for annotation in kept if annotation.labels]
    if max(_counts(kept).values(), default=0) < 2:
        raise UserError(f"{counted(len(kept), 'picture')} and no label that two of them have", "labels on both "
                        "sides of the split", "add pictures, or lower --min-label-count")
    in_val = stratify([list(labels) for _, labels in kept], rule.val_ratio, seed=rule.seed)
    split.train = [annotation for annotation, is_val in zip(kept, in_val, strict=True) if not is_val]
    split.val = [annotation for annotation, is_val in zip(kept, in_val, strict=True) if is_val]
    train, val = _counts(split.train), _counts(split.val)
    split.one_sided = {label: count for label, count in _counts(kept).items()
                       if count > 1 and not (train.get(label) and val.get(label))}
    return split


def _counts(annotations: Sequence[Annotation]) -> Mapping[str, int]:
    """Number of pictures of each label, labels in code-point order."""
    return dict(sorted(Counter(label for _, labels in annotations for label in labels).items()))
