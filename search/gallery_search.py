"""The pictures and artists of a gallery that are nearest to feature vectors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from data.names import nfc
from search.gallery import Gallery, GalleryOutline
from search.hnsw import read_index
from search.neighbours import Index, vote
from utils import UserError

Known = TypeVar("Known", bound=GalleryOutline)


class Search(ABC, Generic[Known]):
    """Finds the nearest pictures and artists of a gallery, whichever engine compares.

    Attributes:
        gallery: the gallery.
        neighbours: so many nearest pictures vote for the artist.
    """

    def __init__(self, gallery: Known, *, neighbours: int) -> None:
        self.gallery, self.neighbours = gallery, neighbours

    def find(self, features: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        """For each of `features`, (Q, D) float32, the `top_k` nearest pictures and artists, as JSON objects.

        The gallery is read once for all of them.

        Returns:
            objects with `pictures` (`image`, `artist`, `cosine_similarity`), `artists_by_neighbours` (`artist`,
            `share` of the vote) and `artists_by_mean` (`artist`, `cosine_similarity` to the mean feature).

        Raises:
            UserError: the gallery's features have another length.
        """
        length, expected = features.shape[1], self.gallery.feature_dim
        if length != expected:
            raise UserError(f"features of {length} numbers for a gallery of {expected}", "features of one network",
                            "give the gallery and the features of the same checkpoint")
        features = np.asarray(self.gallery.comparable(features))
        pictures = self.nearest_pictures(features, max(top_k, self.neighbours))
        means, sizes = self.nearest_means(features, top_k), self.gallery.sizes
        return [{"pictures": near[:top_k], "artists_by_neighbours": _vote(near[:self.neighbours], sizes)[:top_k],
                 "artists_by_mean": mean} for near, mean in zip(pictures, means, strict=True)]

    @abstractmethod
    def nearest_pictures(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """For each of `features`, (Q, K) float32 as they are compared, `count` objects as `find` returns, best first.

        Equally near ones come in the order in which they were added.
        """

    @abstractmethod
    def nearest_means(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """The same of artists, by their mean feature; equally near ones come in the order of `sizes`."""


def _vote(near: Sequence[Mapping[str, Any]], sizes: Mapping[str, int]) -> list[dict[str, Any]]:
    """The artists that the pictures `near` vote for, see `vote`."""
    names, labels = np.unique([each["artist"] for each in near], return_inverse=True)
    scores = np.array([each["cosine_similarity"] for each in near])
    (found, shares), = vote(labels[None], scores[None], np.array([sizes[name] for name in names.tolist()]))
    return [{"artist": str(names[number]), "share": share} for number, share in zip(found, shares.tolist(),
                                                                                   strict=True)]


class GallerySearch(Search[Gallery]):
    """Compares with the rows of a gallery in this process."""

    def __init__(self, gallery: Gallery, *, neighbours: int, index: Index | None = None) -> None:
        """Index `gallery`, unless it has an `index` of its pictures; the nearest `neighbours` vote for the artist."""
        super().__init__(gallery, neighbours=neighbours)
        self.pictures = index or Index(gallery.comparable(gallery.features))
        self.means = Index(gallery.comparable(gallery.means))

    def nearest_pictures(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """See `Search`."""
        images, artists = self.gallery.images, self.gallery.artists
        found, scores = self.pictures.nearest(features, count)
        return [[{"image": images[row], "artist": artists[row], "cosine_similarity": score}
                 for row, score in zip(*each, strict=True)]
                for each in zip(found.tolist(), scores.tolist(), strict=True)]

    def nearest_means(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """See `Search`."""
        names = list(self.gallery.sizes)
        found, scores = self.means.nearest(features, count)
        return [[{"artist": names[number], "cosine_similarity": score} for number, score in zip(*each, strict=True)]
                for each in zip(found.tolist(), scores.tolist(), strict=True)]


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


def gallery_accuracy(search: Search, features: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
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
