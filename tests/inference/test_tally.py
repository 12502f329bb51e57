"""The summary of a folder: artists by number of pictures, verdicts, and how many are right where folders say it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from inference.tally import KnownArtists, Tally
from runtime.text_table import columns, fold


def named(artist: str, verdict: str | None = None) -> dict[str, Any]:
    """A record that names `artist` first and another second."""
    record: dict[str, Any] = {"classification": [{"class_id": 0, "class_name": artist, "probability": 0.75},
                                                 {"class_id": 1, "class_name": "second", "probability": 0.25}]}
    return record | ({"verdict": verdict} if verdict else {})


def tally_of(*records: tuple[dict[str, Any], str | None]) -> Tally:
    tally = Tally()
    for record, truth in records:
        tally.add(record, truth)
    return tally


def test_artists_verdicts_and_what_is_right_are_counted() -> None:
    tally = tally_of((named("Monet", "confident"), "Monet"), (named("Monet", "possible"), "Degas"),
                     (named("Degas", "possible"), None), (named("Degas", "unknown"), "Degas"),
                     ({"error": "cut"}, "Degas"))
    assert tally.lines() == ["artists: Monet (2), Degas (1)",
                             "verdicts: 1 confident, 2 possible, 1 unknown (not counted above)",
                             "right: 2 of 3 (66.7%), where the folder is a known artist"]


def test_without_calibration_and_known_folders_only_artists_are_told() -> None:
    tally = tally_of((named("b"), None), (named("a"), None), ({"classification": []}, None))
    assert tally.lines() == ["artists: a (1), b (1)", "no artist reaches --threshold: 1"]
    assert tally_of(({"features": [1.0]}, "a"), ({"error": "cut"}, "a")).lines() == []


def test_a_search_is_counted_by_the_vote_of_the_neighbours() -> None:
    record = {"pictures": [], "artists_by_neighbours": [{"artist": "Hokusai", "share": 0.9}],
              "artists_by_mean": [{"artist": "Monet", "cosine_similarity": 0.5}]}
    assert tally_of((record, "Hokusai")).lines() == [
        "artists: Hokusai (1)", "right: 1 of 1 (100.0%), where the folder is a known artist"]


def test_pictures_that_find_themselves_are_told() -> None:
    found = {"pictures": [{"image": "b.png", "cosine_similarity": 0.7}, {"image": "a.png", "cosine_similarity": 1.0}],
             "artists_by_neighbours": [{"artist": "Hokusai", "share": 0.9}]}
    other = {**found, "pictures": found["pictures"][:1]}
    assert tally_of((found, None), (other, None)).lines()[-1] == "no test of the gallery: 1 picture in it found itself"
    assert tally_of((found, None), (found, None)).lines()[-1].endswith("2 pictures in it found themselves")
    assert tally_of((other, None)).lines() == ["artists: Hokusai (1)"]


def test_folders_are_artists_where_they_bear_their_names(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "Zoë")
    known = KnownArtists(tmp_path / "val", ["Zo\u00eb", "bob"])
    assert [known.find(name) for name in (f"{apart}/late/1.png", "bob/1.png", "drafts/bob/1.png", "1.png")] == [
        "Zo\u00eb", "bob", None, None]
    assert KnownArtists(tmp_path / apart, ["Zo\u00eb"]).find("1.png") == "Zo\u00eb"


@pytest.mark.parametrize("name", ["artist_{}", "葛饰北斋{}", "x" * 90 + "{}"])
@pytest.mark.parametrize("count", [1, 5, 14, 300])
def test_the_most_common_artists_fit_four_lines_and_the_others_are_a_number(name: str, count: int) -> None:
    lines = Tally(artists=Counter({name.format(number): number + 1 for number in range(count)})).lines()
    assert len(lines) <= 4
    assert max(map(columns, lines)) <= 80
    text = " ".join(map(str.strip, lines))
    shown = text.count("(")
    assert text.startswith(f"artists: {name.format(count - 1)[:20]}")
    assert text.endswith(f"({count - shown + 1})" if shown == count else f", and {count - shown} more")


def test_items_are_folded_with_commas() -> None:
    assert fold("a:", ["bb", "cc", "dd"], width=14) == ["a: bb, cc, dd"]
    assert fold("a:", ["bb", "cc", "dd"], width=9) == ["a: bb,", "  cc, dd"]
    assert fold("a:", ["bb"] * 9, width=17, most=2) == ["a: bb, bb, bb,", "  bb, and 5 more"]
