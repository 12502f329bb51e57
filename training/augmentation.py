"""Augmentation of training images, and mixing of batches, as `AugmentationOptions` ask for them.

A new augmentation flag is declared in `AugmentationOptions` (runtime/options.py) and takes effect here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import torch
from PIL import Image, ImageOps
from timm.data.transforms_factory import create_transform
from torchvision import transforms
from torchvision.transforms import v2

from data.transforms import Preprocessing, Transform, pad_to_square, squash_to_square
from losses import presence_and_shares
from runtime.options import AugmentationOptions
from utils import UserError

Mix = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]  # images, targets -> both, mixed

LARGEST = 4  # input sizes on the side of a training image made square: 1/16 of its area is still a full-size crop
POLICIES = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a")  # what timm's names begin with
POSTERIZE = ("Posterize", "PosterizeIncreasing", "PosterizeOriginal")


def train_transform(preprocessing: Preprocessing, options: AugmentationOptions) -> Transform:
    """RGB image of any shape -> (3, S, S) float32, cropped, mirrored, jittered and normalised at random.

    Draws from the global generators of Python, NumPy and torch, so `utils.isolated_random` decides what comes out.

    Raises:
        UserError: timm has no such automatic augmentation.
    """
    try:
        created = create_transform(
            preprocessing.input_size, is_training=True, scale=options.scale, ratio=options.ratio, hflip=options.hflip,
            color_jitter=options.color_jitter or None,  # type: ignore[arg-type]  # timm's hint lacks None: no jitter
            auto_augment=None if options.aa == "none" else options.aa, re_prob=options.reprob,
            interpolation=preprocessing.interpolation, mean=preprocessing.mean, std=preprocessing.std)
    except (AssertionError, ValueError) as error:
        raise UserError(f"--aa {options.aa} ({error})", f"none, or one of timm's: {', '.join(POLICIES)}",
                        "for example --aa rand-m9-mstd0.5-inc1") from error
    augment = cast(transforms.Compose, created)  # one transform, because it is not asked for separate ones
    _correct_posterize(augment)
    if preprocessing.fit == "crop":
        return augment
    square = pad_to_square if preprocessing.fit == "pad" else squash_to_square
    limit = LARGEST * preprocessing.input_size
    return transforms.Compose([functools.partial(square, limit=limit, interpolation=preprocessing.interpolation),
                               augment])


def _correct_posterize(augment: transforms.Compose) -> None:
    """At its strongest level timm 1.0.31 asks for 0 bits, which Pillow 13 refuses (and 12 answered with black)."""
    for step in augment.transforms:
        # RandAugment and AugMix have operations, AutoAugment has lists of them.
        for operations in [getattr(step, "ops", []), *getattr(step, "policy", [])]:
            for operation in operations:
                if operation.name in POSTERIZE:
                    operation.aug_fn = _posterize


def _posterize(image: Image.Image, bits: int, **_: object) -> Image.Image:
    return ImageOps.posterize(image, max(1, bits)) if bits < 8 else image


def make_mix(options: AugmentationOptions, num_classes: int) -> Mix | None:
    """Mixup and cutmix: images (B, 3, S, S), targets -> mixed images, (B, num_classes) float; None if both are off.

    Targets are classes, (B,) int64, or rows (B, num_classes), which are mixed like the images.
    """
    mixes = ([(v2.MixUp(alpha=options.mixup, num_classes=num_classes), 1 - options.mixup_switch_prob)]
             if options.mixup else [])
    mixes += ([(v2.CutMix(alpha=options.cutmix, num_classes=num_classes), options.mixup_switch_prob)]
              if options.cutmix else [])
    if not mixes:
        return None
    choice = v2.RandomChoice([mix for mix, _ in mixes], p=[share for _, share in mixes] if len(mixes) > 1 else None)

    def mix(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if torch.rand(()) >= options.mixup_prob:
            rows = torch.nn.functional.one_hot(targets, num_classes) if targets.ndim == 1 else targets
            return images, rows.to(images.dtype)
        return choice(images, targets)

    return mix


def make_multilabel_mix(options: AugmentationOptions, num_labels: int) -> Mix | None:
    """As `make_mix`, from weights (B, labels) to presence and shares, each mixed, (B, 2, labels)."""
    mix = make_mix(options, 2 * num_labels)
    return mix and mix_presence_and_shares(mix)


def mix_presence_and_shares(mix: Mix) -> Mix:
    """From a `mix` of rows of targets to one from weights (B, labels) to presence and shares (B, 2, labels)."""

    def mix_both(images: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, rows = mix(images, torch.cat(presence_and_shares(weights), 1))
        return images, rows.unflatten(1, (2, -1))

    return mix_both
