"""Sums over an evaluation that come out the same on any number of ranks."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from runtime.processes import gather
from utils import UserError


class ClassificationMeter:
    """Top-1, top-5, balanced accuracy and cross-entropy over an evaluation.

    Every rank updates with its own batches, each under its number in the whole evaluation; `result` adds the sums in
    the order of these numbers, so the figures are the single process's to the last digit.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.sums: dict[int, torch.Tensor] = {}
        self.support = torch.zeros(num_classes, dtype=torch.int64)
        self.hits = torch.zeros(num_classes, dtype=torch.int64)

    def update(self, number: int, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count batch `number`: `logits` (B, classes), `targets` (B,) int64."""
        ranked = logits.topk(min(5, self.num_classes)).indices == targets[:, None]
        right = ranked[:, 0]
        loss = F.cross_entropy(logits.float(), targets, reduction="none").double()
        self.sums[number] = torch.stack([right.sum().double(), ranked.sum().double(), loss.sum(),
                                         loss.new_tensor(len(targets))])
        self.support += targets.bincount(minlength=self.num_classes).cpu()
        self.hits += targets[right].bincount(minlength=self.num_classes).cpu()

    def result(self) -> dict[str, float]:
        """`top1`, `top5`, `balanced` in percent, `loss` in nats, `pictures`; the same on every rank.

        Raises:
            UserError: no picture was counted on any rank.
        """
        parts = gather(({number: sums.cpu() for number, sums in self.sums.items()}, self.support, self.hits))
        if not any(part[0] for part in parts):
            raise UserError("no picture to evaluate that can be read", "at least one", "see the list above")
        batches = {number: sums for part in parts for number, sums in part[0].items()}
        total = torch.zeros(4, dtype=torch.float64)
        for number in sorted(batches):
            total += batches[number]
        support, hits = sum(part[1] for part in parts), sum(part[2] for part in parts)
        seen = support > 0
        top1, top5, loss, pictures = total.tolist()
        return {"top1": 100 * top1 / pictures, "top5": 100 * top5 / pictures,
                "balanced": 100 * (hits[seen].double() / support[seen]).mean().item(), "loss": loss / pictures,
                "pictures": int(pictures)}
