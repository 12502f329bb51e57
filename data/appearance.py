"""From decoded pixels of any kind to what a viewer shows: upright, sRGB, 8 bits, opaque."""

from __future__ import annotations

import functools
import struct
from io import BytesIO

import numpy
from PIL import Image, ImageCms

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}
_STRAIGHT_ALPHA = {"RGBa": "RGBA", "La": "LA"}


def as_seen(image: Image.Image) -> Image.Image:
    """`image` (loaded, any mode) in mode RGB: orientation applied, ICC profile → sRGB, transparency over white.

    A damaged profile or EXIF block is passed over, as viewers do: the pixels are still good.
    """
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    colours = _to_srgb(_opaque(image), image.info.get("icc_profile"))
    if not image.has_transparency_data:
        return colours
    seen = Image.new("RGB", image.size, "white")
    seen.paste(colours, mask=_alpha(image))
    return seen


def _alpha(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16 bits to 8 before it compares
        shown = numpy.asarray(image) != image.info["transparency"]
        return Image.fromarray(255 * shown.astype(numpy.uint8))
    return image.convert("RGBA").getchannel("A")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, LookupError, TypeError, struct.error):
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """The same colours in a mode that has no transparency and that colour profiles know: L, RGB, CMYK or LAB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits or floats in mode L; where no top is known, the first customary one that fits."""
    values = numpy.nan_to_num(numpy.asarray(image, dtype=numpy.float64))
    peak = values.max()
    customary = (1, 255, 65535) if image.mode == "F" else (65535,)
    top = next((top for top in customary if peak <= top), peak)
    return Image.fromarray((values / top * 255).round().clip(0, 255).astype(numpy.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _srgb_transform(profile, image.mode) if profile or image.mode == "LAB" else None
    return ImageCms.applyTransform(image, transform) if transform else image.convert("RGB")


@functools.lru_cache(maxsize=64)
def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where there is nothing to do: the profile is sRGB's own, is damaged or does not fit the mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
