"""Repeated augmentation: several views of the same picture in one batch, dealt to the ranks like everything else."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from data.image_list import Draw
from data.loaders import Loading, TrainBatches


def dealt(length: int, *, number: int = 0, repeats: int, **loading: int) -> list[list[Draw]]:
    batches = TrainBatches(length, Loading(**loading), seed=0, repeats=repeats)
    batches.start(number)
    return list(batches)


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 3), st.integers(2, 4), st.integers(0, 3))
def test_repeated_augmentation_draws_a_part_of_the_pictures_several_times(length: int, per_rank: int, ranks: int,
                                                                          repeats: int, number: int) -> None:
    how = {"number": number, "repeats": repeats}
    by_rank = [dealt(length, **how, batch_size=per_rank, rank=rank, world_size=ranks) for rank in range(ranks)]
    alone = dealt(length, **how, batch_size=per_rank * ranks)
    assert [[draw for part in parts for draw in part] for parts in zip(*by_rank, strict=True)] == alone
    drawn = [draw for batch in alone for draw in batch]
    assert len(drawn) == length - length % (per_rank * ranks)
    counts = Counter(draw.index for draw in drawn)
    assert sum(count < repeats for count in counts.values()) <= 1  # the picture at the end
    assert max(counts.values(), default=repeats) <= repeats
    assert len({draw.seed for draw in drawn}) == len(drawn)  # each copy augmented anew


def test_copies_stand_apart_in_their_batch() -> None:
    """Mixup and cutmix blend neighbours, and a batch's last with its first."""
    for batch in dealt(120, repeats=3, batch_size=12):
        indices = [draw.index for draw in batch]
        assert len(set(indices)) == 4
        assert all(one != other for one, other in zip(indices, [*indices[1:], indices[0]], strict=True))


def test_repeats_are_another_part_of_the_pictures_in_each_epoch() -> None:
    parts = [{draw.index for batch in dealt(30, repeats=3, number=number, batch_size=6) for draw in batch}
             for number in range(12)]
    assert {len(part) for part in parts} == {10}
    assert set.union(*parts) == set(range(30))
