"""Galleries: the features of known artists' pictures, to which artists can be added without training."""

from __future__ import annotations

import difflib
import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from data.csv_files import read_table, write_rows
from data.names import nfc
from data.picture_files import artist_of
from data.prepare.output import new_folder
from data.side_files import read_json
from search.neighbours import normalised
from search.vectors import FEATURES, LONGEST, read_matrix, write_features
from utils import UserError, write_array, write_json

FORMAT = "lsnet-gallery-1"
ABOUT, PICTURES, MEANS = "gallery.json", "pictures.csv", "means.npy"
VECTORS, VECTOR_NAMES = "vectors.npy", "vectors.csv"  # of an export
COLUMNS = ("row", "artist", "image")


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Feature rows with artist and image name, in insertion order.

    Attributes:
        model: the `fingerprint` of the network that made the features.
        images: one name per row, each once, such as `Artist/0001.jpg`.
        artists: one per row.
        features: (N, D) float32, raw.
    """

    model: str
    images: Sequence[str]
    artists: Sequence[str]
    features: np.ndarray

    @classmethod
    def of_folder(cls, model: str, folder: Path, names: Sequence[str], features: np.ndarray) -> Gallery:
        """The gallery of the features extracted from `folder`: one folder per artist, or the pictures of one artist.

        Args:
            model: the network's fingerprint.
            folder: if pictures lie directly in it, it is one artist of that name.
            names: pictures relative to `folder`, "/"-separated: all directly in it, or all in folders of artists.
            features: (N, D) float32, one row per name.

        Raises:
            UserError: no picture could be read.
        """
        if not names:
            raise UserError(f"no picture that can be read in {folder}", "pictures in one folder per artist",
                            "check the path and the list of damaged pictures")
        if any("/" not in name for name in names):
            names = [f"{folder.resolve().name}/{name}" for name in names]
        images = [nfc(name) for name in names]
        return cls(model=model, images=images, artists=[artist_of(name) or "" for name in images], features=features)

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Pictures of each artist, by name."""
        return dict(sorted(Counter(self.artists).items()))

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """The artist of each row as a position in `sizes`, (N,) int64."""
        return np.unique(self.artists, return_inverse=True)[1]

    @functools.cached_property
    def means(self) -> np.ndarray:
        """The mean feature of each artist in the order of `sizes`, (A, D) float32."""
        groups = np.split(np.argsort(self.numbers, kind="stable"), np.cumsum([*self.sizes.values()])[:-1])
        return np.stack([self.features[rows].mean(axis=0, dtype=np.float64) for rows in groups]).astype(np.float32)

    def with_pictures(self, added: Gallery) -> Gallery:
        """The pictures of both; those of `added` replace others of the same name."""
        replaced = set(added.images)
        kept = self._rows([image not in replaced for image in self.images])
        return Gallery(model=self.model, images=[*kept.images, *added.images], artists=[*kept.artists, *added.artists],
                       features=np.concatenate([kept.features, added.features]))

    def without(self, artist: str) -> Gallery:
        """All pictures but those of `artist`.

        Raises:
            UserError: there is no such artist, or no other.
        """
        if nfc(artist) not in self.sizes:
            close = difflib.get_close_matches(artist, self.sizes, n=3) or list(self.sizes)[:3]
            raise UserError(f"no artist {artist!r} in the gallery", f"one of its {len(self.sizes)}, such as "
                            f"{', '.join(close)}", "check the name")
        if len(self.sizes) == 1:
            raise UserError(f"{artist}, the gallery's only artist", "one that is not the last", "delete the folder")
        return self._rows([other != nfc(artist) for other in self.artists])

    def _rows(self, chosen: Sequence[bool]) -> Gallery:
        rows = np.flatnonzero(chosen).tolist()
        return Gallery(model=self.model, images=[self.images[row] for row in rows],
                       artists=[self.artists[row] for row in rows], features=self.features[rows])


# ---- files -----------------------------------------------------------------------------------------------------------


class _About(msgspec.Struct):
    """What gallery.json must say."""

    format: Literal["lsnet-gallery-1"]
    model: str
    feature_dim: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
    pictures: Annotated[int, msgspec.Meta(ge=1)]


def write_gallery(folder: Path, gallery: Gallery, *, overwrite: bool, sources: Sequence[Path] = ()) -> None:
    """Write `gallery` to `folder`; an earlier gallery there is replaced once the new one is complete.

    Args:
        folder: of the gallery.
        gallery: its content.
        overwrite: replace without asking.
        sources: folders of pictures, which `folder` may not lie in or hold.

    Raises:
        UserError: `folder` may not be replaced, or the answer was no.
    """
    with new_folder(folder, made_by="tools/build_gallery.py", overwrite=overwrite, sources=sources) as building:
        write_features(building, gallery.images, gallery.features)
        write_array(building / MEANS, gallery.means)
        _write_names(building / PICTURES, gallery)
        write_json(building / ABOUT, {
            "format": FORMAT, "model": gallery.model, "feature_dim": gallery.features.shape[1],
            "pictures": len(gallery.images),
            "artists": [{"artist": artist, "pictures": size} for artist, size in gallery.sizes.items()]})


def read_gallery(folder: Path, model: str | None = None) -> Gallery:
    """The gallery in `folder`; its features stay on disk.

    Raises:
        UserError: there is none, its parts do not belong together, or its features are of another network than the one
            with the fingerprint `model`.
    """
    action = "check the path, or build the gallery again"
    about = read_json(folder / ABOUT, _About, expected="a gallery that tools/build_gallery.py made", action=action)
    features = read_matrix(folder / FEATURES)
    rows = [row for _, row in read_table(folder / PICTURES, COLUMNS)]
    if not about.pictures == len(rows) == len(features) or features.shape[1] != about.feature_dim:
        raise UserError(f"{folder} with {len(features)} features of {features.shape[1]} numbers and {len(rows)} names",
                        f"{about.pictures} of {about.feature_dim} numbers, as {ABOUT} says", action)
    if any(number != str(place) or not artist or not image for place, (number, artist, image) in enumerate(rows)):
        raise UserError(f"a row of {folder / PICTURES} with another number, or without a name",
                        "rows numbered from 0, with artist and image", action)
    if model is not None and about.model != model:
        raise UserError(f"the gallery {folder} of {len({artist for _, artist, _ in rows})} artists, built with another "
                        f"network ({about.model[:8]}…)", f"one built with that of --checkpoint ({model[:8]}…)",
                        "give the checkpoint it was built with, or build it again with this one")
    return Gallery(model=about.model, images=[image for _, _, image in rows], artists=[artist for _, artist, _ in rows],
                   features=features)


def export_gallery(gallery: Gallery, folder: Path) -> None:
    """Write vectors.npy, (N, D) float32 of length 1, and vectors.csv, their artists and names, for vector stores."""
    write_array(folder / VECTORS, normalised(gallery.features))
    _write_names(folder / VECTOR_NAMES, gallery)


def _write_names(path: Path, gallery: Gallery) -> None:
    write_rows(path, [COLUMNS, *zip(range(len(gallery.images)), gallery.artists, gallery.images, strict=True)])
