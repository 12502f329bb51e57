"""Pictures by path, as a data set that reports a picture it cannot read instead of failing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.utils.data import Dataset

from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_image
from data.transforms import Transform
from utils import UserError, isolated_random


class Draw(NamedTuple):
    """One use of a picture: its place in the data set and the seed of its augmentation."""

    index: int
    seed: int


class Sample(NamedTuple):
    """One picture as the network sees it; `image` is None and `reason` says why when it could not be read."""

    index: int
    target: int | torch.Tensor
    image: torch.Tensor | None
    reason: str = ""


class Batch(NamedTuple):
    """The readable pictures of a batch, and the others by index and reason.

    Shapes: `images` (B, 3, S, S) float32, `targets` (B,) int64, or (B, labels) float32 where a picture has several,
    `indices` (B,) int64.
    """

    images: torch.Tensor
    targets: torch.Tensor
    indices: torch.Tensor
    failures: list[tuple[int, str]]


class ImageList(Dataset):
    """Picture files in the order given.

    `dataset[Draw(i, seed)]` augments by that seed whichever process asks; `dataset[i]` takes the transform as it is.
    """

    def __init__(self, paths: Sequence[Path], transform: Transform, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        """Take the files as they are; none is opened yet.

        Args:
            paths: picture files.
            transform: from an RGB picture to the network's input.
            max_pixels: pictures whose header claims more are unreadable.
        """
        self.paths, self.transform, self.max_pixels = paths, transform, max_pixels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, key: Draw | int) -> Sample:
        index = key.index if isinstance(key, Draw) else key
        target = self.target(index)
        try:
            picture = self.picture(index)
        except ImageError as error:
            return Sample(index, target, None, error.reason)
        if isinstance(key, Draw):
            with isolated_random(key.seed):
                return Sample(index, target, self.transform(picture))
        return Sample(index, target, self.transform(picture))

    def picture(self, index: int) -> Image.Image:
        """Picture `index`, decoded; raises `ImageError`."""
        return decode_image(self.path(index), max_pixels=self.max_pixels)

    def path(self, index: int) -> Path:
        """The file of picture `index`."""
        return self.paths[index]

    def files(self) -> list[Path]:
        """The picture files that a scan can open before they are needed."""
        return [self.path(index) for index in range(len(self))]

    def target(self, index: int) -> int | torch.Tensor:
        """The class of picture `index`, or the weights of its labels; 0 in a list without classes."""
        return 0


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack what could be read; a failure stays a value beside it."""
    good = [sample for sample in samples if sample.image is not None]
    images = torch.stack([sample.image for sample in good]) if good else torch.empty(0)
    targets = [torch.as_tensor(sample.target) for sample in good]
    return Batch(images, torch.stack(targets) if good else torch.empty(0, dtype=torch.int64),
                 torch.tensor([sample.index for sample in good], dtype=torch.int64),
                 [(sample.index, sample.reason) for sample in samples if sample.image is None])


def refill(batch: Batch, size: int) -> Batch:
    """`batch` with its readable pictures repeated, in order, until there are `size`; batch norm needs its company.

    Raises:
        UserError: none can be read, so the pictures as a whole must have gone.
    """
    found = len(batch.targets)
    if not found:
        raise UserError(f"a batch of which no picture can be read any more ({batch.failures[0][1]})",
                        "the pictures that were there at the start", "check the disk, then go on with --resume auto")
    rows = torch.arange(size) % found
    return batch if found >= size else Batch(batch.images[rows], batch.targets[rows], batch.indices[rows],
                                             batch.failures)


def full_batches(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """The same pictures with `size` readable ones in each batch; the last one's images are filled up with zeros.

    A failure comes with the readable picture that follows it, or before it. Indices rise.

    Args:
        batches: of `size` pictures or fewer, readable or not.
        size: images of a batch; one of which no picture could be read has none.
    """
    held = collate([])
    for batch in batches:
        held = _joined(held, batch)
        if len(held.indices) >= size:
            before = sum(index < held.indices[size - 1] for index, _ in held.failures)
            yield Batch(*(part[:size] for part in held[:3]), held.failures[:before])
            held = Batch(*(part[size:] for part in held[:3]), held.failures[before:])
        elif not len(held.indices):
            yield held
            held = collate([])
    if missing := len(held.indices) and size - len(held.indices):
        held = held._replace(images=torch.cat([held.images, held.images.new_zeros(missing, *held.images.shape[1:])]))
    if len(held.indices) or held.failures:
        yield held


def _joined(first: Batch, second: Batch) -> Batch:
    """One after the other; a batch without pictures does not know their shape."""
    if len(first.indices) and len(second.indices):
        both = Batch(*(torch.cat(parts) for parts in zip(first[:3], second[:3], strict=True)), [])
    else:
        both = first if len(first.indices) else second
    return both._replace(failures=first.failures + second.failures)
