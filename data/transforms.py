"""From a decoded image to the network's input, as floats or bytes: the evaluation transform that checkpoints store."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta
from PIL import Image
from timm.data.transforms import str_to_interp_mode, str_to_pil_interp
from torchvision import transforms
from torchvision.transforms.functional import center_crop, five_crop

Transform = Callable[[Image.Image], torch.Tensor]
Channel = Annotated[float, Meta(ge=-1000, le=1000)]
Deviation = Annotated[float, Meta(gt=0, le=1000)]

WHITE = (255, 255, 255)  # colour of padding; transparency is laid over it, too
WIDEST = 4.0  # longest side / shortest side beyond which an image is cut before it is enlarged
MARGIN = 2  # with --draft an image is decoded at this many times the size needed, or more; BENCHMARKS.md has the cost


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What evaluation and inference do to an image; saved in every checkpoint.

    Attributes:
        input_size: side S of the network's square input, px.
        crop_pct: share of the resized short side that the centre crop keeps (`fit` = crop or squash_crop), in [0.2, 1];
            beyond 1, as of few models of timm, the crop has a black border.
        interpolation: bilinear, bicubic, …, as timm names them.
        mean: per channel, of values in [0, 1].
        std: likewise.
        fit: `crop` resizes the short side to S / crop_pct and takes the centre S x S; `pad` resizes the long side to S
            and adds white; `squash` stretches to S x S; `squash_crop`, of some models of timm, stretches to a square of
            side S / crop_pct and takes the centre S x S.
    """

    input_size: Annotated[int, Meta(ge=1, le=4096)]
    crop_pct: Annotated[float, Meta(ge=0.2, le=2)]
    interpolation: Literal["bicubic", "bilinear", "box", "hamming", "lanczos", "nearest"]
    mean: tuple[Channel, Channel, Channel]
    std: tuple[Deviation, Deviation, Deviation]
    fit: Literal["crop", "pad", "squash", "squash_crop"] = "crop"

    @classmethod
    def from_pretrained_cfg(cls, cfg: dict[str, Any], *, input_size: int | None, fit: Any = None) -> Preprocessing:
        """That of a timm `pretrained_cfg`, at its own input size or at `input_size` px, with its own fit or `fit`.

        Raises:
            ValueError: its own fit is timm's `border`, which pads with the mean colour.
        """
        mode = cfg.get("crop_mode") or "center"
        if fit is None and mode == "border":
            raise ValueError("crop_mode border, which only timm has")
        fit = fit or ("crop" if mode == "center" else "squash" if cfg["crop_pct"] == 1 else "squash_crop")
        return cls(input_size=input_size or cfg["input_size"][-1], crop_pct=cfg["crop_pct"], fit=fit,
                   interpolation=cfg["interpolation"], mean=tuple(cfg["mean"]), std=tuple(cfg["std"]))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """The inverse of `as_dict`; raises a `ValueError` for values unknown, of another type or out of range."""
        if unknown := set(values) - {field.name for field in dataclasses.fields(cls)}:
            raise ValueError(f"unknown {min(unknown)!r}")
        return msgspec.convert(values, cls)

    def as_dict(self) -> dict[str, Any]:
        """Plain Python, for checkpoints and JSON."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in dataclasses.asdict(self).items()}

    def as_pretrained_cfg(self) -> dict[str, Any]:
        """The entries of timm's `pretrained_cfg`. What comes nearest to `pad` there pads with the mean colour."""
        is_cropped, size = self.fit in ("crop", "squash_crop"), self.input_size
        return {"input_size": [3, size, size], "crop_pct": self.crop_pct if is_cropped else 1.0,
                "crop_mode": {"crop": "center", "pad": "border"}.get(self.fit, "squash"),
                "interpolation": self.interpolation, "mean": list(self.mean), "std": list(self.std)}


def eval_transform(preprocessing: Preprocessing) -> Transform:
    """RGB image of any shape -> (3, S, S) float32, normalised."""
    return transforms.Compose([fit_square(preprocessing), transforms.ToTensor(),
                               transforms.Normalize(preprocessing.mean, preprocessing.std)])


def fit_square(preprocessing: Preprocessing) -> Callable[[Image.Image], Image.Image]:
    """RGB image of any shape -> the S x S pixels that evaluation uses."""
    size = preprocessing.input_size
    mode = str_to_interp_mode(preprocessing.interpolation)
    if preprocessing.fit == "squash":
        steps = [transforms.Resize((size, size), mode)]
    elif preprocessing.fit == "pad":
        pad = functools.partial(pad_to_square, limit=size, interpolation=preprocessing.interpolation)
        steps = [pad, transforms.Resize((size, size), mode)]
    else:
        side = int(size / preprocessing.crop_pct)
        resize = ([transforms.Resize((side, side), mode)] if preprocessing.fit == "squash_crop"
                  else [cut_extremes, transforms.Resize(side, mode)])
        steps = [*resize, transforms.CenterCrop(size)]
    return transforms.Compose(steps)


def seen_box(preprocessing: Preprocessing, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, upper, right and lower edge, px of a picture of this width and height, of what evaluation sees of it.

    With `pad` the box is larger than the picture.
    """
    width, height = size
    kept = preprocessing.input_size / int(preprocessing.input_size / preprocessing.crop_pct)
    seen = {"crop": (kept * min(size),) * 2, "pad": (float(max(size)),) * 2, "squash": (float(width), float(height)),
            "squash_crop": (kept * width, kept * height)}[preprocessing.fit]
    return ((width - seen[0]) / 2, (height - seen[1]) / 2, (width + seen[0]) / 2, (height + seen[1]) / 2)


# ---- shapes: however long a strip is, what it becomes stays small ----------------------------------------------------


def cut_extremes(image: Image.Image) -> Image.Image:
    """Cut the ends of an image over `WIDEST` times longer than short: enlarged whole, it would fill the memory."""
    limit = int(WIDEST * min(image.size))
    if max(image.size) <= limit:
        return image
    size = [min(image.height, limit), min(image.width, limit)]
    return center_crop(image, size)  # type: ignore[arg-type,return-value]  # its hints know tensors only


def pad_to_square(image: Image.Image, *, limit: int, interpolation: str) -> Image.Image:
    """The whole image in the middle of a white square, whose side is the long side, at most `limit` px."""
    side = min(max(image.size), limit)
    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    square = Image.new("RGB", (side, side), WHITE)
    resized = image.resize((width, height), str_to_pil_interp(interpolation))
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return square


def squash_to_square(image: Image.Image, *, limit: int, interpolation: str) -> Image.Image:
    """The whole image stretched to a square, whose side is the long side, at most `limit` px."""
    side = min(max(image.size), limit)
    return image.resize((side, side), str_to_pil_interp(interpolation))


# ---- bytes: how images travel from where they are decoded to the network ---------------------------------------------


class Views:
    """What inference reads of one image: RGB image of any shape -> (V, S, S, 3) uint8.

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

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """The views of one image, the whole first."""
        views = [self.whole(image)]
        if self.large:
            crops = five_crop(self.large(image), [self.size, self.size])  # type: ignore[arg-type]  # hints: tensors
            views += crops  # type: ignore[arg-type]  # of an image they are images
        return torch.from_numpy(np.stack([np.asarray(view) for view in views]))

    def reduction(self, size: tuple[int, int]) -> int:
        """By what width and height of a JPEG can be divided while it is decoded: 1, 2, 4 or 8.

        Enough pixels remain for resizing, and the resized image has the same shape. Decoders round sizes up; an image
        one pixel narrower would be cropped half a pixel beside.
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
    """Size of the resized image, px; with `crop`, of its long side only."""
    if preprocessing.fit == "pad":
        return tuple(round(length * preprocessing.input_size / max(width, height)) for length in (width, height))
    short_side = int(preprocessing.input_size / preprocessing.crop_pct)
    return (int(short_side * max(width, height) / min(width, height)),)


class Normalise:
    """(B, S, S, 3) uint8 -> (B, 3, S, S), as a network takes them: the values of `eval_transform`, to the last bit.

    Bytes travel between processes and to a GPU in a quarter of the time of floats.
    """

    def __init__(self, preprocessing: Preprocessing, device: torch.device, dtype: torch.dtype = torch.float32,
                 memory_format: torch.memory_format = torch.preserve_format) -> None:
        """Hold mean and standard deviation at full size: they are subtracted five times as fast as broadcast ones.

        The result is on `device`, of this type and format; float32 with the channels innermost where none is given.
        """
        shape = (preprocessing.input_size, preprocessing.input_size, 3)
        self.device, self.dtype, self.memory_format = device, dtype, memory_format
        self.mean, self.std = (torch.tensor(values, device=device).expand(shape).contiguous()
                               for values in (preprocessing.mean, preprocessing.std))

    def __call__(self, pixels_BHWC: torch.Tensor) -> torch.Tensor:
        """The network's input of one view of B pictures."""
        images = pixels_BHWC.to(self.device, non_blocking=True).float().div_(255).sub_(self.mean).div_(self.std)
        return images.permute(0, 3, 1, 2).to(self.dtype, memory_format=self.memory_format)
