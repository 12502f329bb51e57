"""Images in one folder per class, on disk or in tar files: WebDataset shards, and those that timm's readers take."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.transforms.functional import to_tensor

from data.image_list import LabelledImages
from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_image
from data.names import line_problem, nfc
from data.picture_files import PictureFolder, artist_of, find_pictures, tar_content
from data.shards import ABOUT, CLASS, label_pictures
from data.tar_files import TAR, Member, read_member
from data.transforms import Transform
from utils import UserError


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
        for folder, names in itertools.groupby(found.names, lambda name: name.partition("/")[0]):
            by_class[nfc(folder)] += names
        self.passed_over, self.unreadable = [f"{self.root}: {line}" for line in found.report()], found.unreadable
        return by_class

    def target(self, index: int) -> int:
        """The class of image `index`."""
        return int(self.targets[index])

    def file_names(self) -> list[str]:
        """See `ImageList`."""
        if type(self) is not ImageFolder:
            return super().file_names()
        start = os.path.join(self.root, "")
        return [start + name.replace("/", os.sep) for name in self.names]

    def counts(self) -> np.ndarray:
        """Images of each class, (classes,) int64."""
        return np.bincount(self.targets, minlength=len(self.classes))

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        kept = [index for index in range(len(self)) if self.path(index) not in damaged] if damaged else range(len(self))
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

    They are WebDataset shards or tars of class folders, see `label_pictures`; without class and folder, the name of the
    tar is the class, which may be packed into another tar. Nothing is unpacked: images are read at their offset, by any
    number of processes at once.
    """

    def _list(self) -> dict[str, list[str]]:
        files = [self.root] if self.root.is_file() else sorted(self.root.glob(f"*{TAR}"))
        self._members: dict[str, tuple[Path, str, Member]] = {}  # name -> tar file, path in it, place
        passed_over: dict[str, str] = {}
        for file in files:
            content = dict(tar_content(file, self.exclude))
            passed_over |= {f"{file.name}/{path}": problem for path, problem in content.items()
                            if problem and not path.endswith((CLASS, ABOUT))}
            pictures = (path for path, problem in content.items() if problem is None)
            for found in label_pictures(file, pictures, folder="" if file == self.root else file.stem):
                artist, _, name = found.name.partition("/")
                name = found.name if found.name not in self._members else f"{artist}/{file.stem}/{name}"
                self._members[name] = file, found.path, found.member
        by_class: dict[str, list[str]] = {}
        for name in sorted(self._members):
            by_class.setdefault(artist_of(name) or "", []).append(name)
        if not by_class:
            raise UserError(f"no picture in a class folder in {self.root}", "tar files of class folders, one per "
                            "class, or shards with .cls files", "check --data-path")
        found = PictureFolder(root=self.root, names=[], folders=[], passed_over=passed_over, unreadable=[])
        self.passed_over, self.unreadable = [f"{self.root}: {line}" for line in found.report()], found.unreadable
        return dict(sorted(by_class.items()))

    @property
    def layout(self) -> str:
        """A digest of the places of all images in their tar files."""
        places = "".join(f"{name}\0{file.name}\0{member.offset}\0{member.size}\n"
                         for name, (file, _, member) in self._members.items())
        return hashlib.blake2b(places.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()

    def path(self, index: int) -> Path:
        """The path of image `index`, which leads into a tar."""
        file, path, _ = self._members[self.names[index]]
        return file / path

    def is_gone(self, path: Path) -> bool:
        """False: a damaged image has not gone."""
        return False

    def picture(self, index: int) -> Image.Image:
        """Image `index`, decoded; raises `ImageError`."""
        file, _, member = self._members[self.names[index]]
        try:
            content = read_member(file, member)
        except OSError as error:
            raise ImageError(self.path(index), f"cannot be read: {error.strerror or error}") from error
        return decode_image(self.path(index), content=content, max_pixels=self.max_pixels)


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
