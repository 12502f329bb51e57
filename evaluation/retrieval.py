"""Retrieval figures as part of a trainer's evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evaluation.evaluator import Evaluation, Meter
from evaluation.features import FeatureMeter
from runtime.networks import WithFeatures
from runtime.processes import on_first_rank
from search.retrieval import format_retrieval, retrieval_figures


class RetrievalMeter:
    """Collects features beside another meter.

    Attributes:
        meter: the other one; it gets the logits.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter, self._features = meter, FeatureMeter()

    def update(self, number: int, outputs: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor) -> None:
        """Count batch `number`: logits (B, classes) and features (B, D), `targets` (B,) int64."""
        self.meter.update(number, outputs[0], targets)
        self._features.update(number, outputs, targets)

    def result(self) -> dict[str, float]:
        """The other meter's figures and those of `retrieval_figures`, the same on every rank.

        The latter are missing where no two images share an artist.
        """
        figures = self.meter.result()
        features, labels = self._features.collect()
        if len(np.unique(labels)) == len(labels):
            return figures
        return figures | on_first_rank(lambda: retrieval_figures(features, labels))


def add_retrieval(evaluation: Evaluation) -> Evaluation:
    """The same evaluation with retrieval figures added."""

    def format_line(figures: dict[str, float]) -> str:
        line = evaluation.format_line(figures)
        return f"{line}\n{format_retrieval(figures)}" if "recall1" in figures else line

    def write_report(folder: Path, meter: RetrievalMeter) -> Mapping[str, Path]:
        return evaluation.write_report(folder, meter.meter)

    return replace(evaluation, make_meter=lambda: RetrievalMeter(evaluation.make_meter()), wrap_model=WithFeatures,
                   format_line=format_line, write_report=write_report)
