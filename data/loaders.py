"""Batches and loaders: the order of images and their augmentation are functions of seed, epoch and image.

Neither the number of worker processes nor the number of ranks changes them. So an interrupted run resumes exactly,
and a run on two processes equals a run on one.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from data.image_list import Draw, ImageList, Sample, collate
from utils import Stopped, mix_seed

LONGEST_END = 5  # seconds that a thread of an ended loader gets


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are loaded.

    Attributes:
        batch_size: images per process and batch.
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
    """The relative probability of drawing each image, (N,); None for `shuffle`.

    Args:
        sampler: `shuffle` draws each image once an epoch, `balanced` each class equally often, `sqrt` each class in
            proportion to the root of its number of images.
        targets: the images' classes, (N,) int64.

    **Source:** Kang et al., arXiv 1910.09217, section 3: q = 1, 0 and 1/2.
    """
    per_class = np.bincount(targets)[targets]
    return {"shuffle": None, "balanced": 1 / per_class, "sqrt": per_class**-0.5}[sampler]


class TrainBatches(Sampler[list[Draw]]):
    """The shuffled batches of one rank in one epoch.

    A global batch is `batch_size * world_size` consecutive images of the epoch's order; rank r takes the r-th part of
    it. Images that do not fill the last update (`accumulation` global batches) are not used in that epoch.

    An epoch draws N images of N: each once; or, with `weights` (N,), in proportion to them, rounded up or down at
    random; or, with `repeats`, each image of a random N/repeats part that many times. Each draw of an image has its own
    augmentation.

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
        """Let the next iteration begin at batch `first_batch` of `epoch`, both counted from 0."""
        self.epoch, self.first_batch = epoch, first_batch

    def __len__(self) -> int:
        return self.batches - self.first_batch

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self._order()
        per_rank, ranks = self.loading.batch_size, self.loading.world_size
        for batch in range(self.first_batch, self.batches):
            start = (batch * ranks + self.loading.rank) * per_rank
            yield [Draw(draw[0], mix_seed(self.seed, self.epoch, *draw))
                   for draw in order[start:start + per_rank].tolist()]

    def _order(self) -> np.ndarray:
        """The draws of the epoch: image, and which copy where there may be several; (N, 1 or 2) int64."""
        generator = np.random.default_rng(mix_seed(self.seed, self.epoch))
        order = generator.permutation(self.length)
        if self.weights is None and self.repeats == 1:
            return order[:, None]
        return self._repeat(order) if self.weights is None else self._resample(order, self.weights, generator)

    def _repeat(self, order: np.ndarray) -> np.ndarray:
        """(N, 2), image and copy, of the first images of `order`; the copies of an image share a global batch.

        Within a batch, first copies come first: mixup blends neighbours, which should not be the same image.
        """
        numbers = np.arange(self.length)
        images, copies = order[numbers // self.repeats], numbers % self.repeats
        batches = numbers // (self.loading.batch_size * self.loading.world_size)
        return np.stack([images, copies], 1)[np.lexsort([copies, batches])]

    def _resample(self, order: np.ndarray, weights: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """(N, 2), image and copy, of as many draws as images, in proportion to `weights`."""
        # Systematic resampling: an image with an expectation of 2.3 comes two or three times, never one or four.
        shares = np.cumsum(weights[order])
        ends = np.floor(shares / shares[-1] * self.length + generator.random()).astype(np.int64)
        counts = np.diff(ends, prepend=0)
        copies = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return generator.permutation(np.stack([np.repeat(order, counts), copies], 1))


class EvalBatches(Sampler[list[int] | list[Draw]]):
    """Every image once, in order; rank r takes the whole batches r, r + world_size, …

    Batches hold the same images on any number of ranks, so rounding errors are the same. With `seed`, numbers, a random
    transform of an image is a function of them and of the image.

    Attributes:
        numbers: each batch's number in the whole evaluation.
        batches: the indices of each.
    """

    def __init__(self, length: int, loading: Loading, seed: tuple[int, ...] | None = None) -> None:
        self.seed = seed
        starts = range(0, length, loading.batch_size)
        self.numbers = range(len(starts))[loading.rank::loading.world_size]
        self.batches = [list(range(start, min(start + loading.batch_size, length)))
                        for start in starts[loading.rank::loading.world_size]]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int] | list[Draw]]:
        seed = self.seed
        if seed is None:
            return iter(self.batches)
        return ([Draw(index, mix_seed(*seed, index)) for index in batch] for batch in self.batches)


class WorkersLost(Stopped):
    """A process that loads pictures was ended from outside, or by the library that decodes them."""


class Loader(DataLoader[Sample]):
    """A `DataLoader` that notices dead worker processes in order, and leaves no process and no thread behind."""

    _processes: Sequence[multiprocessing.process.BaseProcess] = ()
    _threads: Sequence[threading.Thread] = ()

    def __iter__(self) -> Iterator[Any]:  # pyrefly: ignore[bad-override]  # torch names its own class of iterators
        """The batches.

        Raises:
            WorkersLost: a worker process has died; it is raised where the next batch is asked for.
        """
        try:
            yield from self._start()
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker (pid"):
                raise
            codes = [process.exitcode for process in self._processes if process.exitcode]
            self._kill(self._processes)
            self._threads = ()  # they end with the iterator, which the error holds
            raise WorkersLost(f"a process that loads pictures ended{_reason(codes)}: it was killed, ran out of memory, "
                              "or met a picture that crashes its decoder") from error
        finally:
            if not self.persistent_workers:
                self.close()

    def close(self) -> None:
        """End the worker processes; a new iteration starts new ones."""
        self._iterator = None
        # None may still be closing pipes while another loader forks, or while Python ends.
        for thread in self._threads:
            thread.join(LONGEST_END)
        self._processes, self._threads = (), ()

    def _start(self) -> Iterator[Any]:
        """An iterator, with worker processes unless the system allows no more."""
        processes, threads = multiprocessing.active_children(), threading.enumerate()
        try:
            with _keep_child_handler():
                return super().__iter__()
        except (OSError, RuntimeError) as error:
            if self._processes or not _allows_no_more(error):
                raise
            self._kill([each for each in multiprocessing.active_children() if each not in processes])
            print(f"the system starts no more processes ({error}): pictures are loaded in this one", flush=True)
            _forget_iterator(error)
        finally:
            self._processes = [*self._processes, *(
                each for each in multiprocessing.active_children() if each not in processes)]
            self._threads = [*self._threads, *(each for each in threading.enumerate() if each not in threads)]
        self.num_workers = 0
        return super().__iter__()

    @staticmethod
    def _kill(processes: Sequence[multiprocessing.process.BaseProcess]) -> None:
        for process in processes:
            process.kill()
            process.join()


def make_loader(dataset: ImageList, batches: Sampler[list[Draw]] | Sampler[list[int]] | EvalBatches,
                loading: Loading, *, lasting: bool = False) -> Loader:
    """A loader of `Batch`es. Its worker processes end with each iteration, or, if `lasting`, with `Loader.close`."""
    atexit.unregister(_end_workers)  # register once, however many loaders there are
    atexit.register(_end_workers)
    workers = min(loading.num_workers, _most_workers())
    return Loader(dataset, batch_sampler=batches, collate_fn=functools.partial(collate, stack=dataset.stack),
                  num_workers=workers, pin_memory=loading.pin_memory, persistent_workers=lasting and workers > 0,
                  worker_init_fn=_outlive_signals, generator=torch.Generator().manual_seed(0))


def _most_workers() -> int:
    """The worker processes that the limit of open files (`ulimit -n`) allows: pipes and batches take handles."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    handles = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if handles == resource.RLIM_INFINITY else max(0, (handles - 32) // 8)


def _outlive_signals(worker: int) -> None:
    """Keep a worker alive when a signal reaches the whole process group: the main process must finish its update.

    The first SIGTERM is ignored, too. The second one, which the main process sends at its end, counts.
    """
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, lambda *_: os._exit(0)))


def _end_workers() -> None:
    """Kill workers that are left after an error: multiprocessing sends one SIGTERM and waits for ever."""
    for worker in multiprocessing.active_children():
        if worker.daemon:
            worker.kill()


@contextlib.contextmanager
def _keep_child_handler() -> Iterator[None]:
    """Inside the block torch may set its handler of SIGCHLD, which raises wherever this process is; not after it.

    Without it, `DataLoader` notices a dead worker within five seconds, where a batch is asked for. An error anywhere
    may come between a file and its name, or end the wait for another worker.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def _allows_no_more(error: OSError | RuntimeError) -> bool:
    """Whether `error` says that no process or thread can be started, perhaps for want of file handles."""
    if isinstance(error, OSError):
        return error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
    return "start new thread" in str(error)


def _forget_iterator(error: OSError | RuntimeError) -> None:
    """Delete the half-made iterator that the traceback of `error` holds; it cannot end itself, and would say so."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    error.__traceback__ = None
    sys.unraisablehook = hook


def _reason(codes: Sequence[int]) -> str:
    """What the exit codes of dead processes say."""
    if not codes:
        return ""
    return f" by {signal.Signals(-codes[0]).name}" if codes[0] < 0 else f" with exit code {codes[0]}"
