"""Whose hand a picture is closest to: the pictures and artists of a gallery that are nearest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.prepare.artist_folders import nfc
from inference.predictor import Result
from search.gallery import Gallery, read_gallery
from search.neighbours import make_index, nearest, vote

NEIGHBOURS = 20  # pictures that vote


class GallerySearch:
    """Answers whose pictures are near, and which."""

    def __init__(self, gallery: Gallery, *, neighbours: int) -> None:
        """Prepare to search `gallery`; the nearest `neighbours` pictures vote for the artist."""
        self.gallery, self.neighbours = gallery, neighbours
        self.pictures, self.means = make_index(gallery.features), make_index(gallery.means)
        self.sizes = np.array(list(gallery.sizes.values()))

    @classmethod
    def of_folder(cls, folder: Path, model: str, neighbours: int) -> GallerySearch:
        """The search of the gallery in `folder`, which is of the network with the fingerprint `model`."""
        return cls(read_gallery(folder, model), neighbours=neighbours)

    def describe(self, results: Sequence[Result], *, top_k: int) -> list[dict[str, Any]]:
        """The records of pictures, searched together: a large gallery is read once for all of them."""
        return self(torch.stack([result.features for result in results]).numpy(), top_k) if results else []

    def __call__(self, features: np.ndarray, top_k: int) -> list[dict[str, Any]]:
        """For each of `features`, (Q, D) float32, the `top_k` pictures and artists that are nearest, as JSON objects.

        Returns:
            objects with `pictures` (`image`, `artist`, `cosine_similarity`), `artists_by_neighbours` (`artist`,
            `share` of the vote) and `artists_by_mean` (`artist`, `cosine_similarity` to the mean feature).
        """
        names, gallery = list(self.gallery.sizes), self.gallery
        rows, scores = nearest(self.pictures, features, max(top_k, self.neighbours))
        votes = vote(gallery.numbers[rows[:, :self.neighbours]], scores[:, :self.neighbours], self.sizes)
        means, closeness = nearest(self.means, features, top_k)
        return [{
            "pictures": [{"image": gallery.images[row], "artist": gallery.artists[row], "cosine_similarity": score}
                         for row, score in zip(rows[query, :top_k].tolist(), scores[query].tolist(), strict=False)],
            "artists_by_neighbours": [{"artist": names[number], "share": share} for number, share in
                                      zip(votes[query][0][:top_k], votes[query][1].tolist(), strict=False)],
            "artists_by_mean": [{"artist": names[number], "cosine_similarity": score} for number, score in
                                zip(means[query], closeness[query].tolist(), strict=True)],
        } for query in range(len(features))]


def told(record: Mapping[str, Any]) -> list[str]:
    """The record of one picture as lines for people; none for a record of another kind."""
    if "pictures" not in record:
        return []
    return [*(f"{each['share']:7.2%}  {each['artist']}, by neighbours" for each in record["artists_by_neighbours"]),
            *(f"{each['cosine_similarity']:7.4f}  {each['artist']}, by mean" for each in record["artists_by_mean"]),
            *(f"{each['cosine_similarity']:7.4f}  {each['image']}" for each in record["pictures"])]


def gallery_accuracy(search: GallerySearch, features: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """How often the artist of `features`, (Q, D), is the first that `search` names, in percent.

    Returns:
        `neighbours` and `mean`, the two ways to name an artist, over all pictures; `balanced_neighbours` and
        `balanced_mean`, the mean over artists of the share of theirs.
    """
    answers = search(features, 1)
    figures = {}
    for way in ("neighbours", "mean"):
        right = np.array([answer[f"artists_by_{way}"][0]["artist"] == nfc(label)
                          for answer, label in zip(answers, labels, strict=True)], np.float64)
        by_artist = [right[[other == label for other in labels]].mean() for label in sorted(set(labels))]
        figures |= {way: 100 * float(right.mean()), f"balanced_{way}": 100 * float(np.mean(by_artist))}
    return figures
