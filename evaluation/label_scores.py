"""Scores of present labels, and of absent ones kept or binned: the false positives at a present label's score.

Average precision needs nothing else of absent labels. It is the mean, over the pictures that show a label, of the
precision where that picture's score is the threshold. So the few scores of present labels stay on their rank, and the
many of absent ones only answer counts. Counts are whole numbers: those of several ranks add up without rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

MOST_KEPT = 200_000_000  # scores; 4 bytes each
BINS, RANGE = 4096, 16.0  # from logit -16 to 16; scores beyond count in the last bin on their side
AT_ONCE = 1 << 21  # scores handled at a time
SLAB = 1 << 24  # scores kept in one array: above 32 MiB, which glibc gives back to the system when it is freed


class FalsePositives(NamedTuple):
    """How many absent labels score at least as high as each of K present ones, (K,) int64 each; and the next below.

    Attributes:
        least: those that certainly do, among the pictures of the same label.
        most: those that possibly do, likewise.
        least_overall: those that certainly do, among the pictures of all labels.
        most_overall: those that possibly do, likewise.
        below: the highest absent score of the same label below it, (K,) float32, -inf for none; in bins the lower end
            of its own.
    """

    least: np.ndarray
    most: np.ndarray
    least_overall: np.ndarray
    most_overall: np.ndarray
    below: np.ndarray


class PresentScores:
    """The labels and scores of what is present, in arrays that double when they are full.

    One small array per batch would split the memory that large temporaries leave behind, and the next ones would no
    longer fit: 50 MB more for every batch of 500 pictures x 20,000 labels were measured.
    """

    def __init__(self) -> None:
        self.count = 0
        self._labels, self._scores = np.empty(1 << 16, np.int32), np.empty(1 << 16, np.float32)

    def add(self, labels: torch.Tensor, scores: torch.Tensor) -> None:
        """Keep the labels (K,) and scores (K,) of a batch."""
        end = self.count + len(labels)
        if end > len(self._labels):
            self._labels, self._scores = np.resize(self._labels, 2 * end), np.resize(self._scores, 2 * end)
        self._labels[self.count:end], self._scores[self.count:end] = labels.cpu().numpy(), scores.cpu().numpy()
        self.count = end

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N,) int32 and scores (N,) float32, in the order of adding."""
        return self._labels[:self.count], self._scores[:self.count]


class KeptScores:
    """Every score of absent labels; `FalsePositives` are exact."""

    def __init__(self, num_labels: int) -> None:
        self.num_labels, self.pictures = num_labels, 0
        self.rows = max(1, SLAB // num_labels)
        self._slabs: list[np.ndarray] = []

    def add(self, scores: torch.Tensor) -> None:
        """Keep the scores (B, labels) float32 of a batch; -inf stands for a label that is present."""
        rest = scores.cpu().numpy()
        while len(rest):
            row = self.pictures % self.rows
            if not row:
                self._slabs.append(np.empty((self.rows, self.num_labels), np.float32))
            part, rest = np.split(rest, [self.rows - row])
            self._slabs[-1][row:row + len(part)] = part
            self.pictures += len(part)

    def drain(self) -> Iterator[torch.Tensor]:
        """The scores, (…, labels), slab by slab; the memory of each is freed before the next."""
        while self._slabs:
            slab = self._slabs.pop()
            yield torch.from_numpy(slab[:self.pictures - len(self._slabs) * self.rows])
            self.pictures = len(self._slabs) * self.rows

    def floor(self, scores: np.ndarray) -> np.ndarray:
        """The lowest scores that count as equal to `scores`: they themselves."""
        return scores

    def false_positives(self, labels: np.ndarray, scores: np.ndarray) -> FalsePositives:
        """Those at each present label's score: `labels` (K,) ascending, and their `scores` (K,)."""
        own, overall = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
        below = np.full(len(scores), -np.inf, np.float32)
        pictures = self.pictures
        width = max(1, AT_ONCE // max(1, pictures))
        for first in range(0, self.num_labels if pictures else 0, width):
            columns = np.concatenate([slab[:, first:first + width] for slab in self._slabs])[:pictures]
            columns.sort(0)
            bounds = np.searchsorted(labels, np.arange(first, first + columns.shape[1] + 1))
            for column, start, stop in zip(columns.T, bounds[:-1], bounds[1:], strict=True):
                lower = np.searchsorted(column, scores[start:stop])
                own[start:stop] = pictures - lower
                below[start:stop] = np.where(lower > 0, column[lower - 1], -np.inf)
            columns = np.sort(columns, None)
            overall += columns.size - np.searchsorted(columns, scores)
        return FalsePositives(own, own, overall, overall, below)


class BinnedScores:
    """Scores of absent labels, counted in bins of 4 bytes; `FalsePositives` are bounds.

    Memory does not grow with the pictures.
    """

    def __init__(self, num_labels: int, device: torch.device) -> None:
        self.counts = torch.zeros(num_labels, BINS, dtype=torch.int32, device=device)

    def add(self, scores: torch.Tensor) -> None:
        """Count the scores (B, labels) float32 of a batch; -inf stands for a label that is present."""
        num_labels, flat = len(self.counts), self.counts.view(-1)
        starts = torch.arange(0, num_labels * BINS, BINS, device=scores.device)[:, None]
        for part in scores.to(flat.device).split(max(1, AT_ONCE // num_labels)):
            columns = part.T.contiguous()  # label by label, so that successive writes are close in memory
            cells = _bins(columns).long().add_(starts)
            flat.scatter_add_(0, cells.view(-1), (columns.view(-1) > -torch.inf).to(torch.int32))

    def floor(self, scores: np.ndarray) -> np.ndarray:
        """The lowest scores that count as equal to `scores` (K,): the lower ends of their bins."""
        bins = _bins(torch.from_numpy(scores)).numpy().astype(np.float32)
        return np.where(bins > 0, bins * np.float32(2 * RANGE / BINS) - np.float32(RANGE), -np.inf).astype(np.float32)

    def false_positives(self, labels: np.ndarray, scores: np.ndarray) -> FalsePositives:
        """Those at each present label's score: `labels` (K,) ascending, and their `scores` (K,)."""
        bins = _bins(torch.from_numpy(scores)).numpy()
        least, most = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
        overall = np.zeros(BINS, np.int64)
        width = AT_ONCE // BINS
        for first in range(0, len(self.counts), width):
            counts = self.counts[first:first + width].cpu().numpy()
            start, stop = np.searchsorted(labels, (first, first + len(counts)))
            own = labels[start:stop] - first, bins[start:stop]
            at_least = _cumulated(counts)
            least[start:stop], most[start:stop] = at_least[own[0], own[1] + 1], at_least[own]
            overall += counts.sum(0)
        at_least = _cumulated(overall[None])[0]
        return FalsePositives(least, most, at_least[bins + 1], at_least[bins], self.floor(scores))


def _bins(scores: torch.Tensor) -> torch.Tensor:
    """The bin of each score, int32; NaN counts as the lowest."""
    return ((scores.nan_to_num(-RANGE, RANGE, -RANGE) + RANGE) * (BINS / (2 * RANGE))).clamp_(0, BINS - 1).int()


def _cumulated(counts: np.ndarray) -> np.ndarray:
    """(labels, bins) -> (labels, bins + 1): the sums from each bin to the last, and 0 beyond it."""
    sums = np.zeros((len(counts), counts.shape[1] + 1), np.int64)
    sums[:, :-1] = counts[:, ::-1].cumsum(1, dtype=np.int64)[:, ::-1]
    return sums
