"""One function over many items in several processes, results in input order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[Iterable, int], Iterable]

_ITEMS_PER_PROCESS = 256  # decoding fewer takes less time than starting a process (0.75 ms a picture at 384 px)
_MOST_PROCESSES = 61  # Windows waits on at most 63 handles


def map_ordered(function: Callable[[Item], Result], items: Sequence[Item], *, workers: int,
                progress: Progress | None = None) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order.

    Processes are spawned on every system, so one behaviour is tested and a process with threads (torch) is never
    forked. Closing the iterator early, or an exception, drops what has not begun.

    Args:
        function: a module's function or a `functools.partial` of one (it travels to the processes).
        items: what it is called with.
        workers: processes; 0 works in this one, as do too few items to be worth a second.
        progress: wraps the results, called with them and their number (`tqdm` does, with `total=`).
    """
    workers = min(workers, len(items) // _ITEMS_PER_PROCESS, _MOST_PROCESSES)
    if workers == 0:
        results: Iterable[Result] = map(function, items)
        yield from progress(results, len(items)) if progress else results
        return
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_follow_parent)
    try:
        results = pool.map(function, items, chunksize=16)
        yield from progress(results, len(items)) if progress else results
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Ctrl-C reaches every process of a terminal: only the parent answers it. A killed parent takes this one along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
