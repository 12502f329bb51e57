"""What pictures meet on the web, in five strengths each, and whole data sets of it."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from data.image_folder import ImageFolder
from data.images import EXTENSION_FORMATS, ImageError, decode_image
from data.worker_pool import Progress, map_ordered
from utils import mix_seed

STRENGTHS = (1, 2, 3, 4, 5)
QUALITY = 95  # of the JPEG files that are written
Corrupt = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def _jpeg(image: Image.Image, quality: float, generator: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=int(quality))
    return decode_image("recompressed", content=file.getvalue())


def _rescale(image: Image.Image, short_side: float, generator: np.random.Generator) -> Image.Image:
    share = min(1.0, short_side / min(image.size))
    small = image.resize([max(1, round(side * share)) for side in image.size], Image.Resampling.BICUBIC, reducing_gap=3)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def _blur(image: Image.Image, radius: float, generator: np.random.Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


def _noise(image: Image.Image, deviation: float, generator: np.random.Generator) -> Image.Image:
    values = np.asarray(image, dtype=np.float64)
    values = values + 255 * deviation * generator.standard_normal(values.shape)
    return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))


def _brightness(image: Image.Image, factor: float, generator: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor if generator.random() < 0.5 else 1 / factor)


def _contrast(image: Image.Image, factor: float, generator: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


# Name -> what it does, and its five strengths: JPEG quality; px of the short side in between; px of the blur's standard
# deviation; the noise's as a share of the range; factors of brightness (up or down) and of contrast.
CORRUPTIONS: dict[str, tuple[Corrupt, tuple[float, ...]]] = {
    "jpeg": (_jpeg, (50, 30, 20, 12, 7)),
    "rescale": (_rescale, (160, 112, 80, 56, 40)),
    "blur": (_blur, (0.8, 1.3, 2.0, 3.0, 4.5)),
    "noise": (_noise, (0.04, 0.07, 0.11, 0.17, 0.25)),
    "brightness": (_brightness, (1.25, 1.5, 1.9, 2.4, 3.2)),
    "contrast": (_contrast, (0.7, 0.5, 0.35, 0.22, 0.12)),
}


def corrupt(image: Image.Image, kind: str, strength: int, *, seed: int) -> Image.Image:
    """A picture of the same size as `image` (RGB), harder to read.

    Args:
        image: strengths are meant for short sides of about 256 px.
        kind: a key of `CORRUPTIONS`.
        strength: 1 to 5. The same seed gives all strengths the same noise and the same direction.
        seed: of what is left to chance.
    """
    operation, levels = CORRUPTIONS[kind]
    return operation(image, levels[strength - 1], np.random.default_rng(seed))


@dataclass(frozen=True, kw_only=True)
class Corrupting:
    """What becomes of each picture.

    Attributes:
        kinds: keys of `CORRUPTIONS`.
        short_side: pictures are reduced to it first, px; smaller ones stay as they are.
        seed: with a picture's name it decides all that is left to chance.
        max_pixels: pictures with more are not decoded, px.
    """

    kinds: Sequence[str]
    short_side: int
    seed: int
    max_pixels: int


def write_corrupted(folder: Path, pictures: ImageFolder, how: Corrupting, *, workers: int,
                    progress: Progress | None = None) -> dict[str, str]:
    """Write every picture to `folder`/<kind>/<strength>/val/<class>/; the names of those that cannot be read, and why.

    The files are JPEG; a name that promises another format gets a second extension.
    """
    write = functools.partial(_write_one, folder=folder, root=pictures.root, how=how)
    reasons = map_ordered(write, pictures.names, workers=workers, progress=progress)
    return {name: reason for name, reason in zip(pictures.names, reasons, strict=True) if reason}


def _write_one(name: str, folder: Path, root: Path, how: Corrupting) -> str | None:
    try:
        image = decode_image(root / name, max_pixels=how.max_pixels)
    except ImageError as error:
        return error.reason
    share = min(1.0, how.short_side / min(image.size))
    image = image.resize([max(1, round(side * share)) for side in image.size], Image.Resampling.LANCZOS)
    written = name if EXTENSION_FORMATS[Path(name).suffix.lower()] == "JPEG" else f"{name}.jpg"
    for place, kind in enumerate(CORRUPTIONS):
        for strength in STRENGTHS if kind in how.kinds else ():
            seed = mix_seed(how.seed, zlib.crc32(name.encode(errors="surrogatepass")), place)
            target = folder / kind / str(strength) / "val" / written
            target.parent.mkdir(parents=True, exist_ok=True)
            corrupt(image, kind, strength, seed=seed).save(target, format="JPEG", quality=QUALITY, subsampling=0)
    return None
