"""The pictures and artists of a gallery that are nearest to feature vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.names import nfc
from search.gallery import Gallery
from search.hnsw import read_index
from search.neighbours import Index, vote
from utils import UserError


class GallerySearch:
    """Finds the nearest pictures and artists of a gallery."""

    def __init__(self, gallery: Gallery, *, neighbours: int, index: Index | None = None) -> None:
        """Index `gallery`, unless it has an `index` of its pictures; the nearest `neighbours` vote for the artist."""
        self.gallery, self.neighbours = gallery, neighbours
        self.pictures = index or Index(gallery.comparable(gallery.features))
        self.means = Index(gallery.comparable(gallery.means))
        self.sizes = np.array(list(gallery.sizes.values()))

    def find(self, features: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        """For each of `features`, (Q, D) float32, the `top_k` nearest pictures and artists, as JSON objects.

        The gallery is read once for all of them.

        Returns:
            objects with `pictures` (`image`, `artist`, `cosine_similarity`), `artists_by_neighbours` (`artist`,
            `share` of the vote) and `artists_by_mean` (`artist`, `cosine_similarity` to the mean feature).

        Raises:
            UserError: the gallery's features have another length.
        """
        length, expected = features.shape[1], self.gallery.features.shape[1]
        if length != expected:
            raise UserError(f"features of {length} numbers for a gallery of {expected}", "features of one network",
                            "give the gallery and the features of the same checkpoint")
        names, gallery = list(self.gallery.sizes), self.gallery
        features = np.asarray(gallery.comparable(features))
        rows, scores = self.pictures.nearest(features, max(top_k, self.neighbours))
        votes = vote(gallery.numbers[rows[:, :self.neighbours]], scores[:, :self.neighbours], self.sizes)
        means, closeness = self.means.nearest(features, top_k)
        return [{
            "pictures": [{"image": gallery.images[row], "artist": gallery.artists[row], "cosine_similarity": score}
                         for row, score in zip(rows[query, :top_k].tolist(), scores[query].tolist(), strict=False)],
            "artists_by_neighbours": [{"artist": names[number], "share": share} for number, share in
                                      zip(votes[query][0][:top_k], votes[query][1].tolist(), strict=False)],
            "artists_by_mean": [{"artist": names[number], "cosine_similarity": score} for number, score in
                                zip(means[query], closeness[query].tolist(), strict=True)],
        } for query in range(len(features))]


def open_search(folder: Path, gallery: Gallery, *, neighbours: int) -> GallerySearch:
    """The search of the `gallery` that was read in `folder`, by its HNSW index where that is of its pictures.

    A line is printed where there is one that cannot be used.

    Raises:
        UserError: the index is damaged.
    """
    index, lines = read_index(folder, gallery)
    for line in lines:
        print(line)
    return GallerySearch(gallery, neighbours=neighbours, index=index)


def format_matches(match: Mapping[str, Any]) -> list[str]:
    """The lines that are printed for one object of `GallerySearch.find`."""
    return [*(f"{each['share']:7.2%}  {each['artist']}, by neighbours" for each in match["artists_by_neighbours"]),
            *(f"{each['cosine_similarity']:7.4f}  {each['artist']}, by mean" for each in match["artists_by_mean"]),
            *(f"{each['cosine_similarity']:7.4f}  {each['image']}" for each in match["pictures"])]


def gallery_accuracy(search: GallerySearch, features: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """How often the artist of `features`, (Q, D), is the first that `search` names, in percent.

    Returns:
        `neighbours` and `mean`, the two ways to name an artist, over all pictures; `balanced_neighbours` and
        `balanced_mean`, the mean over artists of the share of theirs.
    """
    matches = search.find(features, 1)
    figures: dict[str, float] = {}
    for way in ("neighbours", "mean"):
        right = np.array([match[f"artists_by_{way}"][0]["artist"] == nfc(label)
                          for match, label in zip(matches, labels, strict=True)], np.float64)
        by_artist = [right[[other == label for other in labels]].mean() for label in sorted(set(labels))]
        figures |= {way: 100 * float(right.mean()), f"balanced_{way}": 100 * float(np.mean(by_artist))}
    return figures
