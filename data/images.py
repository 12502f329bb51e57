"""Decoding of picture files. The only caller of `Image.open`."""

from __future__ import annotations

import functools
import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data.appearance import to_rgb

# Extension → Pillow's name of the format. Formats are tried by content, in this order; TGA, without a signature, last.
# Pillow's other formats are left out, because some start other programs (EPS runs Ghostscript).
EXTENSION_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".jp2": "JPEG2000",
    ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM", ".tga": "TGA"}
IMAGE_EXTENSIONS: frozenset[str] = frozenset(EXTENSION_FORMATS)
_FORMATS = tuple(dict.fromkeys(EXTENSION_FORMATS.values()))
DEFAULT_MAX_PIXELS = 200_000_000
Reduction = Callable[[tuple[int, int]], int]
# All that Pillow's decoders are known to raise on a damaged file; `UnidentifiedImageError` is an OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError, AttributeError,
                   RuntimeError, MemoryError, struct.error, zlib.error)


class ImageError(Exception):
    """A file that is no usable picture; `reason` is one phrase that says what is wrong with it."""

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def decode_image(path: str | os.PathLike[str], *, content: bytes | None = None,
                 max_pixels: int = DEFAULT_MAX_PIXELS, reduction: Reduction | None = None) -> Image.Image:
    """The picture as a viewer shows it, in mode RGB, without metadata (see `to_rgb`); the first frame of an animation.

    The content decides on the format, not the extension. The first call sets Pillow up for this process.

    Args:
        path: the file.
        content: its bytes, if it lies in an archive.
        max_pixels: width times height above which nothing is decoded, px.
        reduction: from width and height to the divisor of a JPEG's size while it is decoded: 1, 2, 4 or 8.

    Raises:
        ImageError: the file is missing, no picture, truncated, otherwise damaged or too large; nothing else is raised.
    """
    _set_up_pillow()
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(path, f"{width}x{height} px, more than the limit of {max_pixels} px (--max-pixels)")
            if reduction:
                divisor = reduction(image.size)
                image.draft(None, (width // divisor, height // divisor))
            image.load()
            decoded = to_rgb(image)
    except UnidentifiedImageError:
        raise ImageError(path, _describe_content(path, content)) from None
    except _DECODER_ERRORS as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(path, f"cannot be read: {' '.join(problem.split()) or type(error).__name__}") from error
    decoded.info.clear()  # whoever saves the picture would write its profile or orientation a second time
    return decoded


@functools.cache
def _set_up_pillow() -> None:
    """Turn off Pillow's pixel limit, because `decode_image` has its own, and silence its warnings about metadata.

    Damage is raised, not warned of. `warnings` and `logging` are global, so this runs only where pictures are decoded.
    """
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def _describe_content(path: str | os.PathLike[str], content: bytes | None) -> str:
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        start = file.read(64)
    if not start:
        return "empty file (0 bytes)"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "Git LFS pointer, not the picture"
    return "no picture in a known format"
