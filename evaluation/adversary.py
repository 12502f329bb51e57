"""Pictures changed so little that nobody sees it, so that a network errs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

PGD_STEPS = 10


class Adversary:
    """Changes every value of a picture by at most epsilon, in the direction that raises the network's loss.

    `fgsm` takes one step of the whole length. `pgd` takes that step and then shorter ones, always within epsilon, and
    keeps for each picture what raised the loss most: it is never the weaker of the two.

    **Source:** Goodfellow et al., arXiv 1412.6572 (fgsm); Madry et al., arXiv 1706.06083 (pgd).
    """

    def __init__(self, network: torch.nn.Module, kind: str, *, epsilon: float, mean: Sequence[float],
                 std: Sequence[float]) -> None:
        """Prepare to deceive `network`.

        Args:
            network: in evaluation mode, where the pictures are.
            kind: `fgsm` or `pgd`.
            epsilon: the largest change of a value in 0…255, ≥ 0.
            mean: of the pictures' normalisation, per channel, of values in [0, 1].
            std: likewise.
        """
        self.network, self.kind = network, kind
        self.steps = (1.0,) if kind == "fgsm" else (1.0, *[0.25] * (PGD_STEPS - 1))
        self.mean, self.std, self.epsilon = torch.tensor(mean), torch.tensor(std), epsilon

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Normalised pictures (B, 3, S, S) and their classes (B,) int64 -> the same pictures, changed."""
        with torch.inference_mode(False), torch.enable_grad():
            images, targets = images.clone(), targets.clone()
            reach, black, white = (value.to(images).view(1, -1, 1, 1) for value in (
                self.epsilon / 255 / self.std, (0 - self.mean) / self.std, (1 - self.mean) / self.std))
            lowest, highest = torch.maximum(images - reach, black), torch.minimum(images + reach, white)
            changed = worst = images
            most = torch.full_like(images[:, 0, 0, 0], -torch.inf)
            for step in self.steps:
                losses, gradient = self._loss(changed, targets)
                worst, most = _worse(changed, losses, worst, most)
                changed = (changed + step * reach * gradient.sign()).clamp(lowest, highest)
            if self.kind == "fgsm":
                return changed
            losses, _ = self._loss(changed, targets)
            return _worse(changed, losses, worst, most)[0]

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each picture's loss, (B,), and its gradient."""
        images = images.detach().requires_grad_()
        losses = F.cross_entropy(self.network(images).float(), targets, reduction="none")
        return losses.detach(), torch.autograd.grad(losses.sum(), images)[0]


def _worse(images: torch.Tensor, losses: torch.Tensor, worst: torch.Tensor,
           most: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each picture the one of two with the greater loss, and that loss."""
    raised = losses > most
    return torch.where(raised.view(-1, 1, 1, 1), images, worst), torch.where(raised, losses, most)
