"""Objectives: network outputs, targets and the pictures themselves -> one number."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

Outputs = Tensor | tuple[Tensor, Tensor]
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


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


class MultiLabelLoss(nn.Module):
    """Whose hands a picture shows, and in what shares, asked of one set of probabilities p = sigmoid(logits).

    *Presence* takes each label for itself: is the artist there, 1, or not, 0. *Share* is the cross-entropy between the
    weights divided by their sum and p divided by its sum. A picture without labels has no shares, so it adds nothing to
    the second.

    Targets are weights (B, labels), 0 for artists who are absent. A mixture of pictures is (B, 2, labels), presence and
    shares, each mixed in the pictures' proportion: an artist whose picture makes a tenth of the mixture is present to
    a tenth, and a trace that nobody can see is no presence.
    """

    def __init__(self, kind: str, *, pos_weight: Tensor, ratio_weight: float) -> None:
        """Combine the two.

        Args:
            kind: of the presence: `bce`, the mean over pictures and labels of the binary cross-entropy; `asl` or
                `focal`, summed over labels as published, since most of their terms vanish.
            pos_weight: factor of `bce` where an artist is present, (labels,).
            ratio_weight: factor of the share, at least 0; 0 turns it off.
        """
        super().__init__()
        self.presence = {"bce": self._bce, "asl": asymmetric_loss, "focal": focal_loss}[kind]
        self.ratio_weight = ratio_weight
        self.register_buffer("pos_weight", pos_weight.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of logits (B, labels) against targets (B, labels) or (B, 2, labels)."""
        logits, targets = logits.float(), targets.float()
        present, shares = targets.unbind(1) if targets.ndim == 3 else presence_and_shares(targets)
        loss = self.presence(logits, present)
        if self.ratio_weight:
            # log p - log sum p, without a quotient that could overflow or vanish.
            loss = loss + self.ratio_weight * F.cross_entropy(F.logsigmoid(logits), shares)
        return loss

    def _bce(self, logits: Tensor, present: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, present, pos_weight=self.pos_weight)


def presence_and_shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Both, (…, labels), of weights (…, labels): 1 where above 0, and the weights over their sum."""
    return (weights > 0).float(), F.normalize(weights, p=1.0, dim=-1)


def asymmetric_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy, (), in which artists who are clearly absent hardly count: γ+ = 0, γ- = 4, margin 0.05.

    **Source:** Ridnik et al., arXiv 2009.14119, equations 4 to 6; summed over labels, mean over pictures.
    """
    shifted = (logits.sigmoid() - 0.05).clamp(min=0)
    absent = (1 - present) * shifted**4 * (1 - shifted).log()
    return -(present * F.logsigmoid(logits) + absent).sum(1).mean()


def focal_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy, (), in which what is already right hardly counts: γ = 2, α = 0.25.

    **Source:** Lin et al., arXiv 1708.02002, equation 5; summed over labels, mean over pictures.
    """
    return sigmoid_focal_loss(logits, present, alpha=0.25, gamma=2).sum(1).mean()


def mix_several(mix: Mix) -> Mix:
    """`mix`, which mixes pictures and rows of targets, as one from weights (B, labels) to mixtures (B, 2, labels)."""

    def mixed(images: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        images, rows = mix(images, torch.cat(presence_and_shares(weights), 1))
        return images, rows.unflatten(1, (2, -1))

    return mixed
