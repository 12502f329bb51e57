"""What training does to a picture and its target: the published recipes on torchvision.transforms.v2.

Letters: H W height and width in px.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detection.scenes import IGNORED, PADDING, SceneTransform, Target, augment

TRIES = 10  # crops of which the last is taken whatever it shows


def detection_augmentation(hflip: float = 0.5) -> SceneTransform:
    """Mirrors that share of the pictures."""
    return augment([v2.RandomHorizontalFlip(hflip)])


def segmentation_augmentation(side: int, hflip: float = 0.5, most: float = 0.75) -> SceneTransform:
    """A crop of `side` px in which no class has more than the share `most`, mirrored or not, in other colours."""
    after = augment([v2.RandomHorizontalFlip(hflip), v2.RandomPhotometricDistort(p=0.5)])

    def run(image: Tensor, target: Target) -> tuple[Tensor, Target]:
        return after(*random_crop(image, target["pixels"], side, most))

    return run


def random_crop(image: Tensor, pixels: Tensor, side: int, most: float) -> tuple[Tensor, Target]:
    """A part of picture (3, H, W) and label map (H, W) of `side` px, padded right and below where they are smaller."""
    rows, columns = _random_window(pixels, side)
    for _ in range(TRIES - 1):
        if _highest_share(pixels[rows, columns]) <= most:
            break
        rows, columns = _random_window(pixels, side)
    part = pixels[rows, columns]
    missing = [0, 0, side - part.shape[1], side - part.shape[0]]
    return (F.pad(image[:, rows, columns], missing, fill=list(PADDING)),
            {"pixels": F.pad(part[None], missing, fill=IGNORED)[0]})


def _random_window(pixels: Tensor, side: int) -> tuple[slice, slice]:
    top, left = (int(torch.randint(max(1, length - side + 1), ())) for length in pixels.shape)
    return slice(top, top + side), slice(left, left + side)


def _highest_share(pixels: Tensor) -> float:
    counts = pixels.flatten().bincount(minlength=IGNORED + 1)[:IGNORED]
    return float(counts.max() / counts.sum().clamp(min=1))
