"""From a decoded image to the network's input: the evaluation transform, which every checkpoint stores."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
import torch
from msgspec import Meta
from PIL import Image
from timm.data.transforms import str_to_interp_mode, str_to_pil_interp
from torchvision import transforms
from torchvision.transforms.functional import center_crop

Transform = Callable[[Image.Image], torch.Tensor]
Channel = Annotated[float, Meta(ge=-1000, le=1000)]
Deviation = Annotated[float, Meta(gt=0, le=1000)]

WHITE = (255, 255, 255)  # colour of padding; transparency is laid over it, too
WIDEST = 4.0  # longest side / shortest side beyond which an image is cut before it is enlarged


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
