"""The split depends on names, contents and seed; equal files never face each other across it."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.prepare.artist_folders import Picture
from data.prepare.splits import Split, SplitRule, split_artists


def pictures(artist: str, count: int, form: str = "é{}.png") -> list[Picture]:
    return [Picture(artist=artist, source=f"{artist}/{form.format(number)}", name=form.format(number))
            for number in range(count)]


def split(artists: dict[str, list[Picture]], *, val_ratio: float = 0.2, min_images: int = 1, seed: int = 0,
          damaged: tuple[str, ...] = (), copies: list[list[Picture]] | None = None) -> Split:
    return split_artists(artists, SplitRule(val_ratio=val_ratio, min_images=min_images, seed=seed),
                         damaged=dict.fromkeys(damaged, "damaged"), copies=copies or [])


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
