"""Every label on both sides, in the wanted share, wherever any split can do that."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.multilabel.stratification import stratify

Pictures = Sequence[Sequence[str]]


def one_sided(pictures: Pictures, validates: Sequence[bool]) -> int:
    """Labels of two pictures or more that are on one side only."""
    sides: dict[str, list[bool]] = {}
    for labels, side in zip(pictures, validates, strict=True):
        for label in labels:
            sides.setdefault(label, []).append(side)
    return sum(len(held) > 1 and len(set(held)) == 1 for held in sides.values())


def long_tailed(count: int, labels: int, seed: int = 0) -> Pictures:
    generator = random.Random(seed)
    names = [f"label {number}" for number in range(labels)]
    weights = [1 / (number + 1) for number in range(labels)]
    return [sorted(set(generator.choices(names, weights, k=generator.randint(1, 4)))) for _ in range(count)]


SMALL = st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3).map(sorted), min_size=1, max_size=8)


@settings(max_examples=200)
@given(SMALL, st.integers(0, 9))
def test_no_split_of_few_pictures_does_better(pictures: Pictures, seed: int) -> None:
    best = min(one_sided(pictures, validates) for validates in itertools.product([False, True], repeat=len(pictures)))
    assert one_sided(pictures, stratify(pictures, 0.2, seed=seed)) == best


def test_labels_of_two_pictures_are_a_chain_that_only_one_split_resolves() -> None:
    pictures = [[f"label {number}", f"label {number + 1}"] for number in range(40)]
    validates = stratify(pictures, 0.1, seed=0)
    assert one_sided(pictures, validates) == 0
    assert validates in ([bool(number % 2) for number in range(40)], [not number % 2 for number in range(40)])


def test_labels_that_exclude_each_other_leave_as_few_as_can_be() -> None:
    triangle = [["a", "b"], ["b", "c"], ["a", "c"]]
    assert one_sided(triangle, stratify(triangle, 0.3, seed=0)) == 1


@pytest.mark.parametrize("val_ratio", [0.1, 0.2, 0.5])
def test_shares_are_closer_than_at_random(val_ratio: float) -> None:
    pictures = long_tailed(2000, 100)

    def worst(validates: Sequence[bool]) -> float:
        every = Counter(label for labels in pictures for label in labels)
        val = Counter(label for labels, side in zip(pictures, validates, strict=True) if side for label in labels)
        return max(abs(val[label] / count - val_ratio) for label, count in every.items() if count >= 20)

    dealt = stratify(pictures, val_ratio, seed=0)
    generator = random.Random(1)
    by_chance = [worst([generator.random() < val_ratio for _ in pictures]) for _ in range(20)]
    assert one_sided(pictures, dealt) == 0
    assert worst(dealt) < 0.6 * min(by_chance)
    assert sum(dealt) / len(dealt) == pytest.approx(val_ratio, abs=0.02)


def test_disjoint_labels_are_split_exactly() -> None:
    pictures = [[name] for name, count in (("a", 100), ("b", 20), ("c", 5), ("d", 2), ("e", 1)) for _ in range(count)]
    val = Counter(labels[0] for labels, side in zip(pictures, stratify(pictures, 0.2, seed=3), strict=True) if side)
    assert val == {"a": 20, "b": 4, "c": 1, "d": 1}


def test_the_seed_decides() -> None:
    pictures = long_tailed(200, 20)
    assert stratify(pictures, 0.2, seed=0) == stratify(pictures, 0.2, seed=0)
    assert stratify(pictures, 0.2, seed=0) != stratify(pictures, 0.2, seed=1)
