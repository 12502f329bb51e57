"""Progress bars, for commands that start without torch too."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

from data.worker_pool import Progress
from utils import counted

# Both leave the bar at least four of 80 columns, whatever long run they show.
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{remaining}, {rate_noinv_fmt}]"
BAR_OF_FIGURES = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}"

Item = TypeVar("Item")


def progress(items: Iterable[Item], total: int, done: int = 0) -> Iterable[Item]:
    """`items`, of which `done` of `total` are finished; a terminal shows a bar with images per second and time left."""
    return _bar(items, "pictures", total, done)


def announced(doing: str) -> Progress:
    """A wrapper of results that shows a bar on a terminal, elsewhere one line: `doing` and the number of pictures."""

    def show(results: Iterable[Item], total: int) -> Iterable[Item]:
        if total and not sys.stderr.isatty():
            print(f"{doing} {counted(total, 'picture')}", flush=True)
        return _bar(results, doing, total)

    return show


def _bar(items: Iterable[Item], title: str, total: int, done: int = 0) -> Iterable[Item]:
    return tqdm(items, total=total, initial=done, desc=title, unit="img", leave=False, dynamic_ncols=True,
                bar_format=BAR, disable=not (total and sys.stderr.isatty()))
