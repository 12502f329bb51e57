"""Lanes: batches at work side by side, each on its own part of the cores, with the results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")


class Lanes:
    """Threads that divide the cores of the one that made them, as a context manager.

    An operator on all cores waits for its slowest part, so that it takes twice as long when one core has something
    else to do, such as to decode a picture. Lanes of one core each wait for nobody. One lane is the calling thread.
    """

    def __init__(self, count: int) -> None:
        """Divide the cores that torch uses in this thread among `count` lanes."""
        self.count, self.cores = count, torch.get_num_threads()
        self.pool = None if count == 1 else ThreadPoolExecutor(
            count, initializer=torch.set_num_threads, initargs=(max(1, self.cores // count),))

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self.cores)  # what threads to come begin with was changed, too

    def map(self, work: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[tuple[Item, Found]]:
        """Each item with what `work` makes of it, in order.

        `items` is read in the calling thread and no further ahead than keeps the lanes busy, so it may itself be the
        result of another `map` of these lanes.
        """
        if self.pool is None:
            yield from ((item, work(item)) for item in items)
            return
        waiting: deque[tuple[Item, Future[Found]]] = deque()
        for item in items:
            waiting.append((item, self.pool.submit(work, item)))
            while waiting and (len(waiting) > self.count or waiting[0][1].done()):
                yield _first(waiting)
        while waiting:
            yield _first(waiting)


def _first(waiting: deque[tuple[Item, Future[Found]]]) -> tuple[Item, Found]:
    item, future = waiting.popleft()
    return item, future.result()
