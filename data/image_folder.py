"""Pictures in one folder per class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from data.image_list import ImageList
from data.images import DEFAULT_MAX_PIXELS, list_images
from data.transforms import Transform
from utils import UserError


class ImageFolder(ImageList):
    """The pictures below `root`, one sub-folder per class, ordered by class and path.

    Attributes:
        root: the folder.
        classes: class names; a picture's target is the place of its folder's name in this list.
        names: each picture's path relative to `root`, "/"-separated.
        targets: (N,) int64.
    """

    def __init__(self, root: Path, transform: Transform, *, classes: Sequence[str] | None = None,
                 max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """List the folder.

        Args:
            root: the folder.
            transform: from an RGB picture to the network's input.
            classes: the names and order of the classes; without them, the sub-folders in code-point order.
            max_pixels: pictures whose header claims more are unreadable.

        Raises:
            UserError: no such folder, no class folder in it, one of them empty, or one that `classes` lacks.
        """
        super().__init__((), transform, max_pixels=max_pixels)
        self.root = root
        listed = self._listed()
        self.classes = list(listed if classes is None else classes)
        known = {name: place for place, name in enumerate(self.classes)}
        strangers = [name for name in listed if name not in known]
        if strangers:
            raise UserError(f"{self.root / strangers[0]} ({len(strangers)} class(es) that the training set lacks)",
                            "the classes of the training set only", "move or remove these folders, or train with them")
        self.names: list[str] = []
        targets: list[int] = []
        for name, pictures in listed.items():
            if not name.isprintable():  # among them the stand-ins for bytes that are no valid Unicode
                raise UserError(f"the class folder {name!r}", "a name that class_mapping.csv can hold",
                                "rename the folder, or run prepare_dataset.py with --artist-map")
            if not pictures:
                raise UserError(f"no picture in {self.root / name}", "at least one per class",
                                "add pictures, remove the folder, or run prepare_dataset.py again")
            self.names += pictures
            targets += [known[name]] * len(pictures)
        self.targets = np.asarray(targets, dtype=np.int64)

    def _listed(self) -> dict[str, list[str]]:
        """The pictures' paths by class; both in code-point order."""
        return {folder: [picture.relative_to(self.root).as_posix() for picture in list_images(self.root / folder)]
                for folder in _class_folders(self.root)}

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of picture `index`."""
        return self.root / self.names[index]

    def target(self, index: int) -> int:
        """The class of picture `index`."""
        return int(self.targets[index])

    def counts(self) -> np.ndarray:
        """Pictures of each class, (classes,) int64."""
        return np.bincount(self.targets, minlength=len(self.classes))

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        kept = [index for index in range(len(self)) if self.path(index) not in damaged]
        self.names = [self.names[index] for index in kept]
        self.targets = self.targets[kept]


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise UserError(f"no folder {root}", "one folder per artist, or class, in it",
                        "check --data-path; prepare_dataset.py makes train/ and val/")
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise UserError(f"no class folder in {root}", "one folder per artist, or class",
                        "check the path, or run prepare_dataset.py")
    return folders
