"""Where a gallery is kept: one interface for commands and service, whichever engine keeps the rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from search.gallery import Gallery, GalleryOutline
from search.gallery_search import Search
from search.hnsw import Graph
from search.vectors import FeatureSpace

Files = Mapping[str, bytes]  # content of small files by name
Also = TypeVar("Also")


def write_files(folder: Path, files: Files) -> None:
    """Write `files` to `folder`."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


class GalleryStore(ABC):
    """A gallery in one place; each method raises a `UserError` where there is none that it can use.

    `str(store)` is what a user calls the place.
    """

    @abstractmethod
    def check_place(self) -> None:
        """Raise a `UserError` where no gallery can be written."""

    @abstractmethod
    def lock(self, *, wait: bool = False) -> AbstractContextManager[None]:
        """Inside the block no other command writes to the gallery; refuse if one does, or `wait`, saying for whom."""

    @abstractmethod
    def read_space(self) -> FeatureSpace | None:
        """Whose features it holds; None where it does not say, or there is no gallery."""

    @abstractmethod
    def check_space(self, space: FeatureSpace) -> None:
        """Raise a `UserError` unless features of `space` can be compared with those of the gallery."""

    @abstractmethod
    def read_outline(self) -> GalleryOutline:
        """All but the rows, as far as the engine can."""

    @abstractmethod
    def read(self, space: FeatureSpace | None = None) -> Gallery:
        """All rows; they must be of `space`."""

    @abstractmethod
    def read_calibration(self) -> Files:
        """The files of its calibration; none where it was not calibrated, or has changed since."""

    @abstractmethod
    def search(self, *, neighbours: int, space: FeatureSpace | None = None, exact: bool = False,
               also: Callable[[Path, GalleryOutline], Also]) -> tuple[Search, Also]:
        """The search in it, and `also(folder, gallery)` of one state, where `folder` has the files of a calibration.

        Args:
            neighbours: nearest pictures that vote for the artist.
            space: of the queries.
            exact: compare with every picture in this process, whatever index there is.
            also: reads what belongs to the gallery.
        """

    def open_search(self, *, neighbours: int, space: FeatureSpace | None = None, exact: bool = False) -> Search:
        """The search in it, see `search`."""
        return self.search(neighbours=neighbours, space=space, exact=exact, also=lambda *_: None)[0]

    @abstractmethod
    def write(self, gallery: Gallery, *, overwrite: bool, sources: Sequence[Path] = (),
              calibration: Callable[[Path], None] | None = None) -> None:
        """Replace the whole gallery once the new one is complete; see `write_gallery`."""

    @abstractmethod
    def change(self, *, added: Gallery | None = None, removed: str | None = None, space: FeatureSpace | None = None,
               sources: Sequence[Path] = ()) -> Mapping[str, int]:
        """Add or replace pictures, or remove an artist; pictures of each artist afterwards. The calibration goes."""

    @abstractmethod
    def calibrate(self, gallery: Gallery, calibration: Callable[[Path], None], *, added: Gallery | None = None,
                  removed: str | None = None, sources: Sequence[Path] = ()) -> None:
        """Change as `change` does, to what `gallery` is already, and keep the files that `calibration` writes."""

    @abstractmethod
    def write_index(self) -> Graph:
        """Make the index beside the rows."""
