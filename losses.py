"""Objectives: network outputs, targets and the pictures themselves -> one number."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Outputs = Tensor | tuple[Tensor, Tensor]


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing."""

    def __init__(self, smoothing: float = 0.0) -> None:
        """Take `smoothing`, the share of each target that goes to all classes alike, in [0, 1)."""
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of logits (B, classes) against targets: (B,) int64, or (B, classes) shares."""
        return F.cross_entropy(logits.float(), targets, label_smoothing=self.smoothing)


class DistillationLoss(nn.Module):
    """A loss on the labels, and beside it one on what a teacher says of the same pictures.

    A student with a distillation head answers the teacher with that head, one without it with its only one.

    **Source:** Hinton et al., arXiv 1503.02531 (soft); Touvron et al., arXiv 2012.12877, section 4 (hard, two heads).
    """

    def __init__(self, labels: nn.Module, teacher: Callable[[Tensor], Tensor], *, kind: str, alpha: float,
                 tau: float) -> None:
        """Combine two losses.

        Args:
            labels: the loss on (logits, targets, images).
            teacher: images (B, 3, S, S), as the student sees them, -> logits (B, classes).
            kind: `soft` compares distributions at temperature `tau`, `hard` takes the teacher's first choice as label.
            alpha: share of the teacher's loss, in [0, 1].
            tau: temperature, above 0.
        """
        super().__init__()
        self.labels, self.kind, self.alpha, self.tau = labels, kind, alpha, tau
        self.teacher = teacher

    def forward(self, outputs: Outputs, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of one head's logits (B, classes) or of both heads'."""
        student, answering = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        with torch.no_grad():
            taught = self.teacher(images).float()
        if self.kind == "hard":
            distillation = F.cross_entropy(answering.float(), taught.argmax(1))
        else:
            distillation = F.kl_div((answering.float() / self.tau).log_softmax(1), (taught / self.tau).log_softmax(1),
                                    reduction="batchmean", log_target=True) * self.tau**2
        return (1 - self.alpha) * self.labels(student, targets, images) + self.alpha * distillation
