"""Datasets of image files that return an unreadable image as a value instead of raising."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from data.images import DEFAULT_MAX_PIXELS, ImageError, Reduction, decode_image
from data.transforms import Transform
from utils import UserError, isolated_random


@dataclass(frozen=True, slots=True)
class Draw:
    """One use of an image: its index in the dataset and the seed of its augmentation."""

    index: int
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One transformed image; where it cannot be read, `image` is None and `reason` says why."""

    index: int
    target: int | torch.Tensor
    image: Any
    reason: str = ""


class Batch(NamedTuple):
    """The readable images of a batch, and the others by index and reason.

    Shapes: `images` (B, 3, S, S) float32, or what the dataset's `stack` makes of them; `targets` (B,) int64, or
    (B, labels) float32 with several labels per image; `indices` (B,) int64.
    """

    images: Any
    targets: torch.Tensor
    indices: torch.Tensor
    failures: list[tuple[int, str]]


class ImageList(Dataset[Sample]):
    """Image files in the order given.

    `dataset[Draw(i, seed)]` transforms with that random seed in any process; `dataset[i]` sets no seed.
    """

    def __init__(self, paths: Sequence[Path], transform: Transform, *, max_pixels: int = DEFAULT_MAX_PIXELS,
                 reduction: Reduction | None = None) -> None:
        """Take the files; none is opened yet.

        `transform` makes the network's input of an RGB image. Images whose header claims more than `max_pixels` count
        as unreadable. `reduction` is that of `decode_image`.
        """
        self.paths, self.transform, self.max_pixels, self.reduction = paths, transform, max_pixels, reduction

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Draw | int) -> Sample:
        number = index.index if isinstance(index, Draw) else index
        target = self.target(number)
        try:
            with isolated_random(index.seed) if isinstance(index, Draw) else contextlib.nullcontext():
                return Sample(number, target, self.prepare(number))
        except ImageError as error:
            return Sample(number, target, None, error.reason)

    def prepare(self, index: int) -> Any:
        """What the network sees of image `index`; raises `ImageError`."""
        return self.transform(self.picture(index))

    @staticmethod
    def stack(images: Sequence[Any]) -> Any:
        """The images of a batch, of what `prepare` returned for each: those of one shape as one tensor."""
        return torch.stack(list(images)) if images else torch.empty(0)

    @staticmethod
    def preview(images: Any) -> torch.Tensor:
        """What people are shown of a batch's `images`, (B, 3, H, W)."""
        return images

    def picture(self, index: int) -> Image.Image:
        """Image `index`, decoded; raises `ImageError`."""
        return decode_image(self.path(index), max_pixels=self.max_pixels, reduction=self.reduction)

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.paths[index]

    def files(self) -> list[Path]:
        """The image files that can be checked before they are needed."""
        return [self.path(index) for index in range(len(self))]

    def is_gone(self, path: Path) -> bool:
        """Whether the file of an image that could not be read is not there."""
        return not path.exists()

    def target(self, index: int) -> int | torch.Tensor:
        """The class of image `index`, or the weights of its labels; 0 in a list without classes."""
        return 0


class LabelledImages(ImageList):
    """Image files with targets, below one folder; damaged files can be left out.

    Attributes:
        root: the folder.
        classes: class or label names, in the order of ids; none of images without labels.
        names: each image's path relative to `root`.
    """

    root: Path
    classes: list[str]
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of image `index`."""
        return self.root / self.names[index]

    def counts(self) -> np.ndarray:
        """Images of each class, (classes,) int64."""
        raise NotImplementedError

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        raise NotImplementedError

    def find_unfit(self) -> dict[Path, str]:
        """The files that can be decoded, but whose labels do not fit them, and the reasons."""
        return {}


def collate(samples: Sequence[Sample], stack: Callable[[Sequence[Any]], Any] = ImageList.stack) -> Batch:
    """Stack the readable samples; list the others as failures."""
    good = [sample for sample in samples if sample.image is not None]
    targets = [torch.as_tensor(sample.target) for sample in good]
    return Batch(stack([sample.image for sample in good]),
                 torch.stack(targets) if targets else torch.empty(0, dtype=torch.int64),
                 torch.tensor([sample.index for sample in good], dtype=torch.int64),
                 [(sample.index, sample.reason) for sample in samples if sample.image is None])


def refill(batch: Batch, size: int) -> Batch:
    """`batch` with its readable images repeated, in order, up to `size`: batch norm needs full batches.

    Raises:
        UserError: no image of the batch can be read.
    """
    found = len(batch.targets)
    if not found:
        raise UserError(f"a batch of which no picture can be read any more ({batch.failures[0][1]})",
                        "the pictures that were there at the start", "check the disk, then go on with --resume auto")
    rows = torch.arange(size) % found
    return batch if found >= size else Batch(batch.images[rows], batch.targets[rows], batch.indices[rows],
                                             batch.failures)


def full_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Regroup batches into batches of `size` readable images; the last one's `images` are padded with zeros.

    A failure comes no later than the readable image that follows it. Indices rise.

    Args:
        batches: of `size` images or fewer, readable or not.
        size: images per batch; a batch without a readable image has none.
    """
    held = collate([])
    for batch in batches:
        held = _join(held, batch)
        if len(held.indices) >= size:
            before = sum(index < int(held.indices[size - 1]) for index, _ in held.failures)
            yield _select(held, slice(size), slice(before))
            held = _select(held, slice(size, None), slice(before, None))
        elif not len(held.indices):
            yield held
            held = collate([])
    if missing := len(held.indices) and size - len(held.indices):
        held = held._replace(images=torch.cat([held.images, held.images.new_zeros(missing, *held.images.shape[1:])]))
    if len(held.indices) or held.failures:
        yield held


def _select(batch: Batch, rows: slice, failures: slice) -> Batch:
    return Batch(batch.images[rows], batch.targets[rows], batch.indices[rows], batch.failures[failures])


def _join(first: Batch, second: Batch) -> Batch:
    """One after the other; a batch without images does not know their shape."""
    failures = first.failures + second.failures
    if not len(first.indices) or not len(second.indices):
        return (first if len(first.indices) else second)._replace(failures=failures)
    images, targets, indices = (torch.cat(parts) for parts in zip(first[:3], second[:3], strict=True))
    return Batch(images, targets, indices, failures)
