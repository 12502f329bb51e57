"""From a decoded picture to the network's input: the evaluation transform a checkpoint remembers, and augmentation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import auto_augment
from timm.data.transforms import str_to_interp_mode
from timm.data.transforms_factory import create_transform
from torchvision import transforms
from torchvision.transforms import v2

from data.shapes import cut_extremes, pad_to_square, squash_to_square
from utils import UserError

Transform = Callable[[Image.Image], torch.Tensor]
Mix = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

LARGEST = 4  # input sizes on the side of a training picture made square: 1/16 of its area is still a full-size crop
POLICIES = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a")  # what timm's names begin with


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits)) if bits < 8 else image


# At its strongest level timm 1.0.31 asks for 0 bits, which Pillow 13 refuses (and 12 answered with a black picture).
auto_augment.NAME_TO_OP |= {name: _posterize for name in ("Posterize", "PosterizeIncreasing", "PosterizeOriginal")}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What evaluation and inference do to a picture; saved in every checkpoint.

    Attributes:
        input_size: side S of the network's square input, px.
        crop_pct: share of the resized short side that the centre crop keeps (`fit` = crop), in (0, 1].
        interpolation: bilinear, bicubic, …, as timm names them.
        mean: per channel, of values in [0, 1].
        std: likewise.
        fit: `crop` resizes the short side to S / crop_pct and takes the centre S x S; `pad` resizes the long side to S
            and adds white; `squash` stretches to S x S.
    """

    input_size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = "crop"

    @classmethod
    def from_pretrained_cfg(cls, cfg: dict[str, Any], *, input_size: int | None, fit: str) -> Preprocessing:
        """That of a timm `pretrained_cfg`, at its own input size or at `input_size` px."""
        return cls(input_size=input_size or cfg["input_size"][-1], crop_pct=cfg["crop_pct"], fit=fit,
                   interpolation=cfg["interpolation"], mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `as_dict`."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain Python, for checkpoints and JSON."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What training does to a picture; every value as timm's `create_transform` takes it.

    Attributes:
        scale: smallest and largest share of the picture's area in a random crop.
        ratio: smallest and largest aspect ratio of it.
        hflip: probability of a mirror image.
        color_jitter: strength for brightness, contrast and saturation.
        aa: policy of timm's automatic augmentation, or `none`.
        reprob: probability of random erasing.
    """

    scale: tuple[float, float]
    ratio: tuple[float, float]
    hflip: float
    color_jitter: float
    aa: str
    reprob: float


def fit_square(preprocessing: Preprocessing) -> Callable[[Image.Image], Image.Image]:
    """RGB picture of any shape -> the S x S pixels that evaluation looks at."""
    size = preprocessing.input_size
    mode = str_to_interp_mode(preprocessing.interpolation)
    if preprocessing.fit == "squash":
        shape = [transforms.Resize((size, size), mode)]
    elif preprocessing.fit == "pad":
        pad = functools.partial(pad_to_square, limit=size, interpolation=preprocessing.interpolation)
        shape = [pad, transforms.Resize((size, size), mode)]
    else:
        short_side = int(size / preprocessing.crop_pct)
        shape = [cut_extremes, transforms.Resize(short_side, mode), transforms.CenterCrop(size)]
    return transforms.Compose(shape)


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """RGB picture of any shape -> (3, S, S) float32, normalised."""
    return transforms.Compose([fit_square(preprocessing), transforms.ToTensor(),
                               transforms.Normalize(preprocessing.mean, preprocessing.std)])


def train_transform(preprocessing: Preprocessing, augmentation: Augmentation) -> Transform:
    """RGB picture of any shape -> (3, S, S) float32, cropped, mirrored, jittered and normalised at random.

    Draws from the global generators of Python, NumPy and torch, so `utils.isolated_random` decides what comes out.

    Raises:
        UserError: timm has no such automatic augmentation.
    """
    try:
        augment = create_transform(
            preprocessing.input_size, is_training=True, scale=augmentation.scale, ratio=augmentation.ratio,
            hflip=augmentation.hflip, color_jitter=augmentation.color_jitter or None, re_prob=augmentation.reprob,
            auto_augment=None if augmentation.aa == "none" else augmentation.aa,
            interpolation=preprocessing.interpolation, mean=preprocessing.mean, std=preprocessing.std)
    except (AssertionError, ValueError) as error:
        raise UserError(f"--aa {augmentation.aa} ({error})", f"none, or one of timm's: {', '.join(POLICIES)}",
                        "for example --aa rand-m9-mstd0.5-inc1") from error
    if preprocessing.fit == "crop":
        return augment
    square = {"pad": pad_to_square, "squash": squash_to_square}[preprocessing.fit]
    limit = LARGEST * preprocessing.input_size
    return transforms.Compose([functools.partial(square, limit=limit, interpolation=preprocessing.interpolation),
                               augment])


def make_mix(num_classes: int, *, mixup: float, cutmix: float, prob: float, switch_prob: float) -> Mix | None:
    """Mixup and cutmix of a batch: (B, 3, S, S), targets -> the same pictures mixed, (B, num_classes) float.

    Targets are classes, (B,) int64, or rows (B, num_classes) of whatever is mixed as the pictures are.

    Args:
        num_classes: columns of the shares.
        mixup: alpha of mixup; 0 turns it off.
        cutmix: alpha of cutmix; 0 turns it off.
        prob: probability that a batch is mixed at all.
        switch_prob: probability of cutmix where both are on.
    """
    mixes = ([(v2.MixUp(alpha=mixup, num_classes=num_classes), 1 - switch_prob)] if mixup else []) + (
        [(v2.CutMix(alpha=cutmix, num_classes=num_classes), switch_prob)] if cutmix else [])
    if not mixes:
        return None
    choice = v2.RandomChoice([mix for mix, _ in mixes], p=[share for _, share in mixes] if len(mixes) > 1 else None)

    def mix(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.rand(()) >= prob:
            whole = torch.nn.functional.one_hot(targets, num_classes) if targets.ndim == 1 else targets
            return images, whole.to(images.dtype)
        return choice(images, targets)

    return mix
