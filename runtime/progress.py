"""How far a long piece of work is, for commands that start without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tqdm import tqdm

from data.worker_pool import Progress


def announced(doing: str) -> Progress:
    """A wrapper of results that shows a bar on a terminal, elsewhere a plain line: `doing` and how many pictures."""

    def show(results: Iterable, total: int) -> Iterable:
        if not sys.stderr.isatty():
            print(f"{doing} {total} pictures", flush=True)
        return tqdm(results, total=total, desc=doing, unit=" pictures", disable=not sys.stderr.isatty(), leave=False)

    return show
