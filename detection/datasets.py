"""Datasets for dense tasks: pictures with COCO's annotations, and pictures with label maps in ADE20K's layout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from data.image_list import LabelledImages
from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_labels, picture_size
from data.names import as_text, line_problem, nfc
from data.picture_files import find_pictures
from data.side_files import read_text, split_lines
from detection.coco import AnnotatedPicture, CocoSet
from detection.masks import unpack
from detection.scenes import IGNORED, Fit, Scene, Scenes, SceneTransform, Target, no_change
from utils import UserError, counted

MOST_CLASSES = IGNORED  # of label maps, whose numbers have 8 bits
SMALLEST = 0.01  # px: boxes that are narrower in the network's picture are not trained
PREVIEW = 128
NAMES = "classes.txt"
NAMED = 10


class DenseImages(LabelledImages):
    """Pictures of any size with targets.

    Attributes:
        fit: how large the network sees them.
        augmentation: of picture and target, which have that size then.
    """

    stack = Scenes

    def __init__(self, root: Path, names: Sequence[str], classes: Sequence[str], fit: Fit, *,
                 augmentation: SceneTransform = no_change, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        super().__init__((), F.pil_to_tensor, max_pixels=max_pixels)
        self.root, self.names, self.classes = root, list(names), list(classes)
        self.fit, self.augmentation = fit, augmentation

    def target(self, index: int) -> int:
        """The picture's number, by which evaluation finds what is true."""
        return index

    @staticmethod
    def preview(images: Any) -> Tensor:
        """The first sixteen scenes, each in a square of `PREVIEW` px."""
        return torch.stack([F.resize(scene.image, [PREVIEW, PREVIEW]) for scene in list(images)[:16]]).float() / 255

    def prepare(self, index: int) -> Scene:
        """The picture and its target; raises `ImageError`, also where its annotations do not fit it."""
        image = super().prepare(index)
        size = image.shape[1], image.shape[2]
        seen = self.fit.size(*size)
        target = self.make_target(index, size, seen)
        image, target = self.augmentation(F.resize(image, list(seen)), target)
        return Scene(image=image, size=size, target=target)

    def make_target(self, index: int, size: tuple[int, int], seen: tuple[int, int]) -> Target:
        """What is in picture `index` of this height and width, in one of the height and width `seen`, all in px."""
        raise NotImplementedError

    def find_unfit(self) -> dict[Path, str]:
        """The pictures whose annotations are those of another one, by size, or have unknown numbers."""
        with ThreadPoolExecutor() as threads:
            reasons = threads.map(self._unfit, range(len(self)))
            return {self.path(index): reason for index, reason in enumerate(reasons) if reason}

    def _unfit(self, index: int) -> str:
        try:
            self.check(index, picture_size(self.path(index)))
        except ImageError as error:
            return error.reason
        return ""

    def check(self, index: int, size: tuple[int, int]) -> None:
        """Raise an `ImageError` unless the annotations of picture `index` are those of one of this height and width."""
        raise NotImplementedError


class DetectionImages(DenseImages):
    """Pictures with boxes, and masks where the annotations have them."""

    def __init__(self, coco: CocoSet, root: Path, fit: Fit, *, augmentation: SceneTransform = no_change,
                 max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        super().__init__(root, [picture.name for picture in coco.pictures], coco.classes, fit,
                         augmentation=augmentation, max_pixels=max_pixels)
        self.pictures, self.category_ids, self.has_masks = list(coco.pictures), coco.category_ids, coco.has_masks

    def counts(self) -> np.ndarray:
        """Objects of each class, (classes,) int64; crowd regions do not count."""
        labels = [each.label for picture in self.pictures for each in picture.instances if not each.is_crowd]
        return np.bincount(np.array(labels, np.int64), minlength=len(self.classes))

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        keep = [path not in damaged for path in self.files()]
        self.pictures, self.names = list(compress(self.pictures, keep)), list(compress(self.names, keep))

    def check(self, index: int, size: tuple[int, int]) -> None:
        """Raise an `ImageError` unless the annotations have this height and width."""
        picture = self.pictures[index]
        if (picture.height, picture.width) != size:
            raise ImageError(self.path(index), f"{size[1]}x{size[0]} px, but {picture.width}x{picture.height} in its "
                                               f"annotations (image {picture.id})")

    def make_target(self, index: int, size: tuple[int, int], seen: tuple[int, int]) -> Target:
        """`boxes`, `labels` and `masks` of all objects but crowd regions."""
        self.check(index, size)
        picture = self.pictures[index]
        objects = [each for each in picture.instances if not each.is_crowd]
        boxes = clip(torch.tensor([each.box for each in objects]).reshape(-1, 4), size)
        boxes *= torch.tensor([seen[1] / size[1], seen[0] / size[0]]).repeat(2)
        keep = (boxes[:, 2:] - boxes[:, :2] >= SMALLEST).all(1)
        labels = torch.tensor([each.label for each in objects], dtype=torch.int64)
        target = {"boxes": boxes[keep], "labels": labels[keep]}
        if self.has_masks:
            masks = [_resized_mask(each.mask, picture, seen)  # one at a time: a page of them would fill the memory
                     for each, kept in zip(objects, keep, strict=True) if kept and each.mask is not None]
            target["masks"] = torch.cat([torch.zeros(0, *seen, dtype=torch.uint8), *masks])
        return target


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) of left, top, width and height -> left, top, right, bottom inside a picture of height and width."""
    corners = torch.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).clamp(min=0)
    return corners.minimum(torch.tensor([size[1], size[0]])).flatten(1)


def _resized_mask(mask: bytes, picture: AnnotatedPicture, seen: tuple[int, int]) -> Tensor:
    pixels = torch.from_numpy(unpack(mask, picture.height, picture.width))[None]
    return F.resize(pixels, list(seen), InterpolationMode.NEAREST)


# ---- label maps ------------------------------------------------------------------------------------------------------


class SegmentationImages(DenseImages):
    """Pictures with label maps.

    Attributes:
        maps: the files of the label maps.
        shift: whether 0 stands for no class and the classes begin at 1, as in ADE20K; else they begin at 0.
    """

    def __init__(self, root: Path, names: Sequence[str], maps: Sequence[Path], classes: Sequence[str], fit: Fit, *,
                 shift: bool = True, augmentation: SceneTransform = no_change,
                 max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        super().__init__(root, names, classes, fit, augmentation=augmentation, max_pixels=max_pixels)
        self.maps, self.shift = list(maps), shift

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these pictures; the others keep their order."""
        keep = [path not in damaged for path in self.files()]
        self.maps, self.names = list(compress(self.maps, keep)), list(compress(self.names, keep))

    def counts(self) -> np.ndarray:
        """One for each class: label maps are not read before they are needed."""
        return np.ones(len(self.classes), np.int64)

    def check(self, index: int, size: tuple[int, int]) -> None:
        """Raise an `ImageError` unless the label map has this height and width, and no unknown number."""
        self.labels(index, size)

    def labels(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The classes of the pixels of picture `index`, (H, W) uint8, with `IGNORED`; raises `ImageError`."""
        path = self.maps[index]
        try:
            numbers = decode_labels(path, max_pixels=self.max_pixels)
        except ImageError as error:
            raise ImageError(self.path(index), f"label map {path.name}: {error.reason}") from error
        if numbers.shape != size:
            raise ImageError(self.path(index), f"{size[1]}x{size[0]} px, but label map {path.name} has "
                                               f"{numbers.shape[1]}x{numbers.shape[0]}")
        first = int(self.shift)
        unused = (numbers == IGNORED) | (numbers < first)
        if (unknown := np.unique(numbers[~unused & (numbers >= len(self.classes) + first)])).size:
            raise ImageError(self.path(index), f"label map {path.name} with the unknown "
                                               f"{', '.join(map(str, unknown[:NAMED].tolist()))} (of {first} to "
                                               f"{len(self.classes) + first - 1})")
        return np.where(unused, IGNORED, numbers - first).astype(np.uint8)

    def make_target(self, index: int, size: tuple[int, int], seen: tuple[int, int]) -> Target:
        """`pixels`, each of the nearest one's class."""
        pixels = torch.from_numpy(self.labels(index, size))[None]
        return {"pixels": F.resize(pixels, list(seen), InterpolationMode.NEAREST)[0]}


def open_ade20k(root: Path, side: str, fit: Fit, *, classes: Sequence[str] | None = None, shift: bool = True,
                augmentation: SceneTransform = no_change,
                max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[SegmentationImages, list[str]]:
    """The pictures of `root`/images/`side` that have a PNG in `root`/annotations/`side`; lines for the log.

    `side` is `training` or `validation`; the other arguments are those of `SegmentationImages`.

    Raises:
        UserError: such a folder is missing, no picture has a label map, or see `read_names`.
    """
    folder, maps = root / "images" / side, root / "annotations" / side
    if not maps.is_dir():
        raise UserError(f"no folder {maps}", f"images/{side} and annotations/{side}, as in ADE20K", "check --data-path")
    found = find_pictures(folder)
    names = found.names
    paths = [maps / Path(name).with_suffix(".png") for name in names]
    there = [path.is_file() for path in paths]
    unused = {path.relative_to(maps).as_posix() for path in maps.rglob("*.png")} - {
        path.relative_to(maps).as_posix() for path in paths}
    lines = [_some(f"without a label map in {maps}: not used", list(compress(names, [not each for each in there]))),
             _some(f"label maps in {maps} without a picture: not used", sorted(unused))]
    if not any(there):
        raise UserError(f"no picture in {folder} with a label map in {maps}", "PNGs of the pictures' names",
                        "check --data-path")
    dataset = SegmentationImages(folder, list(compress(names, there)), list(compress(paths, there)),
                                 read_names(root) if classes is None else classes, fit, shift=shift,
                                 augmentation=augmentation, max_pixels=max_pixels)
    return dataset, [*found.report(), *filter(None, lines)]


def _some(what: str, names: Sequence[str]) -> str:
    """A line that names the first; empty without names."""
    more = ", …" if len(names) > NAMED else ""
    return f"{len(names)} {what}: {', '.join(map(as_text, names[:NAMED]))}{more}" if names else ""


def read_names(root: Path) -> list[str]:
    """The classes in `root`/classes.txt, one a line, or in the column Name of ADE20K's objectInfo*.txt.

    Raises:
        UserError: there is no such file, or it names none, too many, one twice, or one that is no line of text.
    """
    tables = sorted(root.glob("objectInfo*.txt"))
    path = root / NAMES if (root / NAMES).is_file() or not tables else tables[0]
    expected = f"{NAMES} with one class a line, in the order of the label maps' numbers, or ADE20K's objectInfo150.txt"
    lines = [line for line in split_lines(read_text(path, expected=expected, action="add it")) if line.strip()]
    names = [nfc(line.strip()) for line in lines]
    if path.name != NAMES:
        rows = [line.split("\t") for line in lines]
        place = rows[0].index("Name") if rows and "Name" in rows[0] else -1
        if place < 0 or any(len(row) <= place for row in rows):
            raise UserError(f"{path} without a column Name", expected, "correct the file")
        names = [nfc(row[place].strip()) for row in rows[1:]]
    if not 1 <= len(names) <= MOST_CLASSES:
        raise UserError(f"{path} with {counted(len(names), 'class')}", f"1 to {MOST_CLASSES}", "correct the file")
    if len(set(names)) < len(names) or any(map(line_problem, names)):
        raise UserError(f"{path}, where a name comes twice or holds control characters", "each once, on one line",
                        "correct the file")
    return names
