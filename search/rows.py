"""A matrix in several parts, of which most lie on disk: it is read like an array, and compared part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


class StackedRows:
    """The rows of several matrices, one below the other, without a copy.

    Attributes:
        parts: (N_i, D) float32 each; they may be memory maps.
        shape: (N, D).
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = [part for part in parts if len(part)] or [parts[0]]
        self._starts = np.cumsum([0, *map(len, self.parts)])
        self.shape = (int(self._starts[-1]), self.parts[0].shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        """The rows at `index`, a slice or whole numbers of any shape, from 0 on; a view where one part has them all."""
        if isinstance(index, slice):
            numbers = range(len(self))[index]
            if len(numbers) and numbers.step == 1:
                part = int(np.searchsorted(self._starts, numbers.start, "right")) - 1
                if numbers.stop <= self._starts[part + 1]:
                    return self.parts[part][numbers.start - self._starts[part]:numbers.stop - self._starts[part]]
            index = np.arange(len(self))[index]
        numbers = np.asarray(index, np.int64)
        found = np.empty((*numbers.shape, self.shape[1]), np.float32)
        places = np.searchsorted(self._starts, numbers, "right") - 1
        for part in np.unique(places):
            found[places == part] = self.parts[part][numbers[places == part] - self._starts[part]]
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All rows in memory."""
        return np.concatenate(self.parts).astype(dtype or np.float32, copy=False)


Rows = np.ndarray | StackedRows  # (N, D) float32


def row_blocks(rows: Rows, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Consecutive blocks of at most `size` rows, none of them a copy, and the number of the first row of each."""
    start = 0
    for part in rows.parts if isinstance(rows, StackedRows) else [rows]:
        for first in range(0, len(part), size):
            yield start + first, part[first:first + size]
        start += len(part)


def runs(kept: np.ndarray) -> list[slice]:
    """The slices of consecutive rows of which `kept`, (N,) bool, is true."""
    edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=0, append=0))
    return [slice(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
