"""Images in one folder per class, on disk or in tar files as timm's readers take them."""

from __future__ import annotations

import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image
from torchvision.transforms.functional import to_tensor

from data.image_list import LabelledImages
from data.images import DEFAULT_MAX_PIXELS, SIGNATURE, SIGNATURE_BYTES, ImageError, decode_image
from data.names import line_problem, nfc
from data.picture_files import artist_of, find_pictures, is_excluded, picture_name
from data.transforms import Transform
from utils import UserError, check_regular_file

TAR = ".tar"


class ImageFolder(LabelledImages):
    """The images below `root`, one sub-folder per class, ordered by class and path.

    Attributes:
        targets: the index of each image's folder in `classes`, (N,) int64.
        passed_over: lines on files and folders that are not in the dataset.
    """

    def __init__(self, root: Path, transform: Transform = to_tensor, *, classes: Sequence[str] | None = None,
                 max_pixels: int = DEFAULT_MAX_PIXELS, exclude: Sequence[str] = ()) -> None:
        """List the folder; without `classes`, these are the sub-folders in NFC and code-point order.

        `exclude` is that of `find_pictures`.

        Raises:
            UserError: no such folder, no class folder in it, one that `classes` lacks, or without `classes` an empty
                one.
        """
        super().__init__((), transform, max_pixels=max_pixels)
        self.root, self.exclude = root, exclude
        self.passed_over: list[str] = []
        by_class = self._list()
        self.classes = list(by_class if classes is None else classes)
        class_ids = {nfc(name): number for number, name in enumerate(self.classes)}
        unknown = [name for name in by_class if name not in class_ids]
        if unknown:
            raise UserError(f"{self.root / unknown[0]} ({len(unknown)} class(es) that the training set lacks)",
                            "the classes of the training set only", "move or remove these folders, or train with them")
        self.names = []
        targets: list[int] = []
        for name, images in by_class.items():
            if problem := line_problem(name):
                raise UserError(f"the class folder {name!r}, which {problem}", "a name that class_mapping.csv can hold",
                                "rename the folder, or run prepare_dataset.py with --artist-map")
            if not images and classes is None:
                raise UserError(f"no picture in {self.root / name}", "at least one per class",
                                "add pictures, remove the folder, or run prepare_dataset.py again")
            self.names += images
            targets += [class_ids[name]] * len(images)
        self.targets = np.asarray(targets, dtype=np.int64)

    def _list(self) -> dict[str, list[str]]:
        """The images' paths by class; both in code-point order."""
        if not self.root.is_dir():
            missing = self.root if self.root.parent.is_dir() else self.root.parent
            raise UserError(f"no folder {missing}", "one folder per artist, or class, in it",
                            "check --data-path; prepare_dataset.py makes train/ and val/")
        found = find_pictures(self.root, exclude=self.exclude).without_loose()
        if not found.folders:
            raise UserError(f"no class folder in {self.root}", "one folder per artist, or class",
                            "check the path, or run prepare_dataset.py")
        by_class: dict[str, list[str]] = {name: [] for name in sorted(map(nfc, found.folders))}
        for image in found.images:
            by_class[found.artist(image)].append(found.name(image))
        self.passed_over, self.unreadable = [f"{self.root}: {line}" for line in found.report()], found.unreadable
        return by_class

    def target(self, index: int) -> int:
        """The class of image `index`."""
        return int(self.targets[index])

    def counts(self) -> np.ndarray:
        """Images of each class, (classes,) int64."""
        return np.bincount(self.targets, minlength=len(self.classes))

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        kept = [index for index in range(len(self)) if self.path(index) not in damaged]
        self.names = [self.names[index] for index in kept]
        self.targets = self.targets[kept]


class ListedFolder(ImageFolder):
    """Images that a list sorts into classes, wherever they lie below `root`."""

    def __init__(self, root: Path, files: Mapping[str, str], *, classes: Sequence[str] | None = None,
                 max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Take `files`: the path that each image would have in a folder of class folders → its path below `root`.

        `classes` as for `ImageFolder`, whose order of images this has.
        """
        self._files = files
        super().__init__(root, classes=classes, max_pixels=max_pixels)

    def _list(self) -> dict[str, list[str]]:
        by_class: dict[str, list[str]] = {}
        for name in sorted(self._files):
            by_class.setdefault(artist_of(name) or "", []).append(name)
        self.unreadable = []
        return dict(sorted(by_class.items()))

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.root / self._files[self.names[index]]


# ---- tar files -------------------------------------------------------------------------------------------------------


class ImageTar(ImageFolder):
    """The images of one tar file, or of all tar files in a folder, as if unpacked to one folder per class.

    An image's class is its folder within the tar; without a folder, the name of the tar, which may be packed into
    another tar. Nothing is unpacked and no index is written: images are read at their offset, by any number of
    processes at once. A damaged image is found when it is read.
    """

    def _list(self) -> dict[str, list[str]]:
        files = [self.root] if self.root.is_file() else sorted(self.root.glob(f"*{TAR}"))
        self._members: dict[str, tuple[Path, int, int]] = {}  # name -> tar file, offset and size in bytes
        for file in files:
            try:
                check_regular_file(file)
                with open(file, "rb") as archive:
                    for name, offset, size in _read_members(archive, "" if file == self.root else file.stem):
                        if not is_excluded(name, self.exclude):
                            self._members[name] = file, offset, size
            except (tarfile.TarError, OSError) as error:
                raise UserError(f"{file}, which is damaged or no tar file ({error})", "a whole, uncompressed .tar file",
                                "copy it again, or unpack it to one folder per class") from error
        by_class: dict[str, list[str]] = {}
        for name in sorted(self._members):
            by_class.setdefault(artist_of(name) or "", []).append(name)
        if not by_class:
            raise UserError(f"no picture in a class folder in {self.root}", "tar files of class folders, or one per "
                            "class", "check --data-path")
        return dict(sorted(by_class.items()))

    def is_gone(self, path: Path) -> bool:
        """False: `path` is a name within a tar file."""
        return False

    def files(self) -> list[Path]:
        """None: images in tar files are checked when they are read."""
        return []

    def picture(self, index: int) -> Image.Image:
        """Image `index`, decoded; raises `ImageError`."""
        file, offset, size = self._members[self.names[index]]
        try:
            with open(file, "rb") as archive:
                archive.seek(offset)
                content = archive.read(size)
        except OSError as error:
            raise ImageError(self.path(index), f"cannot be read: {error.strerror}") from error
        return decode_image(self.path(index), content=content, max_pixels=self.max_pixels)


def _read_members(archive: IO[bytes], stem: str) -> Iterator[tuple[str, int, int]]:
    """Name (class/file), offset and size in bytes of each image in an open tar, and in the tars within it."""
    with tarfile.open(fileobj=archive, mode="r:") as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if not member.isreg() or path.name.startswith("."):
                continue
            if path.suffix.lower() == TAR:
                inner = tar.extractfile(member)
                for name, offset, size in _read_members(inner, path.stem) if inner else ():
                    yield name, member.offset_data + offset, size
            elif (path.parent.name or stem) and _is_picture(tar, member):
                yield f"{path.parent.name or stem}/{path.name}", member.offset_data, member.size


def _is_picture(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bool:
    known = picture_name(member.name)
    if known is None and (content := tar.extractfile(member)):
        return SIGNATURE.match(content.read(SIGNATURE_BYTES)) is not None
    return known is True


def open_pictures(root: Path, transform: Transform = to_tensor, *, classes: Sequence[str] | None = None,
                  max_pixels: int = DEFAULT_MAX_PIXELS, exclude: Sequence[str] = ()) -> ImageFolder:
    """The images of `root`: a folder of class folders or of tar files, a tar file, or the content of `root`.tar.

    Raises:
        UserError: see `ImageFolder`; or a tar file cannot be read.
    """
    beside = root.with_name(root.name + TAR)
    if beside.is_file() and not root.exists():
        root = beside
    packed = root.is_file() or (root.is_dir() and any(root.glob(f"*{TAR}")))
    return (ImageTar if packed else ImageFolder)(root, transform, classes=classes, max_pixels=max_pixels,
                                              exclude=exclude)
