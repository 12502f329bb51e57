"""What a network says of pictures whose artist is known or outside its classes, and the calibration that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evaluation.calibration import (
    CONFIDENT,
    POSSIBLE,
    UNKNOWN,
    Calibration,
    calibration_error,
    fit_temperature,
    separation,
    thresholds,
)
from inference.predictor import Failure, Predictor, Result
from runtime.logbook import progress
from runtime.options import InferenceOptions
from utils import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """The answers to N pictures.

    Attributes:
        logits: (N, classes).
        targets: (N,) class of the folder each picture lies in; -1 for another artist's.
        failures: pictures that could not be read.
        strangers: the names of folders of other artists.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    failures: Sequence[Failure]
    strangers: Sequence[str] = ()

    @property
    def right(self) -> np.ndarray:
        """Whether each first choice is right, (N,)."""
        return (self.logits.argmax(1) == self.targets).numpy()

    def scores(self, temperature: float) -> np.ndarray:
        """The highest probability of each picture, (N,) float64."""
        return (self.logits.double() / temperature).softmax(1).amax(1).numpy()


def ask(predictor: Predictor, pictures: Sequence[Path], options: InferenceOptions) -> Answers:
    """The answers to pictures whose folders bear the names of their artists."""
    classes = {name: number for number, name in enumerate(predictor.classes)}
    results: list[Result] = []
    failures: list[Failure] = []
    for answer in progress(predictor.answer(pictures, options), len(pictures)):
        (failures if isinstance(answer, Failure) else results).append(answer)
    logits = [result.logits for result in results] or [torch.empty(0, len(classes))]
    folders = [result.path.parent.name for result in results]
    return Answers(logits=torch.stack(logits) if results else logits[0], failures=failures,
                   targets=torch.tensor([classes.get(name, -1) for name in folders], dtype=torch.int64),
                   strangers=sorted(set(folders) - set(classes)))


def calibrate(known: Answers, others: Answers, error_rate: float, fingerprint: str,
              view: str) -> tuple[Calibration, dict[str, Any]]:
    """The calibration that validation answers and, where there are any, those to other artists' pictures ask for.

    Returns:
        the calibration, and the figures behind it: `accuracy`, `ece_before`, `ece_after`, `auroc` and `fpr95` where
        there are other artists, and per verdict the shares of right, wrong and other answers.

    Raises:
        UserError: no validation picture of the network's artists, or an artist outside them among the known or inside
            among the others.
    """
    if not len(known.targets):
        raise UserError("no validation picture that can be read", "one folder per artist in val/", "check --data-path")
    if strangers := known.strangers:
        raise UserError(f"validation pictures in folders that are no artist of the network ({', '.join(strangers)})",
                        "its artists only", "give such pictures to --unknown-dir")
    if (others.targets >= 0).any():
        raise UserError("a folder below --unknown-dir that bears the name of an artist of the network",
                        "artists that it does not know", "take that folder away")
    temperature = fit_temperature(known.logits, known.targets)
    scores, outside = known.scores(temperature), others.scores(temperature)
    confident, possible = thresholds(scores, known.right, outside, error_rate)
    calibration = Calibration(fingerprint=fingerprint, view=view, temperature=temperature, confident=confident,
                              possible=possible, error_rate=error_rate)
    figures = {"pictures": len(scores), "outside_pictures": len(outside), "accuracy": float(known.right.mean()),
               "ece_before": calibration_error(known.scores(1), known.right),
               "ece_after": calibration_error(scores, known.right),
               "verdicts": _shares(calibration, [scores[known.right], scores[~known.right], outside])}
    return calibration, figures | (separation(scores, outside) if len(outside) else {})


def _shares(calibration: Calibration, groups: Sequence[np.ndarray]) -> dict[str, list[float]]:
    """Of each group of scores, the share with each verdict."""
    verdicts = [[calibration.verdict(score) for score in group] for group in groups]
    return {name: [each.count(name) / max(1, len(each)) for each in verdicts]
            for name in (CONFIDENT, POSSIBLE, UNKNOWN)}
