"""One class per picture: how networks are judged, and how batches are mixed while they learn."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from data.transforms import Mix, make_mix
from evaluation.evaluator import Examination
from evaluation.metrics import ClassificationMeter
from evaluation.report import write_report
from runtime.options import AugmentationOptions
from utils import UserError


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


class ChosenClasses(torch.nn.Module):
    """A network that chooses among some of its classes only."""

    def __init__(self, network: torch.nn.Module, known: Sequence[str], chosen: Sequence[str]) -> None:
        """Wrap `network`, which knows the classes `known`, to answer (B, chosen) logits.

        Raises:
            UserError: it does not know one of `chosen`.
        """
        super().__init__()
        places = {name: place for place, name in enumerate(known)}
        strangers = [name for name in chosen if name not in places]
        if strangers:
            raise UserError(f"a network of {len(known)} classes, without {strangers[0]}"
                            + (f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""),
                            f"one that knows all {len(chosen)} classes of the protocol",
                            "take a network that was trained on ImageNet-1K, in folders named by WordNet ids")
        self.network = network
        self.register_buffer("columns", torch.tensor([places[name] for name in chosen]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> logits (B, chosen), in the order of the chosen classes."""
        return self.network(images)[:, self.columns]
