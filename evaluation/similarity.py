"""How near a student's features come to its teacher's."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from evaluation.evaluator import Evaluation
from losses import feature_losses
from runtime.processes import gather


class SimilarityMeter:
    """Collects the cosine similarity between predicted and wanted features; see `Meter`."""

    def __init__(self, blocks: Sequence[int]) -> None:
        """Expect features of these `blocks`, widths of consecutive groups of numbers; pooled ones are the last."""
        self.blocks = list(blocks)
        self._parts: dict[int, torch.Tensor] = {}

    def update(self, number: int, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Count batch `number`: predicted and wanted features, both (B, D), standardised."""
        outputs, targets = outputs.double(), targets.double()
        pooled = slice(-self.blocks[-1], None)
        self._parts[number] = torch.stack([
            F.cosine_similarity(outputs, targets), F.cosine_similarity(outputs[:, pooled], targets[:, pooled]),
            feature_losses(outputs, targets, self.blocks)], 1).cpu()

    def result(self) -> dict[str, float]:
        """Means over all images of all ranks: `cosine` of whole vectors, `cosine_pooled` of pooled features, `loss`."""
        parts = {number: part for held in gather(self._parts) for number, part in held.items()}
        if not parts:
            return dict.fromkeys(("cosine", "cosine_pooled", "loss"), float("nan"))
        means = torch.cat([parts[number] for number in sorted(parts)]).mean(0).tolist()
        return dict(zip(("cosine", "cosine_pooled", "loss"), means, strict=True))


def similarity_evaluation(blocks: Sequence[int]) -> Evaluation:
    """The evaluation of a student, monitored by the cosine similarity; `blocks` as for `SimilarityMeter`."""
    return Evaluation(make_meter=functools.partial(SimilarityMeter, blocks), monitor="cosine",
                      title="cosine similarity", format_line=format_similarity_line)


def format_similarity_line(figures: dict[str, float]) -> str:
    """The line printed after every evaluation."""
    return (f"* cosine similarity {figures['cosine']:.4f} of pooled features {figures['cosine_pooled']:.4f} "
            f"loss {figures['loss']:.4f}")
