"""Galleries: the features of known artists' pictures, to which artists can be added without training."""

from __future__ import annotations

import difflib
import functools
import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np

from data.csv_files import read_table, read_table_at, write_rows
from data.names import as_text, nfc
from data.output_folder import (
    check_apart,
    mark_output,
    new_folder,
    output_lock,
    read_swapped,
    replace_together,
    report_write_errors,
)
from data.picture_files import artist_of, find_pictures
from data.side_files import read_json, read_lines, unreadable
from runtime.options import COMPONENTS
from search.gallery_changes import Change, Content, apply_changes, changed_sizes, find_changes, next_change
from search.neighbours import normalised
from search.rows import Rows
from search.standardisation import STANDARDISATION, Standardisation
from search.vectors import FEATURES, LONGEST, NAMES, FeatureSpace, read_matrix, read_texts, write_features
from utils import UserError, counted, write_array, write_json

FORMAT, MADE_BY = "lsnet-gallery-1", "tools/build_gallery.py"
ABOUT, PICTURES, MEANS = "gallery.json", "pictures.csv", "means.npy"
VECTORS, VECTOR_NAMES = "vectors.npy", "vectors.csv"  # of an export
HNSW = "hnsw.npz"
CALIBRATION_FILES = ("calibration.json", "calibration.npz")
OF_PICTURES = (*CALIBRATION_FILES, HNSW)  # what is of all its pictures, and goes with a change
COLUMNS = ("row", "artist", "image")
# A gallery of fewer pictures is written whole, as is one of which more than a share was changed, or often.
SMALL, CHANGED_SHARE, MOST_CHANGES = 10_000, 1 / 16, 256
_AGAIN = "check the path, or build the gallery again"


@dataclass(frozen=True, kw_only=True, eq=False)
class GalleryOutline(ABC):
    """What a search knows of a gallery, wherever its rows are kept.

    Attributes:
        space: whose features they are, and which.
        components: how many principal components are compared; None to compare raw features.
        standardisation: the map to these, fitted when the gallery was written.
    """

    space: FeatureSpace
    components: int | None = None
    standardisation: Standardisation | None = None

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Pictures of each artist, by name."""

    @property
    @abstractmethod
    def feature_dim(self) -> int:
        """How many numbers a raw feature has."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Tells this gallery from others."""

    @property
    def pictures(self) -> int:
        """How many there are."""
        return sum(self.sizes.values())

    @property
    def blocks(self) -> list[int]:
        """Widths of the groups of numbers of a row."""
        return self.space.widths(self.feature_dim)

    def comparable(self, rows: Rows) -> Rows:
        """Raw features (N, D) as they are compared: (N, K) float32."""
        return self.standardisation.apply(rows) if self.standardisation else rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery(GalleryOutline):
    """Feature rows with artist and image name, in insertion order.

    Attributes:
        images: one name per row, each once, such as `Artist/0001.jpg`.
        artists: one per row.
        features: (N, D) float32, raw; they may lie on disk, and in several parts.
    """

    images: Sequence[str]
    artists: Sequence[str]
    features: Rows

    @classmethod
    def of_folder(cls, space: FeatureSpace, folder: Path, names: Sequence[str], features: np.ndarray,
                  components: int | None = None) -> Gallery:
        """The gallery of the features extracted from `folder`: one folder per artist, or the pictures of one artist.

        Args:
            space: that of the features.
            folder: if pictures lie directly in it, it is one artist of that name.
            names: pictures relative to `folder`, "/"-separated: all directly in it, or all in folders of artists.
            features: (N, D) float32, one row per name.
            components: how many are compared; None for what the kind of features needs.

        Raises:
            UserError: no picture could be read.
        """
        if not names:
            raise UserError(f"no picture that can be read in {folder}", "pictures in one folder per artist",
                            "check the path and the list of damaged pictures")
        images = image_names(folder, names)
        if components is None and space.feature_kind != "pooled":
            components = COMPONENTS
        return cls(space=space, images=images, artists=[artist_of(name) or "" for name in images], features=features,
                   components=components)

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """Pictures of each artist, by name."""
        return dict(sorted(Counter(self.artists).items()))

    @functools.cached_property
    def numbers(self) -> np.ndarray:
        """The artist of each row as a position in `sizes`, (N,) int64."""
        return np.unique(self.artists, return_inverse=True)[1]

    @property
    def feature_dim(self) -> int:
        """How many numbers a row has."""
        return self.features.shape[1]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Tells this gallery from others: network, names, and up to 100 rows at equal distances."""
        names = msgspec.json.encode([self.space.model, [*self.images], [*self.artists]])
        rows = np.ascontiguousarray(self.features[::-(-len(self.images) // 100)], "<f4")
        return hashlib.blake2b(names + rows.tobytes(), digest_size=16).hexdigest()

    @functools.cached_property
    def means(self) -> np.ndarray:
        """The mean feature of each artist in the order of `sizes`, (A, D) float32."""
        groups = np.split(np.argsort(self.numbers, kind="stable"), np.cumsum([*self.sizes.values()])[:-1])
        return np.stack([self.features[rows].mean(axis=0, dtype=np.float64) for rows in groups]).astype(np.float32)

    def with_pictures(self, added: Gallery) -> Gallery:
        """The pictures of both; those of `added` replace others of the same name."""
        replaced = set(added.images)
        kept = self.select([image not in replaced for image in self.images])
        return replace(self, images=[*kept.images, *added.images], artists=[*kept.artists, *added.artists],
                       features=np.concatenate([np.asarray(kept.features), np.asarray(added.features)]))

    def without(self, artist: str) -> Gallery:
        """All pictures but those of `artist`.

        Raises:
            UserError: there is no such artist, or no other.
        """
        check_removable(artist, self.sizes)
        return self.select([other != nfc(artist) for other in self.artists])

    def standardised(self) -> Gallery:
        """The same gallery with the standardisation fitted to its pictures, if it compares components."""
        if self.components is None:
            return self
        return replace(self, standardisation=Standardisation.fit(self.features, self.blocks, self.components))

    def select(self, chosen: Sequence[bool] | np.ndarray) -> Gallery:
        """The pictures that are `chosen`, one bool per row."""
        rows = np.flatnonzero(chosen).tolist()
        return replace(self, images=[self.images[row] for row in rows], artists=[self.artists[row] for row in rows],
                       features=self.features[rows])


def check_removable(artist: str, sizes: Mapping[str, int]) -> None:
    """Raise a `UserError` if `artist` is none of those in `sizes`, or the only one."""
    if nfc(artist) not in sizes:
        close = difflib.get_close_matches(artist, sizes, n=3) or list(sizes)[:3]
        raise UserError(f"no artist {artist!r} in the gallery", f"one of its {len(sizes)}, such as "
                        f"{', '.join(close)}", "check the name")
    if len(sizes) == 1:
        raise UserError(f"{artist}, the gallery's only artist", "one that is not the last", "delete the folder")


def image_names(folder: Path, names: Sequence[str]) -> list[str]:
    """What a gallery calls the pictures `names` of `folder`, see `Gallery.of_folder`."""
    if any("/" not in name for name in names):
        names = [f"{as_text(folder.resolve().name)}/{name}" for name in names]
    counts = Counter(map(nfc, names))
    return [name if counts[nfc(name)] > 1 else nfc(name) for name in names]  # two spellings of one name stay two


def find_images(folders: Iterable[Path]) -> dict[str, Path]:
    """The pictures in `folders`, by the names that a gallery built from them gives them."""
    return {name: picture for found in (find_pictures(folder).of_artists() for folder in folders) for name, picture in
            zip(image_names(found.root, list(map(as_text, found.names))), found.images,
                strict=True)}


# ---- files -----------------------------------------------------------------------------------------------------------


class _Artist(msgspec.Struct):
    """An artist in gallery.json."""

    artist: str
    pictures: Annotated[int, msgspec.Meta(ge=1)]


class _About(msgspec.Struct):
    """What gallery.json must say, of the files that were written whole."""

    format: Literal["lsnet-gallery-1"]
    model: str
    feature_dim: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
    pictures: Annotated[int, msgspec.Meta(ge=1)]
    components: Annotated[int, msgspec.Meta(ge=1)] | None = None
    artists: list[_Artist] = []


def write_gallery(folder: Path, gallery: Gallery, *, overwrite: bool, sources: Sequence[Path] = (),
                  calibration: Callable[[Path], None] | None = None) -> None:
    """Write `gallery` to `folder`; an earlier gallery there is replaced once the new one is complete.

    The calibration of the earlier gallery goes with it.

    Args:
        folder: of the gallery.
        gallery: its content.
        overwrite: replace without asking.
        sources: folders of pictures, which `folder` may not lie in or hold.
        calibration: writes that of `gallery` to the folder that it is given.

    Raises:
        UserError: `folder` may not be replaced, or the answer was no.
    """
    with new_folder(folder, made_by=MADE_BY, overwrite=overwrite, sources=sources) as building:
        write_features(building, gallery.images, np.asarray(gallery.features), gallery.space)
        write_array(building / MEANS, gallery.means)
        _write_names(building / PICTURES, gallery)
        if fitted := gallery.standardised().standardisation:
            fitted.write(building)
        write_json(building / ABOUT, {
            "format": FORMAT, "model": gallery.space.model, "feature_dim": gallery.features.shape[1],
            "components": gallery.components, "pictures": len(gallery.images),
            "artists": [{"artist": artist, "pictures": size} for artist, size in gallery.sizes.items()]})
        if calibration:
            calibration(building)


def read_gallery(folder: Path, space: FeatureSpace | None = None) -> Gallery:
    """The gallery in `folder`; its features stay on disk.

    Raises:
        UserError: there is none, its parts do not belong together, or its features are not of `space`.
    """
    return read_swapped(folder, functools.partial(_read_state, space=space))


def _read_state(folder: Path, space: FeatureSpace | None) -> Gallery:
    action = _AGAIN
    about = _read_about(folder)
    features = read_matrix(folder / FEATURES)
    rows = [row for _, row in read_table(folder / PICTURES, COLUMNS)]
    if not about.pictures == len(rows) == len(features) or features.shape[1] != about.feature_dim:
        raise UserError(f"{folder} with {len(features)} features of {features.shape[1]} numbers and {len(rows)} names",
                        f"{about.pictures} of {about.feature_dim} numbers, as {ABOUT} says", action)
    if any(number != str(place) or not artist or not image for place, (number, artist, image) in enumerate(rows)):
        raise UserError(f"a row of {folder / PICTURES} with another number, or without a name",
                        "rows numbered from 0, with artist and image", action)
    own = FeatureSpace.read(folder, about.feature_dim) or FeatureSpace(model=about.model)  # of earlier versions
    if own.model != about.model:
        raise UserError(f"{folder} with features of one network and {ABOUT} of another", "one gallery", action)
    if space is not None:
        check_space(folder, own, space, artists=len({artist for _, artist, _ in rows}))
    standardisation = None if about.components is None else Standardisation.read(folder, about.feature_dim)
    if about.components is not None and standardisation is None:
        raise UserError(f"no {folder / STANDARDISATION}", "the whole gallery", action)
    changes = [Change.read(file, about.feature_dim) for file in find_changes(folder)]
    content = apply_changes(Content(images=[image for _, _, image in rows], artists=[artist for _, artist, _ in rows],
                                    features=features), changes)
    if not content.images:
        raise UserError(f"{folder} whose changes left no picture", "at least one", action)
    return Gallery(space=own, images=content.images, artists=content.artists, features=content.features,
                   components=about.components, standardisation=standardisation)


def change_gallery(folder: Path, *, added: Gallery | None = None, removed: str | None = None,
                   space: FeatureSpace | None = None, sources: Sequence[Path] = ()) -> dict[str, int]:
    """Add the pictures of `added` to the gallery in `folder`, or remove an artist; pictures of each artist afterwards.

    Pictures of the same name are replaced. A large gallery gets a file in changes/, and its other files stay, until
    these are worth writing anew; its standardisation stays as long. A kill at any moment leaves the gallery before the
    change or after it. The calibration goes.

    Raises:
        UserError: there is no gallery, `added` is of another network or kind of features, or see `Gallery.without`.
    """
    with output_lock(folder, wait=True):
        asked = added.space if added else space
        about, files = _read_about(folder), find_changes(folder)
        sizes, changed = changed_sizes({each.artist: each.pictures for each in about.artists}, files)
        changed += len(added.images) if added else sizes.get(nfc(removed or ""), 0)
        if (about.pictures < SMALL or changed > about.pictures * CHANGED_SHARE or len(files) >= MOST_CHANGES
                or not about.artists):
            earlier = read_gallery(folder, asked)
            gallery = earlier.with_pictures(added) if added else earlier.without(removed or "")
            write_gallery(folder, gallery, overwrite=True, sources=sources)
            return gallery.sizes
        if asked:
            own = FeatureSpace.read(folder, about.feature_dim) or FeatureSpace(model=about.model)
            check_space(folder, own, asked, artists=len(sizes))
        if added:
            check_apart(folder, sources)
            replaced = _find_replaced(added, sizes, folder, files)
            after = dict(Counter(sizes) - Counter(replaced) + Counter(added.artists))
            change = Change(images=added.images, artists=added.artists, features=np.asarray(added.features),
                            replaced=replaced)
        else:
            check_removable(removed or "", sizes)
            after = {artist: size for artist, size in sizes.items() if artist != nfc(removed or "")}
            change = Change(images=(), artists=(), features=np.empty((0, about.feature_dim), np.float32),
                            removed=[nfc(removed or "")])
        with report_write_errors(folder):
            file = next_change(folder)
            mark_output(folder, MADE_BY, [file.relative_to(folder).as_posix()])
            change.write(file)
            for name in OF_PICTURES:
                (folder / name).unlink(missing_ok=True)
        return dict(sorted(after.items()))


def _find_replaced(added: Gallery, sizes: Mapping[str, int], folder: Path, files: Sequence[Path]) -> list[str]:
    """The artist of each row that `added` replaces; only where the artist is known, names in `folder` are read."""
    if not sizes.keys() & {*added.artists, *(artist_of(image) or "" for image in added.images)}:
        return []
    wanted = {image.encode() for image in added.images}
    try:
        rows = [row for row, line in enumerate(read_lines(folder / NAMES)) if line.rstrip(b"\r\n") in wanted]
    except OSError as error:
        raise unreadable(folder / NAMES, error, expected="the names of its pictures", action=_AGAIN) from error
    owners = {image: artist for artist, image in read_table_at(folder / PICTURES, COLUMNS[1:], rows)}
    for file in files:
        texts = read_texts(file, ("image_names", "artists", "removed"))
        removed = {*texts["removed"]}
        owners = {image: artist for image, artist in owners.items() if artist not in removed}
        owners |= zip(texts["image_names"], texts["artists"], strict=True)
    return [owners[image] for image in added.images if image in owners]


def check_gallery(folder: Path, space: FeatureSpace) -> None:
    """Raise a `UserError` unless features of `space` can be compared with those of the gallery in `folder`."""
    about = _read_about(folder)
    own = FeatureSpace.read(folder, about.feature_dim) or FeatureSpace(model=about.model)
    check_space(folder, own, space, artists=len(about.artists))


def _read_about(folder: Path) -> _About:
    return read_json(folder / ABOUT, _About, expected="a gallery that tools/build_gallery.py made",
                     action=_AGAIN)


def check_space(place: object, own: FeatureSpace, asked: FeatureSpace, *, artists: int) -> None:
    """Raise a `UserError` unless features of the space `asked` can be compared with those of the gallery."""
    if asked.feature_kind != own.feature_kind:
        raise UserError(f"--feature-kind {asked.feature_kind} for the gallery {place}",
                        f"{own.feature_kind}, which it holds", "leave --feature-kind away, or build another gallery")
    if own.model != asked.model:
        raise UserError(f"the gallery {place} of {counted(artists, 'artist')}, built with another network "
                        f"({own.model[:8]}…)",
                        f"one built with that of --checkpoint or --model ({asked.model[:8]}…)",
                        "give the network it was built with, or build it again with this one")


def export_gallery(gallery: Gallery, folder: Path) -> None:
    """Write vectors.npy, (N, K) float32 of length 1, and vectors.csv, their artists and names, for vector stores.

    They are the vectors that a search compares. Where those are standardised, standardisation.npy is written, too:
    other features must be standardised before they are compared with these.
    """
    with output_lock(folder), replace_together(folder, (VECTORS, STANDARDISATION, VECTOR_NAMES)) as building:
        write_array(building / VECTORS, normalised(np.asarray(gallery.comparable(gallery.features))))
        if gallery.standardisation:
            gallery.standardisation.write(building)
        _write_names(building / VECTOR_NAMES, gallery)


def _write_names(path: Path, gallery: Gallery) -> None:
    write_rows(path, [COLUMNS, *zip(range(len(gallery.images)), gallery.artists, gallery.images, strict=True)])
