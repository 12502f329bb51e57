"""From an image of any mode to upright, opaque sRGB with 8 bits, as a viewer shows it."""

from __future__ import annotations

import functools
import struct
from io import BytesIO

import numpy as np
from PIL import Image, ImageCms

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}
_STRAIGHT_ALPHA = {"RGBa": "RGBA", "La": "LA"}


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` (loaded, any mode) in mode RGB, 8 bits: EXIF orientation applied, ICC profile → sRGB, over white.

    Greys of 16 bits and more are scaled. A damaged profile or EXIF block is ignored, as viewers do.
    """
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    colours = _to_srgb(_opaque(image), image.info.get("icc_profile"))
    if not image.has_transparency_data:
        return colours
    opaque = Image.new("RGB", image.size, "white")
    opaque.paste(colours, mask=_alpha(image))
    return opaque


def _alpha(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16 bits to 8 before it compares
        is_opaque = np.asarray(image) != image.info["transparency"]
        return Image.fromarray(255 * is_opaque.astype(np.uint8))
    return image.convert("RGBA").getchannel("A")


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except (SyntaxError, ValueError, OSError, LookupError, TypeError, struct.error):
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """The same colours without transparency, in a mode that colour profiles have: L, RGB, CMYK or LAB."""
    if image.mode.startswith("I") or image.mode == "F":
        return _eight_bits(image)
    if image.mode in ("1", "LA"):
        return image.convert("L")
    return image if image.mode in ("L", "RGB", "CMYK", "LAB") else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits or floats in mode L; white is the first customary value that is no less than the peak."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    peak = values.max()
    customary = (1, 255, 65535) if image.mode == "F" else (65535,)
    white = next((white for white in customary if peak <= white), peak)
    return Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _srgb_transform(profile, image.mode) if profile or image.mode == "LAB" else None
    return transform.apply(image) if transform else image.convert("RGB")


@functools.lru_cache(maxsize=64)
def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None if there is nothing to convert: the profile is sRGB itself, is damaged or does not fit the mode."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        if mode == "RGB" and "sRGB" in ImageCms.getProfileDescription(source):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
