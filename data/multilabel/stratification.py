"""Stratified split of pictures with several labels each: about the same share of every label on both sides."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Sequence

_MOST_MOVES = 20_000  # 3 s where the labels cannot all be on both sides; a split that exists takes far fewer
_RANDOM_MOVES = 0.1  # share of random moves, without which the search would go in circles


def stratify(pictures: Sequence[Sequence[str]], val_ratio: float, *, seed: int) -> list[bool]:
    """For each picture whether it goes to validation.

    The rarest label is assigned first, each of its pictures to the side that lacks it most. A label of two pictures or
    more should be on both sides, a label of one picture in training. Then single pictures are moved until this holds.
    Some sets of labels have no such split (a, b and c on three pictures, each with two of them); then the fewest
    labels that the search found are on one side only.

    Args:
        pictures: the labels of each picture, without repeats.
        val_ratio: share of every label's pictures for validation, in (0, 1).
        seed: another seed gives another split.

    **Source:** Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, 2011, algorithm 1. Added here:
    the least number on each side, and the moves, which are WalkSAT (Selman, Kautz, Cohen, 1994).
    """
    generator = random.Random(seed)
    holders: dict[str, list[int]] = defaultdict(list)
    for picture in sorted(range(len(pictures)), key=lambda _: generator.random()):
        for label in pictures[picture]:
            holders[label].append(picture)
    in_val = _assign(pictures, holders, val_ratio)
    _Repair(pictures, holders, in_val, generator).run()
    return in_val


def _assign(pictures: Sequence[Sequence[str]], holders: dict[str, list[int]], val_ratio: float) -> list[bool]:
    wanted = {label: _wanted(len(members), val_ratio) for label, members in holders.items()}
    room = [len(pictures) * (1 - val_ratio), len(pictures) * val_ratio]
    left = {label: len(members) for label, members in holders.items()}
    rarest = [(count, label) for label, count in left.items()]
    heapq.heapify(rarest)
    sides: list[int | None] = [None] * len(pictures)
    while rarest:
        count, label = heapq.heappop(rarest)
        if count != left[label]:
            continue  # outdated; another entry has the present count
        for picture in holders[label]:
            if sides[picture] is None:
                side = max((0, 1), key=lambda side: (wanted[label][side], room[side]))
                sides[picture] = side
                room[side] -= 1
                for own in pictures[picture]:
                    wanted[own][side] -= 1
                    left[own] -= 1
                    heapq.heappush(rarest, (left[own], own))
    return [side == 1 for side in sides]


def _wanted(count: int, val_ratio: float) -> list[float]:
    """How many of a label's pictures should be in training and in validation."""
    val = max(1.0, min(count - 1.0, count * val_ratio)) if count > 1 else 0.0
    return [count - val, val]


class _Repair:
    """Moves pictures until no label of two pictures or more is on one side only."""

    def __init__(self, pictures: Sequence[Sequence[str]], holders: dict[str, list[int]], in_val: list[bool],
                 generator: random.Random) -> None:
        self.pictures, self.holders, self.in_val, self.generator = pictures, holders, in_val, generator
        self.counts = {label: [0, 0] for label in holders}
        for labels, side in zip(pictures, in_val, strict=True):
            for label in labels:
                self.counts[label][side] += 1
        self.one_sided = {label: None for label in holders if self._is_one_sided(label)}  # a set that keeps its order

    def _is_one_sided(self, label: str) -> bool:
        return len(self.holders[label]) > 1 and 0 in self.counts[label]

    def run(self) -> None:
        """Search, and return to the best split found."""
        moves: list[int] = []
        best, fewest = 0, len(self.one_sided)
        while self.one_sided and len(moves) < _MOST_MOVES:
            moves.append(self._choose())
            self._move(moves[-1])
            if len(self.one_sided) < fewest:
                best, fewest = len(moves), len(self.one_sided)
        for picture in reversed(moves[best:]):
            self._move(picture)

    def _choose(self) -> int:
        missing = list(self.one_sided)
        members = self.holders[missing[int(self.generator.random() * len(missing))]]
        damage = {picture: self._damage(picture) for picture in members}
        if min(damage.values())[0] and self.generator.random() < _RANDOM_MOVES:
            return members[int(self.generator.random() * len(members))]
        return min(members, key=lambda picture: (damage[picture], self.generator.random()))

    def _damage(self, picture: int) -> tuple[int, int]:
        """Labels that a move would leave on one side only, and labels of one picture that it would move to val."""
        alone = [label for label in self.pictures[picture] if self.counts[label][self.in_val[picture]] == 1]
        single = sum(len(self.holders[label]) == 1 for label in alone)
        return len(alone) - single, single * (not self.in_val[picture])

    def _move(self, picture: int) -> None:
        side = self.in_val[picture]
        self.in_val[picture] = not side
        for label in self.pictures[picture]:
            self.counts[label][side] -= 1
            self.counts[label][not side] += 1
            if self._is_one_sided(label):
                self.one_sided[label] = None
            else:
                self.one_sided.pop(label, None)
