"""One class per picture: how networks are judged, and how batches are mixed while they learn."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from data.transforms import Mix, make_mix
from runtime.evaluation import Examination
from runtime.metrics import ClassificationMeter
from runtime.options import AugmentationOptions
from runtime.report import write_report


def examine(classes: Sequence[str], train_counts: np.ndarray | None = None) -> Examination:
    """Top-1 and its companions; with `train_counts`, (classes,), a report and the frequent and rare apart."""
    return Examination(meter=functools.partial(ClassificationMeter, len(classes), train_counts), monitor="top1",
                       title="top-1", headline=headline,
                       report=functools.partial(write_report, classes=classes, train_counts=train_counts))


def headline(figures: dict[str, float]) -> str:
    """The line printed after every evaluation."""
    return f"* top-1 {figures['top1']:.3f} top-5 {figures['top5']:.3f} loss {figures['loss']:.4f}"


def make_mixing(options: AugmentationOptions, num_classes: int) -> Mix | None:
    """Mixup and cutmix as the flags ask for them; None where they ask for neither."""
    return make_mix(num_classes, mixup=options.mixup, cutmix=options.cutmix, prob=options.mixup_prob,
                    switch_prob=options.mixup_switch_prob)
