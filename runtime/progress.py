"""Progress bars, for commands that start without torch too."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from data.worker_pool import Progress

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, done: int = 0) -> Iterable[Item]:
    """`items`, of which `done` of `total` are finished; a terminal shows a bar with images per second and time left."""
    return tqdm(items, total=total, initial=done, unit="img", leave=False, dynamic_ncols=True,
                disable=not sys.stderr.isatty())


def announced(doing: str) -> Progress:
    """A wrapper of results that shows a bar on a terminal, elsewhere one line: `doing` and the number of pictures."""

    def show(results: Iterable[Item], total: int) -> Iterable[Item]:
        if not sys.stderr.isatty():
            print(f"{doing} {total} pictures", flush=True)
        return tqdm(results, total=total, desc=doing, unit=" pictures", disable=not sys.stderr.isatty(), leave=False)

    return show
