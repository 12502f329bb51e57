"""Search in a gallery whose rows stay in Milvus: its index finds candidates, and their cosines are computed here."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from search.gallery import GalleryOutline
from search.gallery_search import Search
from search.milvus_client import Connection
from search.milvus_rows import Marker
from search.neighbours import SPARE, rank
from utils import UserError

MOST = 16_384  # that Milvus returns
VISITED = 192  # pictures that its index weighs


@dataclass(frozen=True, kw_only=True, eq=False)
class MilvusGallery(GalleryOutline):
    """A gallery whose rows stay in Milvus.

    Attributes:
        markers: the artists that count.
        collections: the names of those of pictures and of artists.
        feature_dim: how many numbers a raw feature has.
        fingerprint: that of the rows when it was calibrated; empty where they have changed since.
    """

    markers: Mapping[str, Marker]
    collections: tuple[str, str]
    feature_dim: int = 0
    fingerprint: str = ""

    @functools.cached_property
    def sizes(self) -> Mapping[str, int]:
        """See `GalleryOutline`."""
        return {artist: marker.pictures for artist, marker in self.markers.items()}

    @functools.cached_property
    def names(self) -> Mapping[int, str]:
        """The artists by their numbers."""
        return {marker.number: artist for artist, marker in self.markers.items()}


class MilvusSearch(Search[MilvusGallery]):
    """Asks Milvus; artists that other commands add are found, too."""

    def __init__(self, gallery: MilvusGallery, milvus: Connection, *, neighbours: int,
                 reopen: Callable[[], MilvusGallery]) -> None:
        """Take the gallery, and what reads it anew when others have changed it."""
        super().__init__(gallery, neighbours=neighbours)
        self._milvus, self._reopen = milvus, reopen
        self._unmarked: frozenset[int] = frozenset()  # of artists that are half written, or half deleted

    def nearest_pictures(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """See `Search`."""
        while True:
            found, gallery = self._search(0, features, count, ["number", "row", "image"])
            names = gallery.names
            unknown = {row["number"] for hits in found for row in hits} - names.keys()
            if not unknown:
                break
            self.gallery = self._reopen()
            self._unmarked = frozenset((self._unmarked | unknown) - self.gallery.names.keys())
        return [[{"image": row["image"], "artist": names[row["number"]], "cosine_similarity": score}
                 for row, score in _ranked(query, sorted(hits, key=lambda row: row["row"]), count)]
                for query, hits in zip(features, found, strict=True)]

    def nearest_means(self, features: np.ndarray, count: int) -> list[list[dict[str, Any]]]:
        """See `Search`."""
        found, _ = self._search(1, features, count, ["artist"])
        return [[{"artist": row["artist"], "cosine_similarity": score}
                 for row, score in _ranked(query, sorted(hits, key=lambda row: row["artist"]), count)]
                for query, hits in zip(features, found, strict=True)]

    def _search(self, kind: int, features: np.ndarray, count: int,
                fields: list[str]) -> tuple[list[list[dict[str, Any]]], MilvusGallery]:
        """`fields` and `vector` of the pictures (0) or artists (1) nearest to each query, a few more than `count`.

        A gallery that was built again meanwhile is opened again; it is returned, too.
        """
        gallery, limit = self.gallery, min(count + SPARE, MOST)
        hidden = f"number not in [{', '.join(map(str, sorted(self._unmarked)))}]" if self._unmarked and not kind else ""
        try:
            found = self._milvus.ask(
                "search", gallery.collections[kind], data=[*np.asarray(features, np.float32)], anns_field="vector",
                limit=limit, filter=hidden, output_fields=[*fields, "vector"],
                search_params={"metric_type": "COSINE", "params": {"ef": max(VISITED, 2 * limit)}})
        except UserError:
            self.gallery = self._reopen()
            if self.gallery.collections == gallery.collections:
                raise
            return self._search(kind, features, count, fields)
        return [[hit["entity"] for hit in hits] for hits in found], gallery


def _ranked(query: np.ndarray, hits: list[dict[str, Any]], count: int) -> list[tuple[dict[str, Any], float]]:
    """The nearest `count` of `hits` to one query, (K,), and their cosines; equally near ones in this order."""
    if not hits:
        return []
    vectors = np.array([row["vector"] for row in hits], np.float32)
    found, scores = rank(query[None], vectors[None], np.arange(len(hits))[None], count)
    return [(hits[number], score) for number, score in zip(found[0].tolist(), scores[0].tolist(), strict=True)]
