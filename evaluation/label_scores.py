"""The scores of absent labels, kept whole or counted in bins: how many of them a present label's score must beat.

Average precision needs nothing else of them. It is the mean, over the pictures that show a label, of the share of such
pictures among all that score at least as high; so the few scores of present labels are kept by their owner, and the
many of absent ones only answer counts. These are whole numbers: those of several processes add up without rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

MOST_KEPT = 200_000_000  # scores; 4 bytes each
BINS, RANGE = 4096, 16.0  # from logit -16 to 16; what is beyond falls into the last bin on its side
AT_ONCE = 1 << 21  # scores handled at a time
SLAB = 1 << 24  # scores kept in one piece: above 32 MiB, which glibc gives back to the system when it is released


class Rivals(NamedTuple):
    """How many absent labels score at least as high as each of K present ones, (K,) int64 each.

    Attributes:
        least: those that certainly do, among the pictures of the same label.
        most: those that possibly do, likewise.
        least_of_all: those that certainly do, among the pictures of all labels.
        most_of_all: those that possibly do, likewise.
    """

    least: np.ndarray
    most: np.ndarray
    least_of_all: np.ndarray
    most_of_all: np.ndarray


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
            self._labels, self._scores = (np.resize(array, 2 * end) for array in (self._labels, self._scores))
        self._labels[self.count:end], self._scores[self.count:end] = labels.cpu().numpy(), scores.cpu().numpy()
        self.count = end

    def all(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (N,) int32 and scores (N,) float32, in the order they came in."""
        return self._labels[:self.count], self._scores[:self.count]


class KeptScores:
    """Every score; `Rivals` are exact."""

    def __init__(self, num_labels: int) -> None:
        self.num_labels, self.pictures = num_labels, 0
        self.rows = max(1, SLAB // num_labels)
        self._slabs: list[np.ndarray] = []

    def add(self, scores: torch.Tensor) -> None:
        """Keep the scores (B, labels) float32 of a batch; -inf stands for a label that is present."""
        rest = scores.cpu().numpy()
        while len(rest):
            place = self.pictures % self.rows
            if not place:
                self._slabs.append(np.empty((self.rows, self.num_labels), np.float32))
            part, rest = np.split(rest, [self.rows - place])
            self._slabs[-1][place:place + len(part)] = part
            self.pictures += len(part)

    def forget(self) -> Iterator[torch.Tensor]:
        """The scores, (…, labels), as many at a time as their memory is released at."""
        while self._slabs:
            slab = self._slabs.pop()
            yield torch.from_numpy(slab[:self.pictures - len(self._slabs) * self.rows])
            self.pictures = len(self._slabs) * self.rows

    def floor(self, scores: np.ndarray) -> np.ndarray:
        """The lowest scores that count as equal to `scores`: they themselves."""
        return scores

    def rivals(self, labels: np.ndarray, scores: np.ndarray) -> Rivals:
        """Those of present labels: `labels` (K,) ascending, and their `scores` (K,)."""
        own, overall = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
        pictures = self.pictures
        width = max(1, AT_ONCE // max(1, pictures))
        for first in range(0, self.num_labels if pictures else 0, width):
            columns = np.concatenate([slab[:, first:first + width] for slab in self._slabs])[:pictures]
            columns.sort(0)
            bounds = np.searchsorted(labels, np.arange(first, first + columns.shape[1] + 1))
            for column, start, stop in zip(columns.T, bounds[:-1], bounds[1:], strict=True):
                own[start:stop] = pictures - np.searchsorted(column, scores[start:stop])
            columns = np.sort(columns, None)
            overall += columns.size - np.searchsorted(columns, scores)
        return Rivals(own, own, overall, overall)


class BinnedScores:
    """Scores counted in bins, 4 bytes each; `Rivals` are bounds, and memory does not grow with the pictures."""

    def __init__(self, num_labels: int, device: torch.device) -> None:
        self.counts = torch.zeros(num_labels, BINS, dtype=torch.int32, device=device)

    def add(self, scores: torch.Tensor) -> None:
        """Count the scores (B, labels) float32 of a batch; -inf stands for a label that is present."""
        num_labels, flat = len(self.counts), self.counts.view(-1)
        starts = torch.arange(0, num_labels * BINS, BINS, device=scores.device)[:, None]
        for part in scores.to(flat.device).split(max(1, AT_ONCE // num_labels)):
            columns = part.T.contiguous()  # label by label, so that neighbours in time are neighbours in memory
            places = _bins(columns).long().add_(starts)
            flat.scatter_add_(0, places.view(-1), (columns.view(-1) > -torch.inf).to(torch.int32))

    def floor(self, scores: np.ndarray) -> np.ndarray:
        """The lowest scores that count as equal to `scores` (K,): the lower ends of their bins."""
        bins = _bins(torch.from_numpy(scores)).numpy().astype(np.float32)
        return np.where(bins > 0, bins * np.float32(2 * RANGE / BINS) - np.float32(RANGE), -np.inf).astype(np.float32)

    def rivals(self, labels: np.ndarray, scores: np.ndarray) -> Rivals:
        """Those of present labels: `labels` (K,) ascending, and their `scores` (K,)."""
        bins = _bins(torch.from_numpy(scores)).numpy()
        least, most = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
        overall = np.zeros(BINS, np.int64)
        for first, block in self._blocks():
            start, stop = np.searchsorted(labels, (first, first + len(block)))
            own = labels[start:stop] - first, bins[start:stop]
            at_least = _from_each_bin_on(block)
            least[start:stop], most[start:stop] = at_least[own[0], own[1] + 1], at_least[own]
            overall += block.sum(0)
        at_least = _from_each_bin_on(overall[None])[0]
        return Rivals(least, most, at_least[bins + 1], at_least[bins])

    def _blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        width = AT_ONCE // BINS
        for first in range(0, len(self.counts), width):
            yield first, self.counts[first:first + width].cpu().numpy()


def _bins(scores: torch.Tensor) -> torch.Tensor:
    """The bin of each score, int32; not a number counts as the lowest."""
    return ((scores.nan_to_num(-RANGE, RANGE, -RANGE) + RANGE) * (BINS / (2 * RANGE))).clamp_(0, BINS - 1).int()


def _from_each_bin_on(counts: np.ndarray) -> np.ndarray:
    """(labels, bins) -> (labels, bins + 1): the sums from each bin to the last, and 0 beyond it."""
    sums = np.zeros((len(counts), counts.shape[1] + 1), np.int64)
    sums[:, :-1] = counts[:, ::-1].cumsum(1, dtype=np.int64)[:, ::-1]
    return sums
