"""Masks of objects as COCO stores them, run lengths column by column; the only module that rasterises and packs them.

faster-coco-eval does the work. What others wrote is checked first: its C++ code trusts what it is given.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from utils import UserError

Side = Annotated[int, Meta(ge=1, le=2**20)]
Polygons = list[list[float]]


class RunLengths(msgspec.Struct):
    """A mask as run lengths of zeros and ones in turn, or as COCO's text of them; `size` is height and width in px."""

    size: Annotated[list[Side], Meta(min_length=2, max_length=2)]
    counts: list[int] | str


def library() -> Any:
    """The package faster_coco_eval; raises a `UserError` where it is not installed."""
    try:
        return importlib.import_module("faster_coco_eval")
    except ImportError as error:
        raise UserError("no package faster-coco-eval", "those of requirements-detection.txt",
                        "run pip install -r requirements-detection.txt") from error


def pack(segmentation: Polygons | RunLengths, height: int, width: int) -> bytes:
    """The packed mask of an annotation of a picture of this size, in px.

    Raises:
        ValueError: polygons of less than three points or far beyond the picture, or run lengths of another picture.
    """
    mask = library().mask
    if isinstance(segmentation, RunLengths):
        counts = _counts(segmentation)
        if segmentation.size != [height, width]:
            raise ValueError("run lengths of another size than the picture")
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise ValueError("run lengths that do not fill the picture")
        return mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)["counts"]
    if not segmentation or any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation):
        raise ValueError("a polygon of less than three points")
    for polygon in segmentation:
        points = np.array(polygon).reshape(-1, 2)
        if not (np.isfinite(points).all() and (points >= -np.array([width, height])).all()
                and (points <= 2 * np.array([width, height])).all()):
            raise ValueError("a polygon far beyond the picture")
    return mask.merge(mask.frPyObjects(segmentation, height, width))["counts"]


def pack_pixels(mask: np.ndarray) -> bytes:
    """The packed mask of pixels (H, W) bool."""
    return library().mask.encode(np.asfortranarray(mask, np.uint8))["counts"]


def unpack(counts: bytes, height: int, width: int) -> np.ndarray:
    """The pixels (H, W) uint8, 0 or 1, of a mask that `pack` or `pack_pixels` made."""
    return library().mask.decode({"size": [height, width], "counts": counts})


def area(counts: bytes, height: int, width: int) -> int:
    """The number of pixels of a packed mask."""
    return int(library().mask.area({"size": [height, width], "counts": counts}))


def _counts(rle: RunLengths) -> Sequence[int]:
    """Run lengths; in COCO's text each is a number of signed five-bit digits, from the third on as a difference."""
    if not isinstance(rle.counts, str):
        return rle.counts
    counts: list[int] = []
    number = shift = 0
    for sign in rle.counts:
        digit = ord(sign) - 48
        if not 0 <= digit < 64 or shift > 50:
            raise ValueError("run lengths that are no text of COCO's")
        number |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            number -= (digit & 16) << (shift - 4)
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    if shift:
        raise ValueError("run lengths that are cut off")
    return counts
