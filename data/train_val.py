"""The training and validation images of a dataset on disk, `train/` and `val/`, without damaged files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from data.image_folder import ImageFolder, open_pictures
from data.image_list import LabelledImages
from data.names import as_text
from data.prepare.integrity import SCAN_CACHE, scan_images
from data.tar_files import TAR
from data.worker_pool import Progress
from utils import UserError

NAMED = 10  # classes in one line


def has_sides(data_path: Path) -> bool:
    """Whether a folder is a data set with `train` or `val`, each a folder or a tar file, and no folder of artists."""
    return any((data_path / f"{side}{ending}").exists() for side in ("train", "val") for ending in ("", TAR))


def open_train(data_path: Path, *, max_pixels: int, exclude: Sequence[str] = ()) -> ImageFolder:
    """The training images; their folders, in code-point order, are the classes. `exclude` as in `find_pictures`.

    Raises:
        UserError: no such folder, or an empty class folder.
    """
    return open_pictures(data_path / "train", max_pixels=max_pixels, exclude=exclude)


def open_val(data_path: Path, classes: Sequence[str], *, max_pixels: int,
             exclude: Sequence[str] = ()) -> ImageFolder:
    """The validation images, in the class ids of the training set. `exclude` as in `find_pictures`.

    Raises:
        UserError: no such folder, or a class that `classes` lacks.
    """
    return open_pictures(data_path / "val", classes=classes, max_pixels=max_pixels, exclude=exclude)


def check_two_classes(dataset: LabelledImages) -> None:
    """Raise a `UserError` if fewer than two classes have an image in the training set `dataset`."""
    present = [name for name, count in zip(dataset.classes, dataset.counts(), strict=True) if count]
    if len(present) < 2:
        raise UserError(f"one class ({present[0]}) with readable pictures in {dataset.root}",
                        "at least two to tell apart", "add pictures of others; features can be compared without "
                        "training (tools/build_gallery.py)")


def name_missing(dataset: LabelledImages, what: str) -> list[str]:
    """A line on the classes that have no image in `dataset`, and `what` becomes of them; none where all have one."""
    missing = [name for name, count in zip(dataset.classes, dataset.counts(), strict=True) if not count]
    return [f"{what}: {first_names(missing)}"] if missing else []


def first_names(names: Sequence[str]) -> str:
    """The first `NAMED` of `names`, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"


def find_damaged(datasets: Sequence[LabelledImages], cache_folders: Sequence[Path], *, workers: int, max_pixels: int,
                 progress: Progress | None = None) -> dict[Path, str]:
    """Scan every image file, with a `progress` bar; the damaged ones with the reason.

    The result is cached in the first of `cache_folders` that can be written.
    """
    cache = next((folder / SCAN_CACHE for folder in cache_folders if os.access(folder, os.W_OK)), None)
    paths = [path for dataset in datasets for path in dataset.file_names()]
    found = scan_images(paths, cache=cache, workers=workers, max_pixels=max_pixels, progress=progress)
    return {Path(path): reason for path, reason in found.items()}


def leave_out(datasets: Sequence[LabelledImages], damaged: dict[Path, str]) -> list[str]:
    """Remove the damaged images from the datasets; one line for each, with the reason.

    Raises:
        UserError: no image of a dataset can be read.
    """
    for dataset in datasets:
        if damaged:
            dataset.leave_out(damaged)
        if not len(dataset):
            lost = next((path for path in damaged if path.is_relative_to(dataset.root)), None)
            why = f" (such as {as_text(str(lost))}: {damaged[lost]})" if lost else ""
            raise UserError(f"no picture in {dataset.root} that can be read{why}", "at least one", "add pictures")
    return [f"left out: {as_text(str(path))} ({reason})" for path, reason in damaged.items()]
