"""Sums over an evaluation that come out the same on any number of ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from runtime.processes import gather
from utils import UserError

THIRDS = ("head", "middle", "tail")


class ClassificationMeter:
    """Top-1, top-5, balanced accuracy and cross-entropy over an evaluation.

    Every rank updates with its own batches, each under its number in the whole evaluation; `result` adds the sums in
    the order of these numbers, so the figures are the single process's to the last digit.

    Attributes:
        support: pictures of each class, (classes,) int64; those of all ranks once `result` was asked.
        hits: those of them that were recognised, likewise.
        confusions: how often which class was taken for which, as (class, taken for) -> count, likewise. Sparse: never
            more entries than pictures, however many classes there are.
    """

    def __init__(self, num_classes: int, train_counts: np.ndarray | None = None) -> None:
        """Begin an evaluation; with `train_counts`, (classes,), frequent and rare classes are told apart."""
        self.num_classes, self.train_counts = num_classes, train_counts
        self.sums: dict[int, torch.Tensor] = {}
        self.support = torch.zeros(num_classes, dtype=torch.int64)
        self.hits = torch.zeros(num_classes, dtype=torch.int64)
        self.confusions: Counter[tuple[int, int]] = Counter()

    def update(self, number: int, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count batch `number`: `logits` (B, classes), `targets` (B,) int64."""
        best = logits.topk(min(5, self.num_classes)).indices
        ranked = best == targets[:, None]
        right = ranked[:, 0]
        loss = F.cross_entropy(logits.float(), targets, reduction="none").double()
        self.sums[number] = torch.stack([right.sum().double(), ranked.sum().double(), loss.sum(),
                                         loss.new_tensor(len(targets))])
        self.support += targets.bincount(minlength=self.num_classes).cpu()
        self.hits += targets[right].bincount(minlength=self.num_classes).cpu()
        self.confusions.update(zip(targets[~right].tolist(), best[~right, 0].tolist(), strict=True))

    def result(self) -> dict[str, float]:
        """`top1`, `top5`, `balanced` in percent, `loss` in nats, `pictures`; the same on every rank.

        With `train_counts` also `head`, `middle` and `tail`: balanced accuracy, in percent, of the third of the classes
        with the most pictures to train on, the next, and the last.

        Raises:
            UserError: no picture was counted on any rank.
        """
        parts = gather(({number: sums.cpu() for number, sums in self.sums.items()}, self.support, self.hits,
                        self.confusions))
        if not any(part[0] for part in parts):
            raise UserError("no picture to evaluate that can be read", "at least one", "see the list above")
        batches = {number: sums for part in parts for number, sums in part[0].items()}
        total = torch.zeros(4, dtype=torch.float64)
        for number in sorted(batches):
            total += batches[number]
        self.support, self.hits = sum(part[1] for part in parts), sum(part[2] for part in parts)
        self.confusions = sum((part[3] for part in parts), Counter())
        top1, top5, loss, pictures = total.tolist()
        figures = {"top1": 100 * top1 / pictures, "top5": 100 * top5 / pictures,
                   "balanced": self._balanced(torch.arange(self.num_classes)), "loss": loss / pictures,
                   "pictures": int(pictures)}
        if self.train_counts is not None and self.num_classes >= len(THIRDS):
            order = torch.from_numpy(np.argsort(-self.train_counts, kind="stable"))
            figures |= {name: self._balanced(third) for name, third in
                        zip(THIRDS, order.tensor_split(len(THIRDS)), strict=True)}
        return figures

    def _balanced(self, classes: torch.Tensor) -> float:
        """Mean recall, in percent, of those of `classes` that have pictures; 0 where none has."""
        support, hits = self.support[classes], self.hits[classes]
        seen = support > 0
        return 100 * (hits[seen].double() / support[seen]).mean().item() if seen.any() else 0.0
