"""The two halves of a data set on disk, `train/` and `val/`, without their damaged pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from data.image_folder import ImageFolder
from data.image_tar import open_pictures
from data.prepare.integrity import SCAN_CACHE, scan_images
from data.transforms import Augmentation, Preprocessing, eval_transform, train_transform
from data.worker_pool import Progress
from utils import UserError

Say = Callable[[str], None]


def open_train(data_path: Path, preprocessing: Preprocessing, augmentation: Augmentation, *,
               max_pixels: int) -> ImageFolder:
    """The training pictures; their folders, in code-point order, are the classes.

    Raises:
        UserError: no such folder, an empty class folder, or fewer than two classes.
    """
    dataset = open_pictures(data_path / "train", train_transform(preprocessing, augmentation), max_pixels=max_pixels)
    if len(dataset.classes) < 2:
        raise UserError(f"one class ({dataset.classes[0]}) in {dataset.root}", "at least two to tell apart",
                        "add the folders of others")
    return dataset


def open_val(data_path: Path, preprocessing: Preprocessing, classes: list[str], *, max_pixels: int) -> ImageFolder:
    """The validation pictures, in the class ids of the training set.

    Raises:
        UserError: no such folder, or a class that `classes` lacks.
    """
    return open_pictures(data_path / "val", eval_transform(preprocessing), classes=classes, max_pixels=max_pixels)


def find_damaged(datasets: list[ImageFolder], cache_folders: list[Path], *, workers: int, max_pixels: int,
                 progress: Progress | None = None) -> dict[Path, str]:
    """Scan every picture in a file of its own, showing `progress` where it takes a while; the damaged, with the reason.

    The verdicts are remembered in the first of `cache_folders` that can be written.
    """
    cache = next((folder / SCAN_CACHE for folder in cache_folders if os.access(folder, os.W_OK)), None)
    paths = [path for dataset in datasets for path in dataset.files()]
    return scan_images(paths, cache=cache, workers=workers, max_pixels=max_pixels, progress=progress)


def leave_out(datasets: list[ImageFolder], damaged: dict[Path, str], say: Say) -> None:
    """List the damaged pictures by name and reason, and forget them.

    Raises:
        UserError: no picture of a data set can be read.
    """
    for path, reason in damaged.items():
        say(f"left out: {path} ({reason})")
    for dataset in datasets:
        dataset.leave_out(damaged)
        if not len(dataset):
            raise UserError(f"no picture in {dataset.root} that can be read", "at least one", "see the list above")
