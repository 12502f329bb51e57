"""The split depends on names, contents and seed; equal files never face each other across it."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prepare.artist_folders import Picture
from data.prepare.splits import Links, Split, SplitRule, split_artists
from utils import UserError


def pictures(artist: str, count: int, form: str = "é{}.png") -> list[Picture]:
    return [Picture(artist=artist, source=f"{artist}/{form.format(number)}", name=form.format(number))
            for number in range(count)]


def split(artists: dict[str, list[Picture]], *, val_ratio: float = 0.2, min_images: int = 1, seed: int = 0,
          damaged: tuple[str, ...] = (), copies: Sequence[Sequence[Picture]] = (), leave_out: tuple[str, ...] = (),
          near: Sequence[Sequence[Picture]] | None = None, groups: Mapping[str, str] | None = None) -> Split:
    rule = SplitRule(val_ratio=val_ratio, min_images=min_images, seed=seed, leave_groups_out=leave_out)
    return split_artists(artists, rule, damaged=dict.fromkeys(damaged, "damaged"),
                         links=Links(copies=copies, near_duplicates=near, groups=groups))


def names(side: dict[str, list[Picture]]) -> list[str]:
    return [picture.source for group in side.values() for picture in group]


@given(st.integers(1, 60), st.floats(0.001, 0.999))
def test_every_artist_validates_its_share_but_never_with_all(count: int, val_ratio: float) -> None:
    made = split({"A": pictures("A", count)}, val_ratio=val_ratio)
    assert len(made.train["A"]) >= 1
    assert sorted(names(made.train) + names(made.val)) == sorted(picture.source for picture in pictures("A", count))
    if count > 1:
        assert len(made.val["A"]) >= 1
        assert abs(len(made.val["A"]) - count * val_ratio) <= 1


@pytest.mark.parametrize(("count", "val_ratio", "validating"), [
    (60, 0.2, 12), (55, 0.2, 11), (10, 0.25, 3), (2, 0.01, 1), (2, 0.99, 1), (1, 0.5, 0), (25, 0.1, 3)])
def test_the_share_is_rounded(count: int, val_ratio: float, validating: int) -> None:
    assert len(split({"A": pictures("A", count)}, val_ratio=val_ratio).val["A"]) == validating


def test_the_choice_is_the_same_on_every_machine() -> None:
    """Recorded once: another order of a hash, of a generator or of the names would change it."""
    made = split({"A": pictures("A", 20, "{}.png")}, seed=7)
    assert names(made.val) == ["A/11.png", "A/13.png", "A/15.png", "A/18.png"]


def test_neither_order_nor_spelling_of_accents_nor_other_artists_change_it() -> None:
    expected = names(split({"A": pictures("A", 30)}).val)
    shuffled = pictures("A", 30)
    random.Random(1).shuffle(shuffled)
    assert sorted(names(split({"A": shuffled}).val)) == sorted(expected)
    assert names(split({"B": pictures("B", 9), "A": pictures("A", 30)}).val)[:6] == expected
    decomposed = names(split({"A": pictures("A", 30, "e\u0301{}.png")}).val)
    assert [unicodedata.normalize("NFC", name) for name in decomposed] == expected


def test_another_seed_chooses_others() -> None:
    assert len({tuple(names(split({"A": pictures("A", 30)}, seed=seed).val)) for seed in range(5)}) == 5


def test_a_picture_more_moves_at_most_one_other() -> None:
    before, after = (set(names(split({"A": pictures("A", count)}).val)) for count in (30, 31))
    assert len(before ^ after) <= 2


def test_each_picture_validates_as_often_as_any_other() -> None:
    counts = [sum(f"A/é{number}.png" in names(split({"A": pictures("A", 10)}, seed=seed).val) for seed in range(300))
              for number in range(10)]
    assert min(counts) > 35
    assert max(counts) < 90  # 60 expected, standard deviation 7


def test_artists_are_sorted_and_small_ones_left_out() -> None:
    made = split({"中": pictures("中", 5), "a": pictures("a", 5), "B": pictures("B", 4)}, min_images=5)
    assert list(made.train) == list(made.val) == ["a", "中"]
    assert made.left_out == {"B": 4}


def test_damaged_pictures_do_not_count() -> None:
    made = split({"A": pictures("A", 5)}, min_images=5, damaged=("A/é0.png",))
    assert made.left_out == {"A": 4}
    assert "A/é0.png" not in names(split({"A": pictures("A", 5)}, damaged=("A/é0.png",)).train)


def test_of_equal_files_of_an_artist_the_first_is_kept() -> None:
    group = pictures("A", 12)
    made = split({"A": group}, copies=[[group[2], group[5], group[9]]], min_images=10)
    assert made.duplicates == {group[5].source: group[2].source, group[9].source: group[2].source}
    assert len(names(made.train) + names(made.val)) == 10
    assert split({"A": group}, copies=[[group[2], group[5], group[9]]], min_images=11).left_out == {"A": 10}


@pytest.mark.parametrize("seed", range(8))
def test_equal_files_of_several_artists_are_trained_on(seed: int) -> None:
    a, b = pictures("A", 10), pictures("B", 10)
    made = split({"A": a, "B": b}, copies=[[a[0], a[1], b[0]], [a[4], b[7]]], seed=seed, val_ratio=0.5)
    assert made.conflicts == [[a[0].source, b[0].source], [a[4].source, b[7].source]]
    assert {a[0].source, b[0].source, a[4].source, b[7].source} <= set(names(made.train))
    assert made.duplicates == {a[1].source: a[0].source}


def test_an_artist_of_conflicts_only_has_nothing_to_validate() -> None:
    a, b = pictures("A", 3), pictures("B", 3)
    made = split({"A": a, "B": b}, copies=[list(pair) for pair in zip(a, b, strict=True)])
    assert made.val == {"A": [], "B": []}
    assert len(made.train["A"]) == 3


def test_an_artist_who_is_left_out_makes_no_conflict() -> None:
    a, b = pictures("A", 10), pictures("B", 2)
    assert split({"A": a, "B": b}, copies=[[a[0], b[0]]], min_images=5).conflicts == []


# ---- what stays together ---------------------------------------------------------------------------------------------


@given(st.integers(5, 40), st.lists(st.lists(st.integers(0, 39), min_size=2, max_size=5), max_size=5),
       st.floats(0.05, 0.9), st.integers(0, 9))
def test_near_duplicates_are_on_one_side_and_the_others_stay(count: int, members: list[list[int]], val_ratio: float,
                                                             seed: int) -> None:
    group = pictures("A", count)
    near = [[group[number] for number in sorted({n % count for n in numbers})] for numbers in members]
    before = split({"A": group}, val_ratio=val_ratio, seed=seed)
    made = split({"A": group}, val_ratio=val_ratio, seed=seed, near=near)
    side, linked = made.side_of(), {picture.source for numbers in near if len(numbers) > 1 for picture in numbers}
    assert all(len({side[picture.source] for picture in numbers}) == 1 for numbers in near)
    assert {name: before.side_of()[name] for name in side.keys() - linked} == {
        name: side[name] for name in side.keys() - linked}
    assert made.train["A"]
    assert made.near_duplicates == [[p.source for p in numbers] for numbers in near if len(numbers) > 1]


def test_near_duplicates_of_several_artists_train() -> None:
    a, b = pictures("A", 10), pictures("B", 10)
    for seed in range(8):
        side = split({"A": a, "B": b}, near=[[a[0], b[0]], [b[0], b[1]]], val_ratio=0.5, seed=seed).side_of()
        assert {side[picture.source] for picture in (a[0], b[0], b[1])} == {"train"}


def test_only_usable_near_duplicates_count() -> None:
    a, b = pictures("A", 10), pictures("B", 2)
    made = split({"A": a, "B": b}, min_images=5, near=[[a[0], b[0]], [a[1], a[2], a[3]]], copies=[[a[1], a[2]]])
    assert made.near_duplicates == [[a[1].source, a[3].source]]
    assert split({"A": a}).near_duplicates is None


def books(*sizes: int, artist: str = "A") -> tuple[list[Picture], dict[str, str]]:
    """An artist's pictures in books called `artist`0, `artist`1, … of so many, and the book of each."""
    group = pictures(artist, sum(sizes))
    names = [f"{artist}{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return group, {picture.source: name for picture, name in zip(group, names, strict=True)}


@given(st.lists(st.integers(1, 20), min_size=2, max_size=6), st.floats(0.05, 0.9), st.integers(0, 9))
def test_no_group_is_on_both_sides(sizes: list[int], val_ratio: float, seed: int) -> None:
    group, named = books(*sizes)
    made = split({"A": group}, val_ratio=val_ratio, seed=seed, groups=named)
    assert made.train["A"]
    assert made.val["A"]
    assert made.groups == {name: side for name, side in
                           {named[source]: side for source, side in made.side_of().items()}.items()}
    assert all(made.groups[named[source]] == side for source, side in made.side_of().items())


@pytest.mark.parametrize(("sizes", "validating"), [
    ((30, 25), [25]), ((200, 5), [5]), ((5, 5, 5, 5, 5), [5]), ((10, 40), [10]), ((1,) * 10, [2])])
def test_the_groups_come_near_the_share(sizes: tuple[int, ...], validating: list[int]) -> None:
    group, named = books(*sizes)
    for seed in range(5):
        assert len(split({"A": group}, groups=named, seed=seed).val["A"]) in validating


def test_the_seed_chooses_among_equal_groups() -> None:
    group, named = books(30, 30)
    assert {split({"A": group}, groups=named, seed=seed).val["A"][0].source for seed in range(9)} == {
        group[0].source, group[30].source}


def test_a_group_of_two_artists_is_on_one_side_of_both() -> None:
    a, in_a = books(5, 20)
    b, in_b = books(5, 20, artist="B")
    named = in_a | in_b | {picture.source: "both" for picture in (*a[:5], *b[:5])}
    for seed in range(5):
        made = split({"A": a, "B": b}, groups=named, seed=seed)
        assert (made.val["A"], made.val["B"]) == (a[:5], b[:5])


def test_an_artist_with_one_group_trains_and_is_not_measured_until_it_is_left_out() -> None:
    (a, in_a), (b, in_b) = books(12), books(6, 6, artist="B")
    made = split({"A": a, "B": b}, groups=in_a | in_b)
    assert (len(made.train["A"]), made.not_measured()) == (12, ["A"])
    with pytest.raises(UserError, match="no picture to train of 1 artist"):
        split({"A": a, "B": b}, groups=in_a | in_b, leave_out=("A0",))
    with pytest.raises(UserError, match="val/ is empty"):
        split({"A": a}, groups=in_a)


def test_a_picture_without_a_group_is_drawn_as_without_groups() -> None:
    group, named = books(30, 10)
    free = pictures("A", 20, "free{}.png")
    alone = split({"A": [*group, *free]}).side_of()
    made = split({"A": [*group, *free]}, groups=named).side_of()
    assert [made[picture.source] for picture in free] == [alone[picture.source] for picture in free]


def test_groups_that_are_left_out_validate_and_nothing_else() -> None:
    (a, in_a), (b, in_b), (c, in_c) = books(3, 9, 9), books(8, 8, artist="B"), books(10, artist="C")
    made = split({"A": a, "B": b, "C": c}, groups=in_a | in_b | in_c, leave_out=("A1", "B0"))
    assert made.val == {"A": a[3:12], "B": b[:8], "C": []}
    assert made.not_measured() == ["C"]
    joined = split({"A": a, "B": b, "C": c}, groups=in_a | in_b | in_c, leave_out=("A1",), near=[[a[0], a[4]]])
    assert joined.val["A"] == a[:12]


def test_a_left_out_group_without_a_usable_picture_is_an_error() -> None:
    (a, in_a), (b, in_b) = books(6, 6), books(2, artist="B")
    with pytest.raises(UserError, match="no usable picture in the group B0"):
        split({"A": a, "B": b}, groups=in_a | in_b, leave_out=("B0",), min_images=5)


def test_a_group_with_a_file_that_another_artist_has_too_trains() -> None:
    (a, in_a), (b, in_b) = books(5, 5), books(5, 5, artist="B")
    for seed in range(6):
        made = split({"A": a, "B": b}, groups=in_a | in_b, copies=[[a[0], b[0]]], seed=seed, val_ratio=0.5)
        assert made.groups == {"A0": "train", "A1": "val", "B0": "train", "B1": "val"}
