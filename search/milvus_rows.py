"""Pictures and artists as Milvus keeps them."""

from __future__ import annotations

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from search.gallery import Gallery
from search.rows import Rows
from utils import UserError

LONGEST_NAME = 4096  # bytes
CHUNK_ROWS, CHUNK_ARTISTS = 5000, 1000  # that are written together


@dataclass(frozen=True, kw_only=True)
class Marker:
    """An artist whose pictures are complete.

    Attributes:
        number: that these pictures have, and no others.
        pictures: how many.
        last: the largest of their places in the order of adding.
    """

    number: int
    pictures: int
    last: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PictureRows:
    """Pictures as Milvus keeps them.

    Attributes:
        numbers: of their artists, (N,) int64.
        rows: their places in the order of adding, (N,) int64.
        images: their names.
        features: (N, D) float32, raw.
        artists: their artists, where these are known.
    """

    numbers: np.ndarray
    rows: np.ndarray
    images: Sequence[str]
    features: np.ndarray
    artists: Sequence[str] = ()

    @classmethod
    def none(cls, width: int) -> PictureRows:
        """No picture."""
        return cls(numbers=np.empty(0, np.int64), rows=np.empty(0, np.int64), images=[],
                   features=np.empty((0, width), np.float32))

    @classmethod
    def of(cls, gallery: Gallery, chosen: np.ndarray, rows: np.ndarray) -> PictureRows:
        """Those of `gallery` that are `chosen`, (N,) int64, whose places shall be `rows`."""
        features: Rows = gallery.features[chosen]
        return cls(numbers=np.zeros(len(chosen), np.int64), rows=rows, features=np.asarray(features),
                   images=[gallery.images[row] for row in chosen.tolist()],
                   artists=[gallery.artists[row] for row in chosen.tolist()])

    @classmethod
    def join(cls, parts: Sequence[PictureRows]) -> PictureRows:
        """All of `parts`, at least one."""
        return cls(images=[image for part in parts for image in part.images],
                   artists=[artist for part in parts for artist in part.artists],
                   **{name: np.concatenate([getattr(part, name) for part in parts])
                      for name in ("numbers", "rows", "features")})

    def select(self, chosen: np.ndarray) -> PictureRows:
        """Those at the places `chosen`."""
        return PictureRows(numbers=self.numbers[chosen], rows=self.rows[chosen], features=self.features[chosen],
                     images=[self.images[row] for row in chosen.tolist()],
                     artists=[self.artists[row] for row in chosen.tolist()] if self.artists else ())

    def with_earlier(self, earlier: PictureRows) -> PictureRows:
        """These after `earlier` ones."""
        return PictureRows.join([earlier, self]) if len(earlier.rows) else self

    def numbered(self) -> PictureRows:
        """The same with a new number for each artist, which nobody has used before."""
        numbers: dict[str, int] = defaultdict(lambda: secrets.randbits(62))
        return replace(self, numbers=np.array([numbers[artist] for artist in self.artists], np.int64))

    def as_milvus(self, compared: np.ndarray, *, raw: bool) -> list[dict[str, Any]]:
        """Objects for Milvus, with `compared` vectors (N, K) and, where these differ, the `raw` ones.

        Raises:
            UserError: a name is too long.
        """
        for name in (*self.images, *self.artists):
            if len(name.encode()) > LONGEST_NAME:
                raise UserError(f"the name {name[:100]}… of {len(name.encode())} bytes",
                                f"at most {LONGEST_NAME} bytes", "give it a shorter one")
        found: list[dict[str, Any]] = [
            {"number": number, "row": row, "key": image_key(image), "artist": artist, "image": image, "vector": vector}
            for number, row, image, artist, vector in zip(self.numbers.tolist(), self.rows.tolist(), self.images,
                                                          self.artists, compared, strict=True)]
        if raw:
            for each, features in zip(found, self.features, strict=True):
                each["features"] = features
        return found


def chunks(numbers: np.ndarray, order: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of `order`, whose rows have artists of these sorted `numbers`: whole artists, as many as fit."""
    starts = np.flatnonzero(np.diff(numbers, prepend=-1))
    ends = np.append(starts[1:], len(order))
    first = 0
    while first < len(starts):
        last = first
        while (last + 1 < len(starts) and ends[last + 1] - starts[first] <= CHUNK_ROWS
               and last + 1 - first < CHUNK_ARTISTS):
            last += 1
        yield order[starts[first]:ends[last]]
        first = last + 1


def image_key(image: str) -> int:
    """A number for the name of an image; equal for two names about never, and these are then compared."""
    return int.from_bytes(hashlib.blake2b(image.encode(), digest_size=8).digest(), "big") >> 1
