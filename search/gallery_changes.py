"""Changes of a gallery since its files were written whole: a file for each artist, or artists, that came or went.

So a change costs as much as it changes, not as much as the gallery holds. `changes/000001.npz` and so on hold
`features`, (N, D) float32, `image_names` and `artists` of pictures that were added, `removed`, artists that went, and
`replaced`, the artist of each picture that an added one replaced.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from search.rows import Rows, StackedRows, runs
from search.vectors import read_arrays, read_texts
from utils import UserError, write_arrays

CHANGES = "changes"
_NAME = re.compile(r"([0-9]{6})\.npz")
_AGAIN = "copy the whole folder again, or build the gallery anew"


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """Pictures that were added, or artists that were removed.

    Attributes:
        images: one name per added row; rows of the same name that came before are replaced.
        artists: one per added row.
        features: (N, D) float32.
        removed: artists all of whose earlier pictures went.
        replaced: the artist of each earlier row that was replaced.
    """

    images: Sequence[str]
    artists: Sequence[str]
    features: np.ndarray
    removed: Sequence[str] = ()
    replaced: Sequence[str] = ()

    def write(self, file: Path) -> None:
        """Write this change, which counts once the file is whole."""
        write_arrays(file, {
            "features": np.asarray(self.features, np.float32), "image_names": np.array(self.images, np.str_),
            "artists": np.array(self.artists, np.str_), "removed": np.array(self.removed, np.str_),
            "replaced": np.array(self.replaced, np.str_)})

    @classmethod
    def read(cls, file: Path, width: int) -> Change:
        """The change in `file`, whose features have `width` numbers.

        Raises:
            UserError: it cannot be read, or contradicts itself.
        """
        texts = read_texts(file, ("image_names", "artists", "removed"))
        features = read_arrays(file, ("features",))["features"]
        images, artists = texts["image_names"], texts["artists"]
        if not len(images) == len(artists) == len(features) or features.shape[1] != width or not all(
                (*images, *artists, *texts["removed"])):
            raise UserError(f"{file} with {len(features)} features of {features.shape[1]} numbers, {len(images)} names "
                            f"and {len(artists)} artists", f"as many of each, and {width} numbers", _AGAIN)
        return cls(images=images, artists=artists, features=features, removed=texts["removed"])


def find_changes(folder: Path) -> list[Path]:
    """The files of the changes of the gallery in `folder`, in order.

    Raises:
        UserError: one is missing.
    """
    files = sorted(path for path in (folder / CHANGES).glob("*") if _NAME.fullmatch(path.name))
    for number, file in enumerate(files, 1):
        if int(file.stem) != number:
            raise UserError(f"no {number:06}.npz in {folder / CHANGES}, but {file.name}", "each change of the gallery",
                            _AGAIN)
    return files


def next_change(folder: Path) -> Path:
    """The file of the next change of the gallery in `folder`; raises a `UserError` as `find_changes` does."""
    return folder / CHANGES / f"{len(find_changes(folder)) + 1:06}.npz"


@dataclass(frozen=True, kw_only=True, eq=False)
class Content:
    """The rows of a gallery: names, artists and features, (N, D) float32."""

    images: Sequence[str]
    artists: Sequence[str]
    features: Rows


def apply_changes(content: Content, changes: Sequence[Change]) -> Content:
    """What is left of the rows of `content`, followed by what `changes` added and left, in order."""
    if not changes:
        return content
    removed = {artist: number for number, change in enumerate(changes, 1) for artist in change.removed}
    added = {image: number for number, change in enumerate(changes, 1) for image in change.images}
    images: list[str] = []
    artists: list[str] = []
    parts: list[np.ndarray] = []
    for number, source in enumerate([content, *changes]):
        kept = np.array([removed.get(artist, 0) <= number and added.get(image, number) <= number
                         for image, artist in zip(source.images, source.artists, strict=True)], bool)
        for run in runs(kept):
            images += source.images[run]
            artists += source.artists[run]
            parts.append(source.features[run])
    return Content(images=images, artists=artists, features=StackedRows(parts or [changes[0].features[:0]]))


def changed_sizes(sizes: Mapping[str, int], files: Iterable[Path]) -> tuple[dict[str, int], int]:
    """Pictures of each artist after the changes in `files`, and how many rows these concern.

    Raises:
        UserError: a file cannot be read.
    """
    found, changed = Counter(sizes), 0
    for file in files:
        texts = read_texts(file, ("artists", "removed", "replaced"))
        changed += len(texts["artists"]) + sum(found.pop(artist, 0) for artist in texts["removed"])
        found = found - Counter(texts["replaced"]) + Counter(texts["artists"])
    return dict(found), changed
