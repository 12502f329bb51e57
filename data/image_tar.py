"""Pictures in tar files, read where they lie: the layouts that timm's readers take."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from PIL import Image

from data.image_folder import ImageFolder
from data.images import DEFAULT_MAX_PIXELS, IMAGE_EXTENSIONS, ImageError, decode_image
from data.transforms import Transform
from utils import UserError

TAR = ".tar"


class ImageTar(ImageFolder):
    """The pictures of one tar file, or of all in a folder, as if they were unpacked to one folder per class.

    A picture's class is the folder it lies in, within the tar; without one, the name of the tar, be that a file or
    packed into another tar. Nothing is unpacked and no index is written: the file is read at the picture's place, so
    that any number of processes may read at once. Damage shows when a picture is read.
    """

    def _listed(self) -> dict[str, list[str]]:
        files = [self.root] if self.root.is_file() else sorted(self.root.glob(f"*{TAR}"))
        self._places: dict[str, tuple[Path, int, int]] = {}  # name -> file, first byte and bytes of each picture
        for file in files:
            try:
                with open(file, "rb") as archive:
                    for name, start, size in _members(archive, "" if file == self.root else file.stem):
                        self._places[name] = file, start, size
            except (tarfile.TarError, OSError) as error:
                raise UserError(f"{file}, which is damaged or no tar file ({error})", "a whole, uncompressed .tar file",
                                "copy it again, or unpack it to one folder per class") from error
        listed: dict[str, list[str]] = {}
        for name in sorted(self._places):
            listed.setdefault(name.partition("/")[0], []).append(name)
        if not listed:
            raise UserError(f"no picture in a class folder in {self.root}", "tar files of class folders, or one per "
                            "class", "check --data-path")
        return dict(sorted(listed.items()))

    def files(self) -> list[Path]:
        """None: what lies in a tar file is seen when it is read."""
        return []

    def picture(self, index: int) -> Image.Image:
        """Picture `index`, decoded; raises `ImageError`."""
        file, start, size = self._places[self.names[index]]
        try:
            with open(file, "rb") as archive:
                archive.seek(start)
                content = archive.read(size)
        except OSError as error:
            raise ImageError(self.path(index), f"cannot be read: {error.strerror}") from error
        return decode_image(self.path(index), content=content, max_pixels=self.max_pixels)


def _members(archive: BinaryIO, stem: str) -> Iterator[tuple[str, int, int]]:
    """Name (class/file), first byte and number of bytes of each picture of an open tar, and of the tars in it."""
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isreg() or path.name.startswith("."):
                continue
            if path.suffix.lower() == TAR:
                for name, start, size in _members(tar.extractfile(member), path.stem):
                    yield name, member.offset_data + start, size
            elif path.suffix.lower() in IMAGE_EXTENSIONS and (path.parent.name or stem):
                yield f"{path.parent.name or stem}/{path.name}", member.offset_data, member.size


def open_pictures(root: Path, transform: Transform, *, classes: Sequence[str] | None = None,
                  max_pixels: int = DEFAULT_MAX_PIXELS) -> ImageFolder:
    """The pictures of `root`: a folder of class folders or of tar files, a tar file, or what `root`.tar holds.

    Raises:
        UserError: see `ImageFolder`; or a tar file cannot be read.
    """
    beside = root.with_name(root.name + TAR)
    if beside.is_file() and not root.exists():
        root = beside
    packed = root.is_file() or (root.is_dir() and any(root.glob(f"*{TAR}")))
    return (ImageTar if packed else ImageFolder)(root, transform, classes=classes, max_pixels=max_pixels)
