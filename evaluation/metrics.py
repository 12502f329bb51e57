"""Classification metrics that come out the same on any number of ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
import torch.nn.functional as F

from runtime.class_parallel import Ranked
from runtime.processes import gather
from utils import UserError

THIRDS = ("head", "middle", "tail")


class ClassificationMeter:
    """Top-1, top-5, balanced accuracy and cross-entropy over an evaluation.

    Every rank updates with its own batches, each under its number in the whole evaluation; `result` adds the sums in
    the order of these numbers, so the figures equal a single process's to the last digit.

    Attributes:
        support: pictures of each class on all ranks, (classes,) int64; this and what follows is set by `result`.
        hits: those of them that were classified correctly, likewise.
        confusions: (class, predicted class) -> count. Sparse: at most one entry per picture, however many classes.
    """

    support: torch.Tensor
    hits: torch.Tensor
    confusions: Counter[tuple[int, int]]

    def __init__(self, num_classes: int, train_counts: np.ndarray | None = None) -> None:
        """Begin an evaluation; `train_counts`, (classes,), separates frequent and rare classes."""
        self.num_classes, self.train_counts = num_classes, train_counts
        self.sums: dict[int, torch.Tensor] = {}  # this rank's, as are those below
        self._support, self._hits = (torch.zeros(num_classes, dtype=torch.int64) for _ in range(2))
        self._confusions: Counter[tuple[int, int]] = Counter()

    def update(self, number: int, logits: torch.Tensor | Ranked, targets: torch.Tensor) -> None:
        """Count batch `number`: `logits` (B, classes), or what is known of them, `targets` (B,) int64."""
        count = min(5, self.num_classes)
        if isinstance(logits, Ranked):
            best, loss = logits.ids[:, :count], (logits.total - logits.own).double()
        else:
            best = logits.topk(count).indices
            loss = F.cross_entropy(logits.float(), targets, reduction="none").double()
        ranked = best == targets[:, None]
        right = ranked[:, 0]
        self.sums[number] = torch.stack([right.sum().double(), ranked.sum().double(), loss.sum(),
                                         loss.new_tensor(len(targets))])
        self._support += targets.bincount(minlength=self.num_classes).cpu()
        self._hits += targets[right].bincount(minlength=self.num_classes).cpu()
        self._confusions.update(zip(targets[~right].tolist(), best[~right, 0].tolist(), strict=True))

    def result(self) -> dict[str, float]:
        """`top1`, `top5`, `balanced` in percent, `loss` in nats, `pictures`; the same on every rank.

        With `train_counts` also `head`, `middle` and `tail`: balanced accuracy, in percent, of the third of the classes
        with the most training pictures, the next third, and the last.

        Raises:
            UserError: no picture was counted on any rank.
        """
        own = {number: sums.cpu() for number, sums in self.sums.items()}, self._support, self._hits, self._confusions
        sums, support, hits, confusions = zip(*gather(own), strict=True)
        batches = {number: batch for part in sums for number, batch in part.items()}
        if not batches:
            raise UserError("no picture to evaluate that can be read", "at least one", "see the list above")
        total = torch.zeros(4, dtype=torch.float64)
        for number in sorted(batches):
            total += batches[number]
        self.support, self.hits = torch.stack(support).sum(0), torch.stack(hits).sum(0)
        self.confusions = sum(confusions, Counter())
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
        present = support > 0
        return 100 * (hits[present].double() / support[present]).mean().item() if present.any() else 0.0
