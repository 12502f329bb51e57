"""What inference looks at in one picture, as bytes: the whole, and crops of it at twice the size."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.functional import five_crop

from data.image_list import ImageList
from data.images import decode_image
from data.shapes import WIDEST
from data.transforms import Preprocessing, fit_square

VIEWS = ("default", "multicrop")
MARGIN = 2  # how many times larger than needed a picture may come from its decoder: resizing then hides the difference


class Views:
    """RGB picture of any shape -> (V, S, S, 3) uint8.

    `default` is what evaluation sees, V = 1. `multicrop` adds the same square at twice the size, cut into its four
    quarters and its centre, V = 6.

    """

    def __init__(self, preprocessing: Preprocessing, view: str) -> None:
        """Look at pictures as `preprocessing` says, from each of the angles that `view` names."""
        self.size = preprocessing.input_size
        self.whole = fit_square(preprocessing)
        double = dataclasses.replace(preprocessing, input_size=2 * self.size)
        self.large = fit_square(double) if view == "multicrop" else None
        self.seen = [preprocessing, double] if self.large else [preprocessing]

    def __call__(self, picture: Image.Image) -> torch.Tensor:
        """The views of one picture, the whole first."""
        views = [self.whole(picture)]
        if self.large:
            views += five_crop(self.large(picture), [self.size, self.size])
        return torch.from_numpy(np.stack([np.asarray(view) for view in views]))


    def reduction(self, size: tuple[int, int]) -> int:
        """By what a JPEG of that width and height may be divided while it is decoded: 1, 2, 4 or 8.

        Enough is left for resizing, and what is left has the same shape once it is resized: sizes are rounded up when
        they are divided, and a picture that comes out one pixel narrower is cropped half a pixel beside.
        """
        return next((divisor for divisor in (8, 4, 2) if all(_same(how, size, divisor) for how in self.seen)), 1)


def _same(how: Preprocessing, size: tuple[int, int], divisor: int) -> bool:
    left = [-(-length // divisor) for length in size]
    if min(left) < MARGIN * int(how.input_size / how.crop_pct) or max(size) > WIDEST * min(size):
        return False
    return how.fit == "squash" or _shape(how, *size) == _shape(how, *left)


def _shape(how: Preprocessing, width: int, height: int) -> tuple[int, ...]:
    if how.fit == "pad":
        return tuple(round(length * how.input_size / max(width, height)) for length in (width, height))
    return (int(int(how.input_size / how.crop_pct) * max(width, height) / min(width, height)),)


class Normalise:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32, channels innermost: the values of `eval_transform`, to the last bit.

    Bytes travel between processes and to a GPU in a quarter of the time of floats.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        """Hold mean and standard deviation for whole pictures: so they are subtracted five times as fast."""
        shape = (preprocessing.input_size, preprocessing.input_size, 3)
        self.mean, self.std = (torch.tensor(values, device=device).expand(shape).contiguous()
                               for values in (preprocessing.mean, preprocessing.std))

    def __call__(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """The network's input of pixels on the device."""
        return pixels_BHWC.float().div_(255).sub_(self.mean).div_(self.std).permute(0, 3, 1, 2)


class ViewList(ImageList):
    """Picture files in the order given, each as its views."""

    def __init__(self, paths: Sequence[Path], views: Views, *, max_pixels: int, draft: bool) -> None:
        """Take the files as they are; with `draft`, JPEGs are decoded as small as the views allow."""
        super().__init__(paths, views, max_pixels=max_pixels)
        self.reduction = views.reduction if draft else None

    def picture(self, index: int) -> Image.Image:
        """Picture `index`, decoded; raises `ImageError`."""
        return decode_image(self.path(index), max_pixels=self.max_pixels, reduction=self.reduction)
