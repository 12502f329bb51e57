"""Evaluation with one class per image, and networks that choose among some of their classes only."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch

from evaluation.evaluator import Evaluation, write_no_report
from evaluation.metrics import ClassificationMeter
from evaluation.report import write_report
from utils import UserError


def classification_evaluation(classes: Sequence[str], train_counts: np.ndarray | None = None) -> Evaluation:
    """Top-1 and related figures; `train_counts`, (classes,), adds a report, and figures by frequency of classes."""
    report = write_no_report if train_counts is None else functools.partial(write_report, classes=classes,
                                                                            train_counts=train_counts)
    return Evaluation(make_meter=functools.partial(ClassificationMeter, len(classes), train_counts), monitor="top1",
                      title="top-1", format_line=format_classification_line, write_report=report)


def format_classification_line(figures: dict[str, float]) -> str:
    """The line printed after every evaluation."""
    return f"* top-1 {figures['top1']:.3f} top-5 {figures['top5']:.3f} loss {figures['loss']:.4f}"


class ClassSubset(torch.nn.Module):
    """A network whose logits are limited to some of its classes."""

    def __init__(self, network: torch.nn.Module, known: Sequence[str], chosen: Sequence[str]) -> None:
        """Wrap `network`, whose logits are those of `known`, to return those of `chosen`.

        Raises:
            UserError: `known` lacks one of `chosen`.
        """
        super().__init__()
        columns = {name: column for column, name in enumerate(known)}
        unknown = [name for name in chosen if name not in columns]
        if unknown:
            raise UserError(f"a network of {len(known)} classes, without {unknown[0]}"
                            + (f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""),
                            f"one that knows all {len(chosen)} classes of the protocol",
                            "take a network that was trained on ImageNet-1K, in folders named by WordNet ids")
        self.network = network
        self.register_buffer("columns", torch.tensor([columns[name] for name in chosen]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> logits (B, chosen), in the order of the chosen classes."""
        return self.network(images)[:, self.columns]
