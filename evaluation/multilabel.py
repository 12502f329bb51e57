"""Figures of pictures with several labels each: the same on any number of processes, in memory that stays bounded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.label_scores import AT_ONCE, MOST_KEPT, BinnedScores, KeptScores, PresentScores, Rivals
from runtime.processes import gather
from utils import UserError


class MultiLabelMeter:
    """Average precision, precision, recall, F1, shares and coverage over an evaluation.

    Every rank updates with its own batches, each under its number in the whole evaluation; sums are added in the order
    of these numbers and everything else is counted, so the figures are the single process's to the last digit.

    Up to 2e8 pictures x labels every score is kept and every figure is exact. Beyond that the scores of absent labels
    are counted in bins; average precision is then the middle of what the bins leave possible, and half of that width
    is its error bound. All other figures stay exact, but for the best thresholds, which are the best ends of bins.

    Attributes:
        support: pictures of each label, (labels,) int64; those of all ranks once `result` was asked.
        ap: average precision of each label, (labels,) float64 in [0, 1]; this and what follows after `result`.
        ap_error: how far it may be from the exact one, likewise; 0 up to 2e8 pictures x labels.
        f1: the highest F1 that a threshold gives each label, likewise.
        thresholds: that threshold, a probability; where a label has no picture, the meter's own.
    """

    def __init__(self, classes: Sequence[str], threshold: float, *, most_kept: int = MOST_KEPT) -> None:
        """Begin an evaluation.

        Args:
            classes: names of the labels, the columns of the logits.
            threshold: probability from which on a label counts as predicted.
            most_kept: pictures x labels up to which average precision is exact.
        """
        self.classes, self.threshold, self.most_kept = classes, threshold, most_kept
        self.num_labels = num_labels = len(classes)
        self.sums: dict[int, list[float]] = {}
        self.support, self.predicted, self.hits = (torch.zeros(num_labels, dtype=torch.int64) for _ in range(3))
        self.present = PresentScores()
        self.absent: KeptScores | BinnedScores = KeptScores(num_labels)

    def update(self, number: int, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count batch `number`: `logits` (B, labels), `targets` (B, labels) weights, 0 for absent labels."""
        rows = max(1, AT_ONCE // self.num_labels)
        parts = [self._count(*part) for part in zip(logits.split(rows), targets.split(rows), strict=True)]
        self.sums[number] = torch.stack(parts).sum(0).tolist()
        if isinstance(self.absent, KeptScores) and self.absent.pictures * self.num_labels > self.most_kept:
            self._count_in_bins(logits.device)

    def _count(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores, present = logits.float(), targets > 0
        sums = _sums(scores, targets, present)
        scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)  # ranked last; the loss shows it
        predicted = scores.sigmoid() >= self.threshold
        self.support += present.sum(0).cpu()
        self.predicted += predicted.sum(0).cpu()
        self.hits += (predicted & present).sum(0).cpu()
        self.present.add(present.nonzero()[:, 1], scores[present])
        self.absent.add(scores.masked_fill(present, -torch.inf))
        return sums

    def _count_in_bins(self, device: torch.device) -> None:
        kept, self.absent = self.absent, BinnedScores(self.num_labels, device)
        for scores in kept.forget():
            self.absent.add(scores)

    def result(self) -> dict[str, float]:
        """The figures, the same on every rank.

        In percent: `macro_map`, `micro_map` and, where they are bounds' middles, `macro_map_error` and
        `micro_map_error`; `precision`, `recall` and `f1` at the threshold, each as `macro_` (mean over labels that
        have pictures) and `micro_`. `share_error`: mean absolute difference, over present labels, between their weight
        over the picture's sum and p over its sum. `coverage`: how many labels must be listed, best first, until all
        present ones are. `loss`: binary cross-entropy in nats, mean over pictures and labels. `pictures`, and
        `labels` that have some.

        Raises:
            UserError: no picture, or none with a label, was counted on any rank.
        """
        parts = gather((self.sums, self.support, self.predicted, self.hits, self.present.all()))
        batches = {number: sums for part in parts for number, sums in part[0].items()}
        self.support, self.predicted, self.hits = (sum(part[place] for part in parts) for place in (1, 2, 3))
        if not self.support.any():
            raise UserError("no picture to evaluate that can be read", "at least one with a label",
                            "see the list above")
        total = torch.zeros(5, dtype=torch.float64)
        for number in sorted(batches):
            total += torch.tensor(batches[number], dtype=torch.float64)
        loss, error, shares, coverage, pictures = total.tolist()
        if isinstance(self.absent, KeptScores) and pictures * self.num_labels > self.most_kept:
            self._count_in_bins(torch.device("cpu"))  # the ranks together have more than each of them
        labels, scores = (np.concatenate(column) for column in zip(*(part[4] for part in parts), strict=True))
        return {**self._rank(labels, scores), **self._decisions(), "share_error": error / shares,
                "coverage": coverage / pictures, "loss": loss / (pictures * self.num_labels),
                "pictures": int(pictures), "labels": int((self.support > 0).sum())}

    def _rank(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """Average precision from the labels and scores (K,) of what is present; sets what `result` promises."""
        order = np.lexsort((scores, labels))
        labels, scores = labels[order], scores[order]
        parts = gather(self.absent.rivals(labels, scores))
        rivals = Rivals(*(sum(counts) for counts in zip(*parts, strict=True)))
        support, found = self.support.numpy(), _at_least(labels, scores)
        low, high = (np.bincount(labels, found / (found + count), minlength=self.num_labels) / np.maximum(support, 1)
                     for count in (rivals.most, rivals.least))
        self.ap, self.ap_error = (low + high) / 2, (high - low) / 2
        self._choose_thresholds(labels, self.absent.floor(scores), rivals.most)
        found = _at_least(np.zeros_like(labels), scores)
        micro_low, micro_high = ((found / (found + count)).mean()
                                 for count in (rivals.most_of_all, rivals.least_of_all))
        figures = {"macro_map": 100 * self.ap[support > 0].mean(), "micro_map": 50 * (micro_low + micro_high)}
        if isinstance(self.absent, BinnedScores):
            figures |= {"macro_map_error": 100 * self.ap_error[support > 0].mean(),
                        "micro_map_error": 50 * (micro_high - micro_low)}
        return {name: float(value) for name, value in figures.items()}

    def _choose_thresholds(self, labels: np.ndarray, floors: np.ndarray, rivals: np.ndarray) -> None:
        """F1 is highest at the score of some picture that shows the label: a lower threshold adds wrong ones only."""
        found = _at_least(labels, floors)
        f1 = 2 * found / (found + rivals + self.support.numpy()[labels])
        best = np.lexsort((floors, f1, labels))  # the last of each label; of equals the highest threshold
        best = best[np.flatnonzero(np.diff(labels, append=-1))]
        self.f1 = np.zeros(self.num_labels)
        self.thresholds = np.full(self.num_labels, self.threshold)
        self.f1[labels[best]] = f1[best]
        # A hair below the score, which other batches would round otherwise in its last digit.
        self.thresholds[labels[best]] = (1 - 1e-6) * torch.from_numpy(floors[best]).double().sigmoid().numpy()

    def _decisions(self) -> dict[str, float]:
        """Precision, recall and F1 in percent; what would divide by 0 counts 0."""
        hits, predicted, support = (counts.double() for counts in (self.hits, self.predicted, self.support))
        seen = support > 0
        figures = {}
        for name, (part, whole) in {"precision": (hits, predicted), "recall": (hits, support),
                                    "f1": (2 * hits, predicted + support)}.items():
            figures[f"macro_{name}"] = 100 * (part / whole.clamp(min=1))[seen].mean().item()
            figures[f"micro_{name}"] = 100 * (part.sum() / whole.sum().clamp(min=1)).item()
        return figures


def _sums(scores: torch.Tensor, targets: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Of one batch, (5,) float64: loss, error of the shares, present labels, coverage, pictures."""
    surprise = F.softplus(scores)  # of an absent label; log p is what it leaves of the score
    loss = surprise.sum(dtype=torch.float64) - scores[present].sum(dtype=torch.float64)
    log_p = scores - surprise
    shares = (log_p - log_p.logsumexp(1, keepdim=True))[present].double().exp()
    wanted = F.normalize(targets.float(), p=1.0, dim=1)[present].double()
    lowest = scores.masked_fill(~present, torch.inf).amin(1, keepdim=True)
    counts = [present.sum(), (scores >= lowest).sum(), loss.new_tensor(len(scores))]
    error, (shown, coverage, pictures) = (shares - wanted).abs().sum(), [count.double() for count in counts]
    return torch.stack([loss, error, shown, coverage, pictures])


def _at_least(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """How many of K entries have the same label and at least the same score, themselves included, (K,) int64."""
    order = np.lexsort((scores, labels))
    labels, scores = labels[order], scores[order]
    starts = np.flatnonzero(np.append(True, (np.diff(labels) != 0) | (np.diff(scores) != 0)))  # of equal entries
    first = np.repeat(starts, np.diff(starts, append=len(scores)))
    last = np.searchsorted(labels, labels, side="right")
    counts = np.empty(len(labels), np.int64)
    counts[order] = last - first
    return counts
