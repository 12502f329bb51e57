"""Pictures inside of a page that needs no other file."""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_image, to_rgb


def inline_jpeg(path: Path, side: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> str:
    """A JPEG in base64, `side` px high at most, and twice as wide; empty for a picture that cannot be read."""
    try:
        image = to_rgb(decode_image(path, max_pixels=max_pixels))
    except ImageError:
        return ""
    return jpeg_text(image, side)


def jpeg_text(image: Image.Image, side: int) -> str:
    """An RGB image as a JPEG in base64, `side` px high at most, and twice as wide; `image` is made smaller."""
    image.thumbnail((2 * side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return base64.b64encode(file.getvalue()).decode()
