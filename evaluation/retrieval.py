"""Retrieval figures as part of a trainer's evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from evaluation.evaluator import Evaluation, Meter
from runtime.networks import WithFeatures
from runtime.processes import gather, on_first_rank
from search.retrieval import format_retrieval, retrieval_figures


class RetrievalMeter:
    """Collects features beside another meter.

    Attributes:
        meter: the other one; it gets the logits.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, number: int, outputs: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor) -> None:
        """Count batch `number`: logits (B, classes) and features (B, D), `targets` (B,) int64."""
        logits, features = outputs
        self.meter.update(number, logits, targets)
        self._parts[number] = features.float().cpu().numpy(), targets.cpu().numpy()

    def result(self) -> dict[str, float]:
        """The other meter's figures and those of `retrieval_figures`, the same on every rank.

        The latter are missing where no two images share an artist.
        """
        figures = self.meter.result()
        parts = {number: part for held in gather(self._parts) for number, part in held.items()}
        features, labels = (np.concatenate([parts[number][column] for number in sorted(parts)]) for column in (0, 1))
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
