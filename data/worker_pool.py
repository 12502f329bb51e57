"""A parallel map whose results keep the input order, and which outlives its processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from utils import ENDING, UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[Iterable, int], Iterable]

_ITEMS_PER_PROCESS = 256  # decoding fewer takes less time than starting a process (0.75 ms a picture at 384 px)
_MOST_PROCESSES = 61  # Windows waits on at most 63 handles
_CHUNK = 16  # items that a process gets at once


def map_ordered(function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None,
                lost: Result | None = None, progress: Progress | None = None) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order.

    A damaged picture may end the process that decodes it. With `lost`, what such a process leaves is tried again item
    by item, so that no other item is lost. Where the system has too few handles or processes, fewer work, at last this
    one alone. When the iterator is closed early or fails, items that have not begun are dropped.

    Args:
        function: a module's function, or a `functools.partial` of one, because it is pickled.
        items: its arguments.
        workers: processes, None for one per processor; 0 works in this one, as do too few items to be worth a process.
        lost: the result of an item that ends its process. If it is given, few items get a process, too, and `function`
            may be called twice for one item.
        progress: wraps the results; called with them and their number.

    Raises:
        UserError: a process ends, and `lost` is not given.
    """
    if workers is None:
        workers = os.cpu_count() or 1
    worth = len(items) // _ITEMS_PER_PROCESS
    workers = min(workers, worth if lost is None else max(worth, 1), _MOST_PROCESSES)
    with contextlib.closing(_map_in_processes(function, items, workers, lost)) as results:
        yield from progress(results, len(items)) if progress else results


def _map_in_processes(function: Callable[[Item], Result], items: Sequence[Item], workers: int,
                      lost: Result | None) -> Generator[Result]:
    done = 0
    while done < len(items) and workers:
        with contextlib.ExitStack() as stack, contextlib.suppress(BrokenProcessPool):
            try:
                results = stack.enter_context(_pool(workers)).map(function, items[done:], chunksize=_CHUNK)
            except OSError:  # of the system, when it starts processes; those of `function` come with the results
                workers //= 2
                continue
            for result in results:
                yield result
                done += 1
        if done < len(items):
            if lost is None:
                raise UserError("the end of a process that was at work", "processes that go on",
                                "see whether the memory suffices, then run this again")
            suspects = items[done:done + (2 * workers + 1) * _CHUNK]  # as many may have been with the processes
            yield from _map_one_by_one(function, suspects, lost)
            done += len(suspects)
    yield from map(function, items[done:])


def _map_one_by_one(function: Callable[[Item], Result], items: Sequence[Item], lost: Result) -> Iterator[Result]:
    """The results of `items`, from one process at a time; lost is the one that ends a process as its first."""
    done = 0
    while done < len(items):
        first = done
        with _pool(1) as pool, contextlib.suppress(BrokenProcessPool):
            for item in items[done:]:
                yield pool.submit(function, item).result()
                done += 1
        if done == first:
            yield lost
            done += 1


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    # A process with threads (torch) must not be forked, so processes are spawned on every system; but a fork of one
    # without takes 5 ms, and a spawned process 300.
    forks = workers == 1 and sys.platform == "linux" and threading.active_count() == 1
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork" if forks else "spawn"),
                               initializer=_follow_parent)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C, which reaches every process of a terminal, to the parent, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in ENDING:
        if callable(signal.getsignal(number)):  # a fork has the parent's handlers
            signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
