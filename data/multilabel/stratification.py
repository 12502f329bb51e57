"""Two sides of pictures with several labels each, such that both sides have the same share of every label."""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from collections.abc import Sequence

_MOST_MOVES = 20_000  # 3 s on data whose labels cannot all be on both sides; what can be repaired takes far fewer
_WRONG_TURNS = 0.1  # share of moves that are taken at random, as the search would otherwise go in circles


def stratify(pictures: Sequence[Sequence[str]], val_ratio: float, *, seed: int) -> list[bool]:
    """For each picture whether it validates.

    The rarest label is dealt first, each of its pictures to the side that lacks it most. A label of two pictures or
    more is wanted on both sides, a label of one in training, and what dealing did not reach is repaired by moving
    single pictures. Some sets of labels have no such split (a, b and c on three pictures, each with two of them): then
    as few labels as the search found are on one side only.

    Args:
        pictures: the labels of each picture, each once.
        val_ratio: share of every label's pictures that validates, in (0, 1).
        seed: another seed gives another split.

    **Source:** Sechidis, Tsoumakas, Vlahavas, On the Stratification of Multi-Label Data, 2011, algorithm 1. Added here:
    the least number on each side, and the repair, which is WalkSAT (Selman, Kautz, Cohen, 1994).
    """
    generator = random.Random(seed)
    holders: dict[str, list[int]] = defaultdict(list)
    for picture in sorted(range(len(pictures)), key=lambda _: generator.random()):
        for label in pictures[picture]:
            holders[label].append(picture)
    validates = _deal(pictures, holders, val_ratio)
    _Repair(pictures, holders, validates, generator).run()
    return validates


def _deal(pictures: Sequence[Sequence[str]], holders: dict[str, list[int]], val_ratio: float) -> list[bool]:
    wanted = {label: _wanted(len(members), val_ratio) for label, members in holders.items()}
    room = [len(pictures) * (1 - val_ratio), len(pictures) * val_ratio]
    left = {label: len(members) for label, members in holders.items()}
    rarest = [(count, label) for label, count in left.items()]
    heapq.heapify(rarest)
    sides: list[int | None] = [None] * len(pictures)
    while rarest:
        count, label = heapq.heappop(rarest)
        if count != left[label]:
            continue  # another entry says how many there are now
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
    """Pictures of a label that should train and validate."""
    val = max(1.0, min(count - 1.0, count * val_ratio)) if count > 1 else 0.0
    return [count - val, val]


class _Repair:
    """Moves pictures until no label of two pictures or more is on one side only."""

    def __init__(self, pictures: Sequence[Sequence[str]], holders: dict[str, list[int]], validates: list[bool],
                 generator: random.Random) -> None:
        self.pictures, self.holders, self.validates, self.generator = pictures, holders, validates, generator
        self.counts = {label: [0, 0] for label in holders}
        for labels, side in zip(pictures, validates, strict=True):
            for label in labels:
                self.counts[label][side] += 1
        self.one_sided = {label: None for label in holders if self._is_one_sided(label)}  # a set that keeps its order

    def _is_one_sided(self, label: str) -> bool:
        return len(self.holders[label]) > 1 and 0 in self.counts[label]

    def run(self) -> None:
        """Search, and go back to the best there was."""
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
        if min(damage.values())[0] and self.generator.random() < _WRONG_TURNS:
            return members[int(self.generator.random() * len(members))]
        return min(members, key=lambda picture: (damage[picture], self.generator.random()))

    def _damage(self, picture: int) -> tuple[int, int]:
        """Labels that a move would leave on one side only, and single pictures' labels it would take from training."""
        alone = [label for label in self.pictures[picture] if self.counts[label][self.validates[picture]] == 1]
        single = sum(len(self.holders[label]) == 1 for label in alone)
        return len(alone) - single, single * (not self.validates[picture])

    def _move(self, picture: int) -> None:
        side = self.validates[picture]
        self.validates[picture] = not side
        for label in self.pictures[picture]:
            self.counts[label][side] -= 1
            self.counts[label][not side] += 1
            if self._is_one_sided(label):
                self.one_sided[label] = None
            else:
                self.one_sided.pop(label, None)
