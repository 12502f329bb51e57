"""The engines that keep galleries: a folder, and Milvus, told apart by how the place is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from data.output_folder import output_lock, read_swapped
from runtime.arguments import check_target
from search.gallery import (
    CALIBRATION_FILES,
    Gallery,
    GalleryOutline,
    change_gallery,
    check_gallery,
    read_gallery,
    write_gallery,
)
from search.gallery_search import GallerySearch, Search, open_search
from search.gallery_store import Also, Files, GalleryStore
from search.hnsw import Graph, write_index
from search.milvus import PREFIX, MilvusStore
from search.vectors import FeatureSpace
from utils import read_bytes


def open_store(place: str) -> GalleryStore:
    """The store at `place`: `milvus:URI`, or a folder; nothing is read yet."""
    return MilvusStore(place) if place.startswith(PREFIX) else FolderStore(Path(place))


def is_folder(place: str) -> bool:
    """Whether `place` names a folder."""
    return not place.startswith(PREFIX)


class FolderStore(GalleryStore):
    """A gallery in a folder of its own, with an HNSW index where one was made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def check_place(self) -> None:
        """See `GalleryStore`."""
        check_target("--gallery", self.folder, "folder")

    def lock(self, *, wait: bool = False) -> AbstractContextManager[None]:
        """See `GalleryStore`."""
        return output_lock(self.folder, wait=wait)

    def read_space(self) -> FeatureSpace | None:
        """See `GalleryStore`."""
        return FeatureSpace.read(self.folder)

    def check_space(self, space: FeatureSpace) -> None:
        """See `GalleryStore`."""
        read_swapped(self.folder, partial(check_gallery, space=space))

    def read_outline(self) -> GalleryOutline:
        """See `GalleryStore`."""
        return read_gallery(self.folder)

    def read(self, space: FeatureSpace | None = None) -> Gallery:
        """See `GalleryStore`; the features stay on disk."""
        return read_gallery(self.folder, space)

    def read_calibration(self) -> Files:
        """See `GalleryStore`."""
        return read_swapped(self.folder, lambda folder: {
            name: read_bytes(folder / name) for name in CALIBRATION_FILES if (folder / name).exists()})

    def search(self, *, neighbours: int, space: FeatureSpace | None = None, exact: bool = False,
               also: Callable[[Path, GalleryOutline], Also]) -> tuple[Search, Also]:
        """See `GalleryStore`."""

        def read(folder: Path) -> tuple[Gallery, Also]:
            gallery = read_gallery(folder, space)
            return gallery, also(folder, gallery)

        gallery, more = read_swapped(self.folder, read)
        if exact:
            return GallerySearch(gallery, neighbours=neighbours), more
        return open_search(self.folder, gallery, neighbours=neighbours), more

    def write(self, gallery: Gallery, *, overwrite: bool, sources: Sequence[Path] = (),
              calibration: Callable[[Path], None] | None = None) -> None:
        """See `GalleryStore`."""
        write_gallery(self.folder, gallery, overwrite=overwrite, sources=sources, calibration=calibration)

    def change(self, *, added: Gallery | None = None, removed: str | None = None, space: FeatureSpace | None = None,
               sources: Sequence[Path] = ()) -> Mapping[str, int]:
        """See `GalleryStore`."""
        return change_gallery(self.folder, added=added, removed=removed, space=space, sources=sources)

    def calibrate(self, gallery: Gallery, calibration: Callable[[Path], None], *, added: Gallery | None = None,
                  removed: str | None = None, sources: Sequence[Path] = ()) -> None:
        """See `GalleryStore`; the whole folder is written."""
        write_gallery(self.folder, gallery, overwrite=True, sources=sources, calibration=calibration)

    def write_index(self) -> Graph:
        """See `GalleryStore`."""
        with self.lock(wait=True):
            return write_index(self.folder, read_gallery(self.folder))
