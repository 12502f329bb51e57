"""The views of a picture that the network sees, as bytes: the whole, and crops at twice the size."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import five_crop

from data.transforms import WIDEST, Preprocessing, fit_square

MARGIN = 2  # with --draft a picture is decoded at this many times the size needed, or more; BENCHMARKS.md has the cost


class Views:
    """RGB picture of any shape -> (V, S, S, 3) uint8.

    `default` is the square that evaluation sees, V = 1. `multicrop` adds five crops of the same square at twice the
    size, its quarters and its centre, V = 6.
    """

    def __init__(self, preprocessing: Preprocessing, view: str) -> None:
        """Prepare the views that `view`, `default` or `multicrop`, names."""
        self.size = preprocessing.input_size
        self.whole = fit_square(preprocessing)
        double = dataclasses.replace(preprocessing, input_size=2 * self.size)
        self.large = fit_square(double) if view == "multicrop" else None
        self.preprocessings = [preprocessing, double] if self.large else [preprocessing]

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """The views of one picture, the whole first."""
        views = [self.whole(picture)]
        if self.large:
            crops = five_crop(self.large(picture), [self.size, self.size])  # type: ignore[arg-type]  # hints: tensors
            views += crops  # type: ignore[arg-type]  # of an image they are images
        return torch.from_numpy(np.stack([np.asarray(view) for view in views]))

    def reduction(self, size: tuple[int, int]) -> int:
        """By what width and height of a JPEG can be divided while it is decoded: 1, 2, 4 or 8.

        Enough pixels remain for resizing, and the resized picture has the same shape. Decoders round sizes up; a
        picture one pixel narrower would be cropped half a pixel beside.
        """
        return next((divisor for divisor in (8, 4, 2)
                     if all(_allows(each, size, divisor) for each in self.preprocessings)), 1)


def _allows(preprocessing: Preprocessing, size: tuple[int, int], divisor: int) -> bool:
    reduced = (-(-size[0] // divisor), -(-size[1] // divisor))
    if min(reduced) < MARGIN * int(preprocessing.input_size / preprocessing.crop_pct) or max(size) > WIDEST * min(size):
        return False
    is_stretched = preprocessing.fit in ("squash", "squash_crop")
    return is_stretched or _shape(preprocessing, *size) == _shape(preprocessing, *reduced)


def _shape(preprocessing: Preprocessing, width: int, height: int) -> tuple[int, ...]:
    """Size of the resized picture, px; with `crop`, of its long side only."""
    if preprocessing.fit == "pad":
        return tuple(round(length * preprocessing.input_size / max(width, height)) for length in (width, height))
    short_side = int(preprocessing.input_size / preprocessing.crop_pct)
    return (int(short_side * max(width, height) / min(width, height)),)


class Normalise:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels innermost: the values of `eval_transform`, to the last bit.

    Bytes travel between processes and to a GPU in a quarter of the time of floats.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        """Hold mean and standard deviation at full size: they are subtracted five times as fast as broadcast ones."""
        shape = (preprocessing.input_size, preprocessing.input_size, 3)
        self.mean, self.std = (torch.tensor(values, device=device).expand(shape).contiguous()
                               for values in (preprocessing.mean, preprocessing.std))

    def __call__(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """The network's input of pixels on the device."""
        return pixels_BHWC.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)
