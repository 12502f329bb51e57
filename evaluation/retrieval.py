"""An evaluation that also tells how well the features find pictures of the same artist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from evaluation.evaluator import Examination, Meter
from runtime.arguments import flag
from runtime.networks import features_and_logits
from runtime.processes import gather, on_first_rank
from search.retrieval import headline, retrieval_figures


@dataclass(frozen=True, kw_only=True)
class RetrievalOptions:
    """Retrieval."""

    eval_retrieval: bool = flag(False, "in every evaluation, also tell how well the features find pictures of the same "
                                       "artist; its time grows with the square of the number of pictures")


class FeaturesAndLogits(torch.nn.Module):
    """A network that answers with both in evaluation."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Wrap `network`, any model of timm's kind."""
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, S, S) -> features (B, D) and logits (B, classes)."""
        return features_and_logits(self.network, images)


class RetrievalMeter:
    """Collects what another meter does, and the features.

    Attributes:
        meter: the other one; it gets the logits.
    """

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self.parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, number: int, outputs: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor) -> None:
        """Count batch `number`: features (B, D) and logits (B, classes), `targets` (B,) int64."""
        features, logits = outputs
        self.meter.update(number, logits, targets)
        self.parts[number] = features.float().cpu().numpy(), targets.cpu().numpy()

    def result(self) -> dict[str, float]:
        """The other meter's figures and those of `retrieval_figures`, the same on every rank.

        Where every picture has an artist of its own, there is nothing to find, and the latter are missing.
        """
        figures = self.meter.result()
        parts = {number: part for held in gather(self.parts) for number, part in held.items()}
        features, labels = (np.concatenate([parts[number][column] for number in sorted(parts)]) for column in (0, 1))
        if len(np.unique(labels)) == len(labels):
            return figures
        return figures | on_first_rank(lambda: retrieval_figures(features, labels))


def with_retrieval(examination: Examination) -> Examination:
    """The same examination, and retrieval besides."""

    def told(figures: dict[str, float]) -> str:
        line = examination.headline(figures)
        return f"{line}\n{headline(figures)}" if "recall1" in figures else line

    def report(folder: Path, meter: RetrievalMeter) -> object:
        return examination.report(folder, meter.meter)

    return replace(examination, meter=lambda: RetrievalMeter(examination.meter()), asked=FeaturesAndLogits,
                   headline=told, report=report)
