"""Training losses: network outputs, targets and images -> one number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

Outputs = Tensor | tuple[Tensor, Tensor]


class ClassificationLoss(nn.Module):
    """Cross-entropy with label smoothing and, for long tails, logit adjustment.

    **Source:** Menon et al., arXiv 2007.07314, equation 10.
    """

    adjustment: Tensor | None

    def __init__(self, smoothing: float = 0.0, adjustment: Tensor | None = None) -> None:
        """Set up both.

        Args:
            smoothing: the share of each target that is spread evenly over all classes, in [0, 1).
            adjustment: added to the logits in training, (classes,): tau times the logarithm of each class's share of
                the training images. The network then need not learn that frequent classes are frequent.
        """
        super().__init__()
        self.smoothing = smoothing
        self.register_buffer("adjustment", adjustment, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of logits (B, classes) against targets: (B,) int64, or (B, classes) shares."""
        logits = logits.float() if self.adjustment is None else logits.float() + self.adjustment
        return F.cross_entropy(logits, targets, label_smoothing=self.smoothing)


class ContrastiveLoss(nn.Module):
    """A loss on the logits plus a supervised contrastive loss on the features.

    **Source:** Khosla et al., arXiv 2004.11362, equation 2 (L_out), with one view per image.
    """

    def __init__(self, label_loss: nn.Module, *, weight: float, temperature: float,
                 gather: Callable[[Tensor], Tensor]) -> None:
        """Combine two losses.

        Args:
            label_loss: the loss on (outputs, targets, images).
            weight: factor of the contrastive term, at least 0.
            temperature: of the cosines, above 0.
            gather: returns the rows of all processes, this one's first, with gradients; so each image is compared
                with those of all processes.
        """
        super().__init__()
        self.label_loss, self.weight, self.temperature, self.gather = label_loss, weight, temperature, gather

    def forward(self, outputs: tuple[Outputs, Tensor], targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of the head's logits and the features (B, D) against targets (B,) int64."""
        logits, features = outputs
        return self.label_loss(logits, targets, images) + self.weight * self._contrast(features.float(), targets)

    def _contrast(self, features: Tensor, targets: Tensor) -> Tensor:
        """Mean over this process's images; an image without another of its class counts 0."""
        own = F.normalize(features, dim=1)
        others, labels = self.gather(own), self.gather(targets)  # this process's rows come first
        self_mask = torch.eye(len(own), len(others), dtype=torch.bool, device=own.device)
        similarity = (own @ others.T / self.temperature).masked_fill(self_mask, -torch.inf)
        positives = (targets[:, None] == labels) & ~self_mask
        nll = -similarity.log_softmax(1).masked_fill(~positives, 0.0)
        return (nll.sum(1) / positives.sum(1).clamp(min=1)).mean()


class DistillationLoss(nn.Module):
    """A loss on the labels plus a loss on a teacher's outputs for the same images.

    A student with a distillation head is compared with the teacher by that head, another student by its only head.

    **Source:** Hinton et al., arXiv 1503.02531 (soft); Touvron et al., arXiv 2012.12877, section 4 (hard, two heads).
    """

    def __init__(self, label_loss: nn.Module, teacher: Callable[[Tensor], Tensor], *, kind: str, alpha: float,
                 tau: float, multilabel: bool = False) -> None:
        """Combine two losses.

        Args:
            label_loss: the loss on (logits, targets, images).
            teacher: the student's input images (B, 3, S, S) -> logits (B, classes).
            kind: `soft` compares distributions at temperature `tau`, `hard` takes the teacher's first choice as label.
            alpha: share of the teacher's loss, in [0, 1].
            tau: temperature, above 0.
            multilabel: each label has its own probability; `hard` then takes all labels that the teacher predicts.
        """
        super().__init__()
        self.label_loss, self.kind, self.alpha, self.tau, self.multilabel = label_loss, kind, alpha, tau, multilabel
        self.teacher = teacher

    def forward(self, outputs: Outputs, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of one head's logits (B, classes) or of both heads'."""
        label_logits, logits = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        logits = logits.float()
        with torch.no_grad():
            teacher_logits = self.teacher(images).float()
        if self.multilabel:
            tau = 1.0 if self.kind == "hard" else self.tau
            wanted = (teacher_logits > 0).float() if self.kind == "hard" else (teacher_logits / tau).sigmoid()
            distillation = F.binary_cross_entropy_with_logits(logits / tau, wanted) * tau**2
        elif self.kind == "hard":
            distillation = F.cross_entropy(logits, teacher_logits.argmax(1))
        else:
            distillation = F.kl_div((logits / self.tau).log_softmax(1), (teacher_logits / self.tau).log_softmax(1),
                                    reduction="batchmean", log_target=True) * self.tau**2
        distillation = distillation + 0 * teacher_logits.sum()  # NaN stays visible: argmax and > hide it
        return (1 - self.alpha) * self.label_loss(label_logits, targets, images) + self.alpha * distillation


class MultiLabelLoss(nn.Module):
    """Presence and share of each artist in an image, both from the probabilities p = sigmoid(logits).

    *Presence* is a binary loss per label: the artist is there (1) or not (0). *Share* is the cross-entropy between the
    weights divided by their sum and p divided by its sum; an image without labels adds nothing to it.

    Targets are weights (B, labels), 0 for absent artists. Mixed images have targets (B, 2, labels): presence and
    shares, both mixed in the images' proportion. An artist whose image is a tenth of the mixture has presence 0.1.
    """

    pos_weight: Tensor

    def __init__(self, kind: str, *, pos_weight: Tensor, ratio_weight: float, smoothing: float = 0.0) -> None:
        """Combine the two.

        Args:
            kind: of the presence loss: `bce`, the mean over images and labels of the binary cross-entropy; `asl` or
                `focal`, summed over labels as published, since most of their terms vanish.
            pos_weight: factor of `bce` where an artist is present, (labels,).
            ratio_weight: factor of the share loss, at least 0; 0 turns it off.
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
    """Both, (…, labels), from weights (…, labels): 1 where the weight is above 0; the weight over the sum."""
    return (weights > 0).float(), F.normalize(weights, p=1.0, dim=-1)


def asymmetric_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy, (), in which clearly absent artists hardly count: γ+ = 0, γ- = 4, margin 0.05.

    **Source:** Ridnik et al., arXiv 2009.14119, equations 4 to 6; summed over labels, mean over images.
    """
    shifted = (logits.sigmoid() - 0.05).clamp(min=0)
    absent = (1 - present) * shifted**4 * (1 - shifted).log()
    return -(present * F.logsigmoid(logits) + absent).sum(1).mean()


def focal_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy, (), in which confident right answers hardly count: γ = 2, α = 0.25.

    **Source:** Lin et al., arXiv 1708.02002, equation 5; summed over labels, mean over images.
    """
    return sigmoid_focal_loss(logits, present, alpha=0.25, gamma=2).sum(1).mean()


class FeatureLoss(nn.Module):
    """How far predicted features are from a teacher's; see `feature_losses`."""

    def __init__(self, teacher: Callable[[Tensor], tuple[Tensor, Tensor]], blocks: Sequence[int]) -> None:
        """Compare with `teacher`: images (B, 3, T, T) -> logits and standardised features (B, D), of these `blocks`."""
        super().__init__()
        self.teacher, self.blocks = teacher, list(blocks)

    def forward(self, outputs: Tensor, targets: Tensor, images: Tensor) -> Tensor:
        """Loss, (), of predicted features (B, D) against `targets`: the teacher's features, or the images it sees."""
        if targets.ndim > 2:
            with torch.no_grad():
                _, targets = self.teacher(targets)
        return feature_losses(outputs.float(), targets.float(), self.blocks).mean()


def feature_losses(predicted: Tensor, wanted: Tensor, blocks: Sequence[int]) -> Tensor:
    """Smooth L1 plus one minus the cosine similarity, mean over `blocks` of columns: two (B, D) -> (B,)."""
    losses = [F.smooth_l1_loss(found, right, reduction="none").mean(1) + 1 - F.cosine_similarity(found, right)
              for found, right in zip(predicted.split(blocks, 1), wanted.split(blocks, 1), strict=True)]
    return torch.stack(losses).mean(0)
