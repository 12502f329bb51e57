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
    """Cross-entropy with label smoothing and, for long tails, logit adjustment.

    **Source:** Menon et al., arXiv 2007.07314, equation 10.
    """

    def __init__(self, smoothing: float = 0.0, adjustment: Tensor | None = None) -> None:
        """Combine both.

        Args:
            smoothing: the share of each target that goes to all classes alike, in [0, 1).
            adjustment: added to the logits in training, (classes,): tau times the logarithm of each class's share of
                the training pictures. The network then need not learn that frequent classes are frequent.
        """
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("adjustment", adjustment, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of logits (B, classes) against targets: (B,) int64, or (B, classes) shares."""
        logits = logits.float() if self.adjustment is None else logits.float() + self.adjustment
        return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)


class ContrastiveLoss(nn.Module):
    """A loss on the logits, and beside it one that draws the features of each class together.

    **Source:** Khosla et al., arXiv 2004.11362, equation 2 (L_out), with one view per picture.
    """

    def __init__(self, labels: nn.Module, *, weight: float, temperature: float,
                 gather: Callable[[Tensor], Tensor]) -> None:
        """Combine two losses.

        Args:
            labels: the loss on (outputs, targets, images).
            weight: factor of the contrastive term, at least 0.
            temperature: of the cosines, above 0.
            gather: the rows of all processes, its own first, passing gradients back; so each picture is compared with
                those of all.
        """
        super().__init__()
        self.labels, self.weight, self.temperature, self.gather = labels, weight, temperature, gather

    def forward(self, outputs: tuple[Outputs, Tensor], targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of what the head says and the features (B, D), against targets (B,) int64."""
        answers, features = outputs
        return self.labels(answers, targets, images) + self.weight * self._contrast(features.float(), targets)

    def _contrast(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean over this process's pictures; one without another of its class counts 0."""
        own = F.normalize(features, dim=1)
        others, labels = self.gather(own), self.gather(targets)  # this process's rows come first
        oneself = torch.eye(len(own), len(others), dtype=torch.bool, device=own.device)
        similarity = (own @ others.T / self.temperature).masked_fill(oneself, -torch.inf)
        partners = (targets[:, None] == labels) & ~oneself
        surprise = -similarity.log_softmax(1).masked_fill(~partners, 0.0)
        return (surprise.sum(1) / partners.sum(1).clamp(min=1)).mean()


class DistillationLoss(nn.Module):
    """A loss on the labels, and beside it one on what a teacher says of the same pictures.

    A student with a distillation head answers the teacher with that head, one without it with its only one.

    **Source:** Hinton et al., arXiv 1503.02531 (soft); Touvron et al., arXiv 2012.12877, section 4 (hard, two heads).
    """

    def __init__(self, labels: nn.Module, teacher: Callable[[Tensor], Tensor], *, kind: str, alpha: float,
                 tau: float, several: bool = False) -> None:
        """Combine two losses.

        Args:
            labels: the loss on (logits, targets, images).
            teacher: images (B, 3, S, S), as the student sees them, -> logits (B, classes).
            kind: `soft` compares distributions at temperature `tau`, `hard` takes the teacher's first choice as label.
            alpha: share of the teacher's loss, in [0, 1].
            tau: temperature, above 0.
            several: each label has a probability of its own; `hard` then takes those that the teacher thinks present.
        """
        super().__init__()
        self.labels, self.kind, self.alpha, self.tau, self.several = labels, kind, alpha, tau, several
        self.teacher = teacher

    def forward(self, outputs: Outputs, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of one head's logits (B, classes) or of both heads'."""
        student, answering = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        with torch.no_grad():
            taught = self.teacher(images).float()
        if self.several:
            tau = 1.0 if self.kind == "hard" else self.tau
            wanted = (taught > 0).float() if self.kind == "hard" else (taught / tau).sigmoid()
            distillation = F.binary_cross_entropy_with_logits(answering.float() / tau, wanted) * tau**2
        elif self.kind == "hard":
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

    def __init__(self, kind: str, *, pos_weight: Tensor, ratio_weight: float, smoothing: float = 0.0) -> None:
        """Combine the two.

        Args:
            kind: of the presence: `bce`, the mean over pictures and labels of the binary cross-entropy; `asl` or
                `focal`, summed over labels as published, since most of their terms vanish.
            pos_weight: factor of `bce` where an artist is present, (labels,).
            ratio_weight: factor of the share, at least 0; 0 turns it off.
            smoothing: how far presence moves towards one half, and shares towards equal ones, in [0, 1).
        """
        super().__init__()
        self.presence = {"bce": self._bce, "asl": asymmetric_loss, "focal": focal_loss}[kind]
        self.ratio_weight, self.smoothing = ratio_weight, smoothing
        self.register_buffer("pos_weight", pos_weight.float(), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of logits (B, labels) against targets (B, labels) or (B, 2, labels)."""
        logits, targets = logits.float(), targets.float()
        present, shares = targets.unbind(1) if targets.ndim == 3 else presence_and_shares(targets)
        loss = self.presence(logits, present.lerp(torch.full_like(present, 0.5), self.smoothing))
        if self.ratio_weight:
            # log p - log sum p, without a quotient that could overflow or vanish.
            loss = loss + self.ratio_weight * F.cross_entropy(F.logsigmoid(logits), shares,
                                                              label_smoothing=self.smoothing)
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
