"""Evaluation of a network whose classifier is divided among ranks: no rank ever holds all logits of a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from evaluation.evaluator import Evaluation, Meter
from runtime.class_parallel import DividedLinear, HeadInput, Ranked, divided_classifier, rank_answers
from runtime.processes import gather


def divide_evaluation(evaluation: Evaluation, network: Callable[[], torch.nn.Module], count: int) -> Evaluation:
    """The same evaluation, whose meters get a `Ranked` of `count` classes in place of logits.

    Where the classifier of `network`, the one that will be evaluated, is whole, nothing changes.
    """

    def make_meter() -> Meter:
        head = divided_classifier(network())
        return _DividedMeter(evaluation.make_meter(), head, count) if head else evaluation.make_meter()

    def write_report(folder: Path, meter: Any) -> Mapping[str, Path]:
        return evaluation.write_report(folder, meter.meter if isinstance(meter, _DividedMeter) else meter)

    return replace(evaluation, make_meter=make_meter, write_report=write_report)


class _DividedMeter:
    """Keeps what the classifier reads of each batch, and asks all ranks once each has seen all of its batches.

    Ranks may have other numbers of batches, so they cannot ask one another in between.

    Attributes:
        meter: gets the answers.
    """

    def __init__(self, meter: Meter, head: DividedLinear, count: int) -> None:
        self.meter, self._head, self._count = meter, head, count
        self._waiting: list[tuple[int, Any, torch.Tensor]] = []

    def update(self, number: int, outputs: Any, targets: torch.Tensor) -> None:
        """Keep batch `number`, on the CPU; see `Meter`."""
        self._waiting.append((number, _replace(outputs, lambda found: HeadInput(found.features.cpu())), targets))

    def result(self) -> dict[str, float]:
        """The other meter's figures."""
        for step in range(max(gather(len(self._waiting)))):
            if step < len(self._waiting):
                number, outputs, targets = self._waiting[step]
                self.meter.update(number, _replace(outputs, lambda found, labels=targets: self._rank(
                    found.features, labels)), targets)
            else:
                self._rank(self._head.weight[:0], torch.empty(0, dtype=torch.int64))
        self._waiting = []
        return self.meter.result()

    def _rank(self, features: torch.Tensor, targets: torch.Tensor) -> Ranked:
        return rank_answers(self._head, features, targets, self._count)


def _replace(outputs: Any, change: Callable[..., Any]) -> Any:
    """`outputs`, or a tuple of them, with each `HeadInput` changed."""
    if isinstance(outputs, tuple):
        return tuple(_replace(part, change) for part in outputs)
    return change(outputs) if isinstance(outputs, HeadInput) else outputs
