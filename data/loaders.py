"""Which pictures make which batch, on which process, with which augmentation: functions of seed, epoch and picture.

Neither the number of worker processes nor the number of ranks changes the order of pictures or what augmentation
makes of each; only so can an interrupted run go on exactly, and a run on two processes equal one on one.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from data.image_list import Draw, collate
from utils import mix_seed


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are loaded.

    Attributes:
        batch_size: pictures per process and batch.
        num_workers: processes that decode; 0 decodes in this one.
        pin_memory: page-locked batches, for CUDA.
        rank: this process among `world_size`.
        world_size: processes that share the data.
    """

    batch_size: int
    num_workers: int = 0
    pin_memory: bool = False
    rank: int = 0
    world_size: int = 1


def sampling_weights(sampler: str, targets: np.ndarray) -> np.ndarray | None:
    """How often each picture should be drawn relative to the others, (N,); None: all alike.

    Args:
        sampler: `shuffle` draws each picture once an epoch, `balanced` each class equally often, `sqrt` each class in
            proportion to the root of its number of pictures.
        targets: the pictures' classes, (N,) int64.

    **Source:** Kang et al., arXiv 1910.09217, section 3: q = 1, 0 and 1/2.
    """
    per_class = np.bincount(targets)[targets]
    return {"shuffle": None, "balanced": 1 / per_class, "sqrt": per_class**-0.5}[sampler]


class TrainBatches(Sampler[list[Draw]]):
    """One epoch of shuffled batches, dealt to the ranks.

    A global batch is `batch_size * world_size` consecutive pictures of the epoch's order and rank r takes the r-th part
    of it. Pictures that do not fill the last update (`accumulation` global batches) wait for another epoch's order.

    An epoch draws as many pictures as there are: each once, or by `weights`, (N,), in proportion to its own, rounded
    up or down at random. What is drawn again in an epoch is augmented anew: so is each picture with `repeats`, which
    draws that many times every picture of a part of the data set, another part in each epoch.

    **Source:** repeated augmentation: Hoffer et al., arXiv 1901.09335; Berman et al., arXiv 1902.05509.
    """

    def __init__(self, length: int, loading: Loading, *, seed: int, accumulation: int = 1,
                 weights: np.ndarray | None = None, repeats: int = 1) -> None:
        self.length, self.loading, self.seed = length, loading, seed
        self.weights, self.repeats = weights, repeats
        self.updates = length // (loading.batch_size * loading.world_size * accumulation)
        self.batches = self.updates * accumulation
        self.epoch = self.first_batch = 0

    def start(self, epoch: int, first_batch: int = 0) -> None:
        """Set what the next iteration yields: batches `first_batch`, … of `epoch` (both from 0)."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return self.batches - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        per_rank, ranks = self.loading.batch_size, self.loading.world_size
        for batch in range(self.first_batch, self.batches):
            start = (batch * ranks + self.loading.rank) * per_rank
            yield order[start:start + per_rank]

    def _order(self) -> list[Draw]:
        generator = np.random.default_rng(mix_seed(self.seed, self.epoch))
        order = generator.permutation(self.length)
        if self.weights is None and self.repeats == 1:
            return [Draw(index, mix_seed(self.seed, self.epoch, index)) for index in order.tolist()]
        drawn = self._repeated(order) if self.weights is None else self._weighted(order, generator)
        return [Draw(index, mix_seed(self.seed, self.epoch, index, copy)) for index, copy in drawn]

    def _repeated(self, order: np.ndarray) -> list[tuple[int, int]]:
        """The first pictures of `order`, each with the numbers of its copies, which share a global batch.

        In it, first copies come first: mixing blends neighbours, and they should not be the same picture.
        """
        drawn = [(index, copy) for index in order.tolist() for copy in range(self.repeats)][:self.length]
        size = self.loading.batch_size * self.loading.world_size
        return [each for start in range(0, self.length, size)
                for each in sorted(drawn[start:start + size], key=lambda each: each[1])]

    def _weighted(self, order: np.ndarray, generator: np.random.Generator) -> list[tuple[int, int]]:
        """As many draws as pictures, in proportion to `weights`, each with its number among those of its picture."""
        # Systematic resampling: a picture with an expectation of 2.3 comes two or three times, never one or four.
        shares = np.cumsum(self.weights[order])
        ends = np.floor(shares / shares[-1] * self.length + generator.random()).astype(np.int64)
        copies = np.diff(ends, prepend=0)
        drawn = [(index, copy) for index, count in zip(order.tolist(), copies.tolist(), strict=True)
                 for copy in range(count)]
        return [drawn[place] for place in generator.permutation(len(drawn))]


class EvalBatches(Sampler[list[int]]):
    """Every picture once, in order; rank r takes the whole batches r, r + world_size, …

    Whole batches keep each picture's neighbours, and so every rounding error, the same on any number of ranks.

    Attributes:
        numbers: each batch's number in the whole evaluation.
        batches: the pictures of each.
    """

    def __init__(self, length: int, loading: Loading) -> None:
        starts = range(0, length, loading.batch_size)
        self.numbers = range(len(starts))[loading.rank::loading.world_size]
        self.batches = [list(range(start, min(start + loading.batch_size, length)))
                        for start in starts[loading.rank::loading.world_size]]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


def make_loader(dataset: Dataset, batches: Sampler[list[Draw]] | Sampler[list[int]], loading: Loading) -> DataLoader:
    """A loader of `Batch`es whose workers live as long as it does."""
    atexit.unregister(_end_workers)  # once is enough for the many loaders of a service
    atexit.register(_end_workers)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=collate, num_workers=loading.num_workers,
                      pin_memory=loading.pin_memory, persistent_workers=loading.num_workers > 0,
                      worker_init_fn=_outlive_signals, generator=torch.Generator().manual_seed(0))


def _outlive_signals(worker: int) -> None:
    """Let the main process answer signals that reach a whole group: it still needs its batches to finish an update.

    SIGINT is ignored; so is the first SIGTERM, and a second one, such as the main process sends at its end, counts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: os._exit(0)))


def _end_workers() -> None:
    """After a traceback, which keeps the loader alive, multiprocessing sends one SIGTERM and waits without end."""
    for worker in multiprocessing.active_children():
        while worker.daemon and worker.is_alive():
            worker.terminate()
            worker.join(0.1)
