"""Metrics of pictures with several labels each, on any number of ranks and in bounded memory, and their display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from evaluation.label_scores import AT_ONCE, MOST_KEPT, BinnedScores, FalsePositives, KeptScores, PresentScores
from runtime.processes import gather
from runtime.text_table import RULE, format_table
from utils import UserError, write_json

FIGURES = "evaluation.json"


class MultiLabelMeter:
    """Average precision, precision, recall, F1, shares and coverage over an evaluation.

    Every rank updates with its own batches, each under its number in the whole evaluation; sums are added in the order
    of these numbers and everything else is counted, so the figures equal a single process's to the last digit.

    Up to 2e8 pictures x labels every score is kept and every figure is exact. Beyond that, scores of absent labels are
    counted in bins, which bound average precision: the figure is the middle of the bounds, its error half their
    distance. All other figures stay exact, but for the best thresholds, which are the best ends of bins.

    Attributes:
        support: pictures of each label on all ranks, (labels,) int64; this and what follows is set by `result`.
        ap: average precision of each label, (labels,) float64 in [0, 1].
        ap_error: how far it may be from the exact one, likewise; 0 up to 2e8 pictures x labels.
        f1: the highest F1 that a threshold gives each label, likewise.
        thresholds: that threshold, a probability; the meter's own where a label has no picture.
    """

    support: torch.Tensor
    ap: np.ndarray
    ap_error: np.ndarray
    f1: np.ndarray
    thresholds: np.ndarray

    def __init__(self, classes: Sequence[str], threshold: float, *, most_kept: int = MOST_KEPT) -> None:
        """Begin an evaluation.

        Args:
            classes: names of the labels, the columns of the logits.
            threshold: probability from which on a label counts as predicted.
            most_kept: pictures x labels up to which average precision is exact.
        """
        self.classes, self.threshold, self.most_kept = classes, threshold, most_kept
        self.num_labels = num_labels = len(classes)
        self.sums: dict[int, list[float]] = {}  # this rank's, as are those below
        self._support, self._predicted, self._hits = (torch.zeros(num_labels, dtype=torch.int64) for _ in range(3))
        self._pictures, self._present = 0, PresentScores()
        self._absent: KeptScores | BinnedScores = KeptScores(num_labels)

    def update(self, number: int, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Count batch `number`: `logits` (B, labels), `targets` (B, labels) weights, 0 for absent labels."""
        rows = max(1, AT_ONCE // self.num_labels)
        parts = [self._count(*part) for part in zip(logits.split(rows), targets.split(rows), strict=True)]
        self.sums[number] = torch.stack(parts).sum(0).tolist()
        self._pictures += len(logits)
        self._limit_memory(self._pictures, logits.device)

    def _count(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        scores, present = logits.float(), targets > 0
        sums = _sums(scores, targets, present)
        scores = scores.nan_to_num(-torch.inf, torch.inf, -torch.inf)  # ranked last; the loss shows it
        predicted = scores.sigmoid() >= self.threshold
        self._support += present.sum(0).cpu()
        self._predicted += predicted.sum(0).cpu()
        self._hits += (predicted & present).sum(0).cpu()
        self._present.add(present.nonzero()[:, 1], scores[present])
        self._absent.add(scores.masked_fill(present, -torch.inf))
        return sums

    def _limit_memory(self, pictures: float, device: torch.device) -> None:
        """Count this rank's scores in bins once there are too many `pictures` to keep them."""
        if isinstance(self._absent, KeptScores) and pictures * self.num_labels > self.most_kept:
            binned = BinnedScores(self.num_labels, device)
            for scores in self._absent.drain():
                binned.add(scores)
            self._absent = binned

    def result(self) -> dict[str, float]:
        """The figures, the same on every rank.

        In percent: `macro_map`, `micro_map` and, where they are the middle of bounds, `macro_map_error` and
        `micro_map_error`; `precision`, `recall` and `f1` at the threshold, each as `macro_` (mean over labels that
        have pictures) and `micro_`. `share_error`: mean absolute difference, over present labels, between their weight
        over the picture's sum and p over its sum. `coverage`: how many labels must be listed, best first, until all
        present ones are. `loss`: binary cross-entropy in nats, mean over pictures and labels. `pictures`, and
        `labels` that have some.

        Raises:
            UserError: no picture, or none with a label, was counted on any rank.
        """
        own = self.sums, self._support, self._predicted, self._hits, self._present.arrays()
        sums, support, predicted, hits, present = zip(*gather(own), strict=True)
        self.support = torch.stack(support).sum(0)
        if not self.support.any():
            raise UserError("no picture to evaluate that can be read", "at least one with a label",
                            "see the list above")
        batches = {number: batch for part in sums for number, batch in part.items()}
        total = torch.zeros(5, dtype=torch.float64)
        for number in sorted(batches):
            total += torch.tensor(batches[number], dtype=torch.float64)
        loss, error, shares, coverage, pictures = total.tolist()
        self._limit_memory(pictures, torch.device("cpu"))  # the ranks together have more than each of them
        labels, scores = (np.concatenate(column) for column in zip(*present, strict=True))
        return {**self._rank(labels, scores),
                **self._decisions(torch.stack(predicted).sum(0), torch.stack(hits).sum(0)),
                "share_error": error / shares, "coverage": coverage / pictures,
                "loss": loss / (pictures * self.num_labels), "pictures": int(pictures),
                "labels": int((self.support > 0).sum())}

    def _rank(self, labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
        """Average precision from the labels and scores (K,) of what is present; sets the attributes of `result`."""
        order = np.lexsort((scores, labels))
        labels, scores = labels[order], scores[order]
        parts = gather(self._absent.false_positives(labels, scores))
        *counts, below = zip(*parts, strict=True)
        wrong = FalsePositives._make((*(np.sum(each, axis=0) for each in counts), np.max(below, axis=0)))
        support, found = self.support.numpy(), _at_least(labels, scores)
        low, high = (np.bincount(labels, found / (found + count), minlength=self.num_labels) / np.maximum(support, 1)
                     for count in (wrong.most, wrong.least))
        self.ap, self.ap_error = (low + high) / 2, (high - low) / 2
        self._choose_thresholds(labels, self._absent.floor(scores), wrong)
        found = _at_least(np.zeros_like(labels), scores)
        micro_low, micro_high = ((found / (found + count)).mean() for count in (wrong.most_overall,
                                                                                wrong.least_overall))
        figures = {"macro_map": 100 * self.ap[support > 0].mean(), "micro_map": 50 * (micro_low + micro_high)}
        if isinstance(self._absent, BinnedScores):
            figures |= {"macro_map_error": 100 * self.ap_error[support > 0].mean(),
                        "micro_map_error": 50 * (micro_high - micro_low)}
        return {name: float(value) for name, value in figures.items()}

    def _choose_thresholds(self, labels: np.ndarray, floors: np.ndarray, wrong: FalsePositives) -> None:
        """F1 is highest at the score of a picture that shows the label: a lower threshold only adds wrong ones.

        It is the same down to the next lower score: the threshold lies in the middle between both.
        """
        found = _at_least(labels, floors)
        f1 = 2 * found / (found + wrong.most + self.support.numpy()[labels])
        best = np.lexsort((floors, f1, labels))  # the last of each label; of equals the highest threshold
        best = best[np.flatnonzero(np.diff(labels, append=-1))]
        self.f1 = np.zeros(self.num_labels)
        self.thresholds = np.full(self.num_labels, self.threshold)
        self.f1[labels[best]] = f1[best]
        score, lower = (torch.from_numpy(each[best]).double().sigmoid().numpy() for each in (
            floors, np.maximum(wrong.below, _next_present(labels, floors))))
        middle = np.where(lower > 0, (score + lower) / 2, score)
        # Slightly below the score at least: in another batch its last digit may be rounded differently.
        self.thresholds[labels[best]] = np.minimum(middle, (1 - 1e-6) * score)

    def _decisions(self, predicted: torch.Tensor, hits: torch.Tensor) -> dict[str, float]:
        """Precision, recall and F1 in percent; 0 where a ratio is undefined."""
        predicted, hits, support = predicted.double(), hits.double(), self.support.double()
        figures = {}
        for name, (part, whole) in {"precision": (hits, predicted), "recall": (hits, support),
                                    "f1": (2 * hits, predicted + support)}.items():
            figures[f"macro_{name}"] = 100 * (part / whole.clamp(min=1))[support > 0].mean().item()
            figures[f"micro_{name}"] = 100 * (part.sum() / whole.sum().clamp(min=1)).item()
        return figures


def _sums(scores: torch.Tensor, targets: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Of one batch, (5,) float64: loss, error of the shares, present labels, coverage, pictures."""
    absent_nll = F.softplus(scores)  # -log(1 - p)
    loss = absent_nll.sum(dtype=torch.float64) - scores[present].sum(dtype=torch.float64)
    log_p = scores - absent_nll
    shares = (log_p - log_p.logsumexp(1, keepdim=True))[present].double().exp()
    wanted = F.normalize(targets.float(), p=1.0, dim=1)[present].double()
    lowest = scores.masked_fill(~present, torch.inf).amin(1, keepdim=True)
    return torch.stack([loss, (shares - wanted).abs().sum(), present.sum().double(), (scores >= lowest).sum().double(),
                        loss.new_tensor(len(scores))])


def _next_present(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The next lower score (K,) of the same label, both sorted by label and score; -inf where there is none."""
    first = np.r_[True, (np.diff(labels) != 0) | (scores[1:] != scores[:-1])]  # of those with equal scores
    before = np.flatnonzero(first)[np.cumsum(first) - 1] - 1
    return np.where((before >= 0) & (labels[before] == labels), scores[before], -np.inf).astype(scores.dtype)


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


# ---- shown to people and programs ------------------------------------------------------------------------------------


def format_multilabel_line(figures: Mapping[str, float]) -> str:
    """The line printed after every evaluation."""
    return (f"* mAP {_percent(figures, 'macro_map')} (micro {_percent(figures, 'micro_map')}) F1 "
            f"{_percent(figures, 'macro_f1')} (micro {_percent(figures, 'micro_f1')}) share error "
            f"{figures['share_error']:.4f}")


def figures_table(figures: Mapping[str, float]) -> list[str]:
    """The lines of a table of all figures of `MultiLabelMeter`."""
    pairs = (("mAP, %", "map"), ("precision, %", "precision"), ("recall, %", "recall"), ("F1, %", "f1"))
    singles = (("share error", "share_error", ".4f"), ("coverage", "coverage", ".3f"), ("loss", "loss", ".4f"),
               ("labels with pictures", "labels", "d"), ("pictures", "pictures", "d"))
    return format_table([
        ("", "macro", "micro"),
        *((title, _percent(figures, f"macro_{name}"), _percent(figures, f"micro_{name}")) for title, name in pairs),
        RULE, *((title, "", format(figures[name], form)) for title, name, form in singles)])


def write_figures(folder: Path, figures: Mapping[str, float]) -> None:
    """Write evaluation.json to `folder`; a figure that is not finite becomes null."""
    write_json(folder / FIGURES, {name: value if math.isfinite(value) else None for name, value in figures.items()})


def _percent(figures: Mapping[str, float], name: str) -> str:
    """A figure in percent, with its error bound where it has one."""
    bound = f" ± {figures[f'{name}_error']:.3f}" if f"{name}_error" in figures else ""
    return f"{figures[name]:.3f}{bound}"
