"""Search finds the nearest pictures, and the artists by their neighbours' votes and by their means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.gallery import Gallery
from search.gallery_search import GallerySearch
from search.vectors import FeatureSpace

# Directions in degrees: Anna's four lie around 0, the two of Bob around 90.
ANGLES = {"Anna/1": -10, "Anna/2": 0, "Bob/1": 90, "Anna/3": 10, "Bob/2": 80, "Anna/4": 20}


def towards(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def search(*degrees: float, neighbours: int = 20, top_k: int = 2) -> list[dict]:
    rows = towards(*ANGLES.values()) * np.arange(1, 7, dtype=np.float32)[:, None]  # cosine does not see lengths
    gallery = Gallery.of_folder(FeatureSpace(model="m"), Path("p"), list(ANGLES), rows)
    return GallerySearch(gallery, neighbours=neighbours).find(3 * towards(*degrees), top_k)


def test_the_nearest_pictures_come_first_with_their_cosines() -> None:
    east, north = search(1, 84, top_k=3)
    assert [found["image"] for found in east["pictures"]] == ["Anna/2", "Anna/3", "Anna/1"]
    assert [found["artist"] for found in north["pictures"]] == ["Bob", "Bob", "Anna"]
    assert [found["cosine_similarity"] for found in north["pictures"]] == pytest.approx(
        np.cos(np.radians([4, 6, 64])), abs=1e-6)


def test_both_ways_name_the_artist() -> None:
    for degrees, artist in ((5, "Anna"), (85, "Bob")):
        found = search(degrees)[0]
        assert found["artists_by_neighbours"][0]["artist"] == found["artists_by_mean"][0]["artist"] == artist
        assert sum(each["share"] for each in found["artists_by_neighbours"]) == pytest.approx(1)


def test_closeness_to_the_mean_is_that_of_the_mean_feature() -> None:
    rows = towards(90, 80) * np.array([[3], [5]], np.float32)
    mean = rows.mean(0)
    found = search(90)[0]["artists_by_mean"][0]
    assert found == {"artist": "Bob", "cosine_similarity": pytest.approx(mean[1] / np.hypot(*mean), abs=1e-6)}


def test_many_pictures_do_not_outvote_few() -> None:
    # Half way between the artists' nearest pictures, 20 and 80 degrees: alone, each would get half of the votes.
    found = search(50, neighbours=2)[0]["artists_by_neighbours"]
    assert {each["artist"]: each["share"] for each in found} == pytest.approx({"Bob": 2 / 3, "Anna": 1 / 3}, abs=1e-5)


def test_only_the_neighbours_vote() -> None:
    assert [each["artist"] for each in search(0, neighbours=1)[0]["artists_by_neighbours"]] == ["Anna"]
    assert len(search(0, neighbours=1, top_k=4)[0]["pictures"]) == 4


def test_more_is_asked_for_than_there_is() -> None:
    found = search(0, top_k=99)[0]
    assert (len(found["pictures"]), len(found["artists_by_mean"])) == (6, 2)


def test_pictures_searched_together_are_matched_as_alone() -> None:
    gallery = Gallery.of_folder(FeatureSpace(model="m"), Path("p"), list(ANGLES), towards(*ANGLES.values()))
    found, queries = GallerySearch(gallery, neighbours=3), towards(1, 50, 84)
    assert found.find(queries, 2) == [found.find(query[None], 2)[0] for query in queries]
