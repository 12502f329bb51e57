"""Datasets of image files that return an unreadable image as a value instead of raising."""

from __future__ import annotations

import contextlib
import os
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

    Attributes:
        stack: makes the `images` of a batch from what `prepare` returned for each, one or more.
    """

    stack: Callable[[Any], Any] = staticmethod(torch.stack)

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

    def file_names(self) -> list[str]:
        """The paths of `files` as text: a million of them take a second, as `Path` ten."""
        return [*map(os.fspath, self.files())]

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

    @property
    def layout(self) -> str:
        """Tells tar files that differ in what they hold apart; empty for images on disk."""
        return ""

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        raise NotImplementedError

    def find_unfit(self) -> dict[Path, str]:
        """The files that can be decoded, but whose labels do not fit them, and the reasons."""
        return {}


def collate(samples: Sequence[Sample], stack: Callable[[Any], Any] = torch.stack) -> Batch:
    """Stack the readable samples; list the others as failures."""
    good = [sample for sample in samples if sample.image is not None]
    return Batch(stack([sample.image for sample in good]) if good else torch.empty(0),
                 torch.stack([torch.as_tensor(sample.target) for sample in good]) if good
                 else torch.empty(0, dtype=torch.int64),
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
    held: list[Sample] = []
    for batch in batches:
        if len(batch.indices) == size and not held:
            yield batch
            continue
        held += sorted([*map(Sample, batch.indices.tolist(), batch.targets, batch.images),
                        *(Sample(index, 0, None, reason) for index, reason in batch.failures)],
                       key=lambda sample: sample.index)
        ends = [end for end, sample in enumerate(held, 1) if sample.image is not None]
        if not ends or len(ends) >= size:
            end = ends[size - 1] if ends else len(held)
            yield collate(held[:end])
            held = held[end:]
    if held:
        last = collate(held)
        missing = len(last.indices) and size - len(last.indices)
        padding = last.images.new_zeros(missing, *last.images.shape[1:])
        yield last._replace(images=torch.cat([last.images, padding]))
