"""Corruptions that images undergo on the web, in five strengths each, and corrupted copies of a dataset."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from data.images import EXTENSION_FORMATS, ImageError, decode_image
from data.names import fit_file_name, nfc
from data.prepare.integrity import ENDS_PROCESS
from data.worker_pool import Progress, map_ordered
from utils import mix_seed

STRENGTHS = (1, 2, 3, 4, 5)
Kind = Literal["jpeg", "rescale", "blur", "noise", "brightness", "contrast"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_QUALITY = 95  # of the JPEG files that are written
_Operation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def _jpeg(image: Image.Image, quality: float, generator: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=int(quality))
    return decode_image("recompressed", content=file.getvalue())


def _rescale(image: Image.Image, short_side: float, generator: np.random.Generator) -> Image.Image:
    scale = min(1.0, short_side / min(image.size))
    small = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC, reducing_gap=3)
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


# The parameter of each strength is: JPEG quality; short side of the small copy, px; standard deviation of the blur, px;
# standard deviation of the noise, as a share of the range; factor of brightness (up or down); factor of contrast.
CORRUPTIONS: dict[Kind, tuple[_Operation, tuple[float, ...]]] = {
    "jpeg": (_jpeg, (50, 30, 20, 12, 7)),
    "rescale": (_rescale, (160, 112, 80, 56, 40)),
    "blur": (_blur, (0.8, 1.3, 2.0, 3.0, 4.5)),
    "noise": (_noise, (0.04, 0.07, 0.11, 0.17, 0.25)),
    "brightness": (_brightness, (1.25, 1.5, 1.9, 2.4, 3.2)),
    "contrast": (_contrast, (0.7, 0.5, 0.35, 0.22, 0.12)),
}


def corrupt(image: Image.Image, kind: Kind, strength: int, *, seed: int) -> Image.Image:
    """A corrupted copy of `image` (RGB), of the same size.

    Args:
        image: the strengths are meant for short sides of about 256 px.
        kind: which corruption.
        strength: 1 (weak) to 5.
        seed: of the noise and of the direction of brightness; both are the same for all strengths.
    """
    operation, parameters = CORRUPTIONS[kind]
    return operation(image, parameters[strength - 1], np.random.default_rng(seed))


def write_corrupted(folder: Path, root: Path, names: Sequence[str], *, kinds: Sequence[Kind], short_side: int,
                    seed: int, max_pixels: int, workers: int | None,
                    progress: Progress | None = None) -> dict[str, str]:
    """Write each image `root`/<class>/… to `folder`/<kind>/<strength>/val/<class>/…; those left out with the reason.

    The files are JPEG; a name that promises another format gets a second extension.

    Args:
        folder: where to write.
        root: the folder of the images.
        names: their paths relative to `root`.
        kinds: which corruptions.
        short_side: larger images are reduced to this short side first, px.
        seed: with an image's name, the seed of its noise and direction.
        max_pixels: images with more are not decoded, px.
        workers: see `map_ordered`.
        progress: see `map_ordered`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outputs = {name: _output_name(name, folder) for name in names}
    # Compared as Windows and macOS do.
    owners = {nfc(output).casefold(): name for name, output in reversed(outputs.items())}
    firsts = {name: owners[nfc(output).casefold()] for name, output in outputs.items()}
    jobs = [(name, outputs[name]) for name, first in firsts.items() if name == first]
    write = functools.partial(_write_one, folder=folder, root=root, kinds=kinds, short_side=short_side, seed=seed,
                              max_pixels=max_pixels)
    reasons = map_ordered(write, jobs, workers=workers, lost=ENDS_PROCESS, progress=progress)
    found = {name: reason for (name, _), reason in zip(jobs, reasons, strict=True)}
    found |= {name: f"would become the same file as {first}" for name, first in firsts.items() if name != first}
    return {name: reason for name in names if (reason := found[name])}


def _output_name(name: str, folder: Path) -> str:
    """What a JPEG file made of image `name` is called in an output `folder`."""
    path = PurePosixPath(name)
    added = "" if EXTENSION_FORMATS.get(path.suffix.lower()) == "JPEG" else ".jpg"
    return path.with_name(fit_file_name(path.name, added, folder)).as_posix()


def _write_one(job: tuple[str, str], folder: Path, root: Path, kinds: Sequence[Kind], short_side: int, seed: int,
               max_pixels: int) -> str | None:
    """Write all forms of an image, its name and that of its output; None, or why there are none."""
    name, output = job
    try:
        image = decode_image(root / name, max_pixels=max_pixels)
        scale = min(1.0, short_side / min(image.size))
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS)
        forms = {folder / kind / str(strength) / "val" / output: _encode(image, kind, strength, name, seed)
                 for kind in kinds for strength in STRENGTHS}
    except ImageError as error:
        return error.reason
    for path, content in forms.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return None


def _encode(image: Image.Image, kind: Kind, strength: int, name: str, seed: int) -> bytes:
    """A JPEG file of `image`, corrupted; raises `ImageError` where JPEG cannot hold it."""
    image_seed = mix_seed(seed, zlib.crc32(name.encode(errors="surrogatepass")), KINDS.index(kind))
    file = io.BytesIO()
    try:
        corrupt(image, kind, strength, seed=image_seed).save(file, format="JPEG", quality=_QUALITY, subsampling=0)
    except (OSError, ValueError) as error:
        raise ImageError(name, f"cannot be written as JPEG, {image.width}x{image.height} px: {error}") from error
    return file.getvalue()
