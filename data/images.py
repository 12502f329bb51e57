"""Decoding: from a picture file to upright, opaque sRGB with 8 bits, as a viewer shows it.

The only caller of `Image.open`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from data.tar_files import find_member, read_member
from utils import check_regular_file

# Extension → Pillow's name of the format. Formats are tried by content, in this order; TGA, without a signature, last.
# Pillow's other formats are left out, because some start other programs (EPS runs Ghostscript).
EXTENSION_FORMATS = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".jpe": "JPEG", ".jfif": "JPEG", ".pjpeg": "JPEG", ".pjp": "JPEG",
    ".png": "PNG", ".apng": "PNG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF",
    ".avif": "AVIF", ".heic": "HEIF", ".heif": "HEIF", ".hif": "HEIF", ".jxl": "JXL", ".jp2": "JPEG2000",
    ".pbm": "PPM", ".pgm": "PPM", ".ppm": "PPM", ".tga": "TGA"}
# What the content of a picture begins with, whatever its extension; PPM and TGA have too little of a signature.
SIGNATURE_BYTES = 16
SIGNATURE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|II[*+]\0|MM\0[*+]|\xff\x4f\xff\x51|"
    rb"\0{3}\x0cjP  \r\n\x87\n|.{4}ftypavi[fs]|(?P<HEIF>.{4}ftyp(?:hei[cmsx]|hev[cmsx]|mif1|msf1))|"
    rb"(?P<JXL>\xff\n|\0{3}\x0cJXL \r\n\x87\n)", re.DOTALL)
IMAGE_EXTENSIONS: frozenset[str] = frozenset(EXTENSION_FORMATS)
# Formats that Pillow reads with a plug-in only: its module and package.
_PLUG_INS = {"HEIF": ("pillow_heif", "pillow-heif"), "JXL": ("pillow_jxl", "pillow-jxl-plugin")}
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
        path: the file, which may lie in a tar, see `find_member`.
        content: its bytes, if they have been read.
        max_pixels: width times height above which nothing is decoded, px.
        reduction: from width and height to the divisor of a JPEG's size while it is decoded: 1, 2, 4 or 8.

    Raises:
        ImageError: the file is missing, no picture, truncated, otherwise damaged or too large; nothing else is raised.
    """
    _set_up_pillow()
    try:
        if content is None and (found := find_member(path)):
            content = read_member(*found)
        size = check_regular_file(path) if content is None else len(content)
        stripped = _strip_png(path, content, max_pixels) if size > _LARGE_FILE else None
        try:
            decoded = _decode(path, content, stripped, max_pixels, reduction)
        except _DECODER_ERRORS as error:
            if stripped or not (stripped := _strip_png(path, content, max_pixels)):
                raise
            try:
                decoded = _decode(path, content, stripped, max_pixels, reduction)
            except _DECODER_ERRORS:
                raise error from None
    except UnidentifiedImageError:
        raise ImageError(path, _describe_content(path, content)) from None
    except _DECODER_ERRORS as error:
        raise ImageError(path, f"cannot be read: {_describe_error(error)}") from error
    decoded.info.clear()  # whoever saves the picture would write its profile or orientation a second time
    return decoded


def convert_image(image: Image.Image, name: str | os.PathLike[str], *,
                  max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """What `decode_image` makes of the file of this `image`, which may not have been loaded yet; it stays as it is.

    Raises:
        ImageError: it cannot be loaded, or is too large.
    """
    try:
        if image.width * image.height > max_pixels:
            raise ImageError(name, f"{image.width}x{image.height} px, more than the limit of {max_pixels} px")
        image.load()
        return to_rgb(image)
    except _DECODER_ERRORS as error:
        raise ImageError(name, f"cannot be read: {_describe_error(error)}") from error


def _describe_error(error: BaseException) -> str:
    problem = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(problem.split()) or type(error).__name__


def _decode(path: str | os.PathLike[str], content: bytes | None, stripped: _StrippedPng | None, max_pixels: int,
            reduction: Reduction | None) -> Image.Image:
    source = stripped.file if stripped else path if content is None else io.BytesIO(content)
    with Image.open(source, formats=_set_up_pillow()) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise ImageError(path, f"{width}x{height} px, more than the limit of {max_pixels} px (--max-pixels)")
        if reduction:
            divisor = reduction(image.size)
            image.draft(None, (width // divisor, height // divisor))
        image.load()
        if stripped and stripped.profile:
            image.info["icc_profile"] = stripped.profile
        return to_rgb(image)


@functools.cache
def _set_up_pillow() -> tuple[str, ...]:
    """The formats that Pillow shall try, those of installed plug-ins among them.

    Turns off Pillow's pixel limit, because `decode_image` has its own, and silences its warnings about metadata: damage
    is raised, not warned of. `warnings` and `logging` are global, so this runs only where pictures are decoded.
    """
    Image.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    for module, _ in _PLUG_INS.values():
        with contextlib.suppress(ImportError):
            plug_in = importlib.import_module(module)  # pillow_jxl registers itself when it is imported
            getattr(plug_in, "register_heif_opener", bool)()
    return tuple(name for name in dict.fromkeys(EXTENSION_FORMATS.values())
                 if name in Image.OPEN or name not in _PLUG_INS)


def _open_bytes(path: str | os.PathLike[str], content: bytes | None) -> BinaryIO:
    return open(path, "rb") if content is None else io.BytesIO(content)


def _describe_content(path: str | os.PathLike[str], content: bytes | None) -> str:
    with _open_bytes(path, content) as file:
        start = file.read(64)
    if not start:
        return "empty file (0 bytes)"
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        return "Git LFS pointer, not the picture"
    signature = SIGNATURE.match(start)
    if signature and signature.lastgroup and signature.lastgroup not in Image.OPEN:
        return f"{signature.lastgroup} picture: install {_PLUG_INS[signature.lastgroup][1]} to read it"
    return "no picture in a known format"


def picture_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in px of the picture as `decode_image` returns it, from the file's header.

    Raises:
        ImageError: the file is missing or no picture; nothing else is raised.
    """
    try:
        check_regular_file(path)
        with Image.open(path, formats=_set_up_pillow()) as image:
            width, height = image.size
            return (width, height) if _orientation(image) > 4 else (height, width)  # from 5 on it lies on its side
    except _DECODER_ERRORS as error:
        raise ImageError(path, f"cannot be read: {' '.join(str(error).split())}") from error


# Pillow spreads greys of fewer bits over 0 to 255.
_SPREAD = {"L;2": 85, "L;4": 17}


def decode_labels(path: str | os.PathLike[str], *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """The numbers in a label map, a PNG of one channel or with a palette, as (H, W) of whole numbers.

    Raises:
        ImageError: the file is missing, no such PNG, damaged or too large; nothing else is raised.
    """
    _set_up_pillow()
    try:
        check_regular_file(path)
        with Image.open(path, formats=("PNG",)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(path, f"{width}x{height} px, more than the limit of {max_pixels} px (--max-pixels)")
            if image.mode not in ("1", "L", "P", "I", "I;16"):
                raise ImageError(path, f"no label map, but a picture of mode {image.mode}")
            spread = _SPREAD.get(str(image.tile[0][3]), 1)
            return np.asarray(image).astype(np.int32) // spread
    except UnidentifiedImageError:
        raise ImageError(path, "no PNG") from None
    except _DECODER_ERRORS as error:
        raise ImageError(path, f"cannot be read: {_describe_error(error)}") from error


# ---- PNG with odd metadata -------------------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"
_VISIBLE = (b"tRNS", b"iCCP", b"eXIf")  # the optional chunks of a PNG that decide on its look
_LARGEST_CHUNK = 2**25  # bytes of one of these
_LARGE_FILE = 2**28  # bytes; Pillow would hold all optional chunks of a PNG in memory


@dataclass(frozen=True)
class _StrippedPng:
    """A PNG without metadata, and the colour profile that it had."""

    file: io.BytesIO
    profile: bytes | None


def _strip_png(path: str | os.PathLike[str], content: bytes | None, max_pixels: int) -> _StrippedPng | None:
    """What decides on the look of a PNG; None for another file, or one of more bytes than `max_pixels` px can need.

    Pillow refuses a PNG for the size of its texts or profile, and for the checksum of any chunk before the pixels. As
    libpng does, this leaves out optional chunks with a wrong checksum; and all that are not `_VISIBLE`.
    """
    kept, profile = io.BytesIO(), None
    with _open_bytes(path, content) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        kept.write(file.read(len(_PNG)))
        if kept.getvalue() != _PNG:
            return None
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            optional = kind[0] & 0x20
            if optional and (kind not in _VISIBLE or length > _LARGEST_CHUNK):
                file.seek(length + 4, os.SEEK_CUR)
                continue
            body = file.read(min(length + 4, end - file.tell()))
            if optional and zlib.crc32(kind + body[:-4]) != int.from_bytes(body[-4:], "big"):
                continue
            if kind == b"iCCP":
                profile = _unpack_profile(body[:-4])
                continue
            kept.write(head + body)
            if kept.tell() > 9 * max_pixels + _LARGEST_CHUNK:  # a pixel has 8 bytes at most
                return None
    kept.seek(0)
    return _StrippedPng(kept, profile)


def _unpack_profile(chunk: bytes) -> bytes | None:
    """The profile in an iCCP chunk: a name, a zero, the method, compressed data; None if it is damaged."""
    with contextlib.suppress(zlib.error):
        return zlib.decompressobj().decompress(chunk.partition(b"\0")[2][1:], _LARGEST_CHUNK)
    return None


# ---- appearance ------------------------------------------------------------------------------------------------------

_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_UPRIGHT = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_90}
_STRAIGHT_ALPHA = {"RGBa": "RGBA", "La": "LA"}
_OPAQUE = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK", "LAB": "LAB"}  # the mode, if not RGB, that profiles are for
_ROUNDING = 2  # of 255


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` (loaded, any mode) in mode RGB, 8 bits: EXIF orientation applied, ICC profile → sRGB, over white.

    Greys of 16 bits and more are scaled. A damaged profile or EXIF block is ignored, as viewers do.
    """
    turn = _UPRIGHT.get(_orientation(image))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode in _STRAIGHT_ALPHA:
        image = image.convert(_STRAIGHT_ALPHA[image.mode])
    mode = _OPAQUE.get(image.mode, "RGB")
    opaque = (_eight_bits(image) if image.mode.startswith("I") or image.mode == "F"
              else image if image.mode == mode else image.convert(mode))
    profile = image.info.get("icc_profile")
    transform = _srgb_transform(profile, opaque.mode) if profile or opaque.mode == "LAB" else None
    colours = transform.apply(opaque) if transform else opaque.convert("RGB")
    if not image.has_transparency_data:
        return colours
    page = Image.new("RGB", image.size, "white")
    page.paste(colours, mask=_alpha(image))
    return page


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


def _eight_bits(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits or floats in mode L; white is the first customary value that is no less than the peak."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    peak = values.max()
    customary = (1, 255, 65535) if image.mode == "F" else (65535,)
    white = next((white for white in customary if peak <= white), peak)
    return Image.fromarray((values / white * 255).round().clip(0, 255).astype(np.uint8))


@functools.lru_cache(maxsize=64)
def _srgb_transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None if there is nothing to convert: the profile means sRGB, is damaged or does not fit the mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile)) if profile else ImageCms.createProfile("LAB")
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether colours stay what they are, but for rounding: sRGB is known by its curves and primaries, not its name."""
    levels = np.arange(0, 256, 17, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(64, 64, 3)
    converted = np.asarray(transform.apply(Image.fromarray(colours)), np.int16)
    return bool(np.abs(converted - colours).max() <= _ROUNDING)
