"""Picture files: which count as one, and their pixels. The only caller of `Image.open`."""

from __future__ import annotations

import io
import logging
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from data.appearance import as_seen
from utils import UserError

# Extension → Pillow's name of the format. Formats are tried by content, in this order; TGA is last, because it has no
# signature. They are named because Pillow's full list has formats that start other programs (EPS runs Ghostscript).
EXTENSION_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".png": "PNG", ".webp": "WEBP", ".gif": "GIF",
    ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".avif": "AVIF", ".jp2": "JPEG2000",
    ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM", ".tga": "TGA"}
IMAGE_EXTENSIONS: frozenset[str] = frozenset(EXTENSION_FORMATS)
_FORMATS = tuple(dict.fromkeys(EXTENSION_FORMATS.values()))
DEFAULT_MAX_PIXELS = 200_000_000
Reduction = Callable[[tuple[int, int]], int]
# Everything Pillow's decoders are known to raise on a damaged file; `UnidentifiedImageError` is an OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, LookupError, TypeError, AttributeError,
                   RuntimeError, MemoryError, struct.error, zlib.error)

Image.MAX_IMAGE_PIXELS = None  # `decode_image` has a limit of its own, which callers can set.
warnings.filterwarnings("ignore", module=r"PIL\.")  # about metadata; damage is raised, not warned of
logging.getLogger("PIL").addHandler(logging.NullHandler())  # nor printed


class ImageError(Exception):
    """A file that is no usable picture.

    Args:
        path: the file.
        reason: one phrase that says what is wrong with it.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        super().__init__(path, reason)
        self.path, self.reason = Path(path), reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def decode_image(path: str | os.PathLike[str], *, content: bytes | None = None,
                 max_pixels: int = DEFAULT_MAX_PIXELS, reduction: Reduction | None = None) -> Image.Image:
    """The picture as a viewer shows it, in mode RGB, without metadata.

    EXIF orientation is applied, colours are converted from the embedded ICC profile to sRGB, transparency is laid over
    white, 16-bit greys are scaled to 8, an animation gives its first frame. The content decides on the format, not the
    extension.

    Args:
        path: the file.
        content: its bytes, where it lies in an archive and cannot be opened by its path.
        max_pixels: width times height above which nothing is decoded, px.
        reduction: by what a JPEG of a given width and height is divided while it is decoded: 1, 2, 4 or 8.

    Raises:
        ImageError: the file is missing, no picture, truncated, otherwise damaged or too large; nothing else is raised.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(path, f"{width}x{height} px, more than the limit of {max_pixels} px (--max-pixels)")
            if reduction:
                divisor = reduction(image.size)
                image.draft(None, (width // divisor, height // divisor))
            image.load()
            seen = as_seen(image)
    except UnidentifiedImageError:
        raise ImageError(path, _what_instead(path, content)) from None
    except _DECODER_ERRORS as error:
        problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageError(path, f"cannot be read: {' '.join(problem.split()) or type(error).__name__}") from error
    seen.info.clear()  # a profile or orientation left here would be applied a second time by whoever saves the picture
    return seen


def list_images(folder: str | os.PathLike[str], *, recursive: bool = True,
                extensions: Collection[str] = IMAGE_EXTENSIONS) -> list[Path]:
    """The picture files below `folder`, sorted by relative path (`/`-separated, by code point).

    Extensions (lower case, with dot) match in any case. Names that start with a dot are skipped. Links to folders are
    followed, each real folder once.

    Raises:
        UserError: the folder, or one below it, is missing or cannot be read.
    """
    root = Path(folder)
    found = [path for path in _walk(root, recursive)
             if path.suffix.lower() in extensions and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _walk(root: Path, recursive: bool) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise UserError(f"the folder {error.filename}: {error.strerror}", "a folder that can be read", "check the path")

    visited = set()
    for parent, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = sorted(name for name in folders if recursive and real not in visited and not name.startswith("."))
        yield from (Path(parent, name) for name in files if real not in visited)
        visited.add(real)


def _what_instead(path: str | os.PathLike[str], content: bytes | None) -> str:
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        start = file.read(64)
    if not start:
        return "empty file (0 bytes)"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "Git LFS pointer, not the picture"
    return "no picture in a known format"
