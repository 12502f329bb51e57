"""FGSM and PGD adversarial examples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

PGD_STEPS = 10


class Adversary:
    """Changes every value of an image by at most epsilon, in the direction that raises the network's loss.

    `fgsm` takes one step of length epsilon. `pgd` continues with shorter steps, always within epsilon, and keeps for
    each image the change with the highest loss: it is never weaker than `fgsm`.

    **Source:** Goodfellow et al., arXiv 1412.6572 (fgsm); Madry et al., arXiv 1706.06083 (pgd).
    """

    def __init__(self, network: torch.nn.Module, kind: str, *, epsilon: float, mean: Sequence[float],
                 std: Sequence[float]) -> None:
        """Prepare to attack `network`.

        Args:
            network: in evaluation mode, on the device of the images.
            kind: `fgsm` or `pgd`.
            epsilon: the largest change of a value in 0…255, ≥ 0.
            mean: of the images' normalisation, per channel, of values in [0, 1].
            std: likewise.
        """
        self.network, self.kind = network, kind
        self.steps = (1.0,) if kind == "fgsm" else (1.0, *[0.25] * (PGD_STEPS - 1))
        self.mean, self.std, self.epsilon = torch.tensor(mean), torch.tensor(std), epsilon

    def __call__(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Normalised images (B, 3, S, S) and their classes (B,) int64 -> the images, changed."""
        with torch.inference_mode(False), torch.enable_grad():
            images, targets = images.clone(), targets.clone()
            reach, black, white = (value.to(images).view(1, -1, 1, 1) for value in (
                self.epsilon / 255 / self.std, (0 - self.mean) / self.std, (1 - self.mean) / self.std))
            lowest, highest = torch.maximum(images - reach, black), torch.minimum(images + reach, white)
            changed = worst = images
            worst_losses = torch.full_like(images[:, 0, 0, 0], -torch.inf)
            for step in self.steps:
                losses, gradient = self._loss(changed, targets)
                worst, worst_losses = _keep_worse(changed, losses, worst, worst_losses)
                changed = (changed + step * reach * gradient.sign()).clamp(lowest, highest)
            if self.kind == "fgsm":
                return changed
            losses, _ = self._loss(changed, targets)
            return _keep_worse(changed, losses, worst, worst_losses)[0]

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each image's loss, (B,), and its gradient."""
        images = images.detach().requires_grad_()
        losses = F.cross_entropy(self.network(images).float(), targets, reduction="none")
        return losses.detach(), torch.autograd.grad(losses.sum(), images)[0]


def _keep_worse(images: torch.Tensor, losses: torch.Tensor, worst: torch.Tensor,
                worst_losses: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each image the one of two with the greater loss, and that loss."""
    raised = losses > worst_losses
    return torch.where(raised.view(-1, 1, 1, 1), images, worst), torch.where(raised, losses, worst_losses)
