"""PNG of a picture with what was found in it: boxes and outlines of objects, or regions in colours with their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from drawing.lettering import draw_text, text_width, wrap
from drawing.palette import GROUPS, INK, PAPER
from utils import atomic_path

LEAST = 640  # px: a smaller picture is enlarged, so that its names can be read
LINE, TEXT = 1 / 250, 1 / 40  # of the longer side
VEIL = 0.45  # how much of a region's own colour is its class's
GAP = 6  # px
MOST_NAMED = 24  # classes of a legend


@dataclass(frozen=True, kw_only=True)
class DrawnObject:
    """An object.

    Attributes:
        text: above its box.
        label: its class, which has a colour.
        box: left, top, right and bottom, px.
        mask: its pixels (H, W) bool; None where only the box is known.
    """

    text: str
    label: int
    box: tuple[float, float, float, float]
    mask: np.ndarray | None = None


def draw_objects(picture: Image.Image, objects: Sequence[DrawnObject], path: Path) -> None:
    """Write `picture` with the boxes and masks of `objects`, the first of them on top."""
    pixels = np.asarray(picture).astype(np.float32)
    for each in reversed(objects):
        if each.mask is not None:
            pixels[each.mask] += VEIL * (colour(each.label) - pixels[each.mask])
    scale = max(1.0, LEAST / max(picture.size))
    sheet = _enlarged(Image.fromarray(pixels.astype(np.uint8)), scale)
    pen, size = ImageDraw.Draw(sheet), max(12, int(TEXT * max(sheet.size)))
    width = max(2, int(LINE * max(sheet.size)))
    for each in reversed(objects):
        left, top, right, bottom = (scale * edge for edge in each.box)
        pen.rectangle((left, top, max(right, left), max(bottom, top)), outline=_name(each.label), width=width)
        text = wrap(each.text, size, sheet.width)[0]
        base = max(top, size + GAP)
        start = min(left, max(0.0, sheet.width - text_width(text, size) - GAP))
        pen.rectangle((start, base - size - GAP, start + text_width(text, size) + GAP, base), fill=_name(each.label))
        draw_text(pen, (start + GAP / 2, base - GAP / 2 - 1), text, size, INK)
    _save(sheet, path)


def draw_regions(picture: Image.Image, labels: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Write `picture` with the classes (H, W) of its pixels in colours, above the names and shares of the largest."""
    colours = np.stack([colour(label) for label in range(len(names))])
    pixels = (1 - VEIL) * np.asarray(picture) + VEIL * colours[labels]
    shown = _enlarged(Image.fromarray(pixels.astype(np.uint8)), max(1.0, LEAST / max(picture.size)))
    shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    largest = [label for label in np.argsort(-shares, kind="stable").tolist() if shares[label]][:MOST_NAMED]
    size = max(12, int(TEXT * max(shown.size)))
    sheet = Image.new("RGB", (shown.width, shown.height + GAP + len(largest) * (size + GAP)), PAPER)
    sheet.paste(shown)
    pen = ImageDraw.Draw(sheet)
    for row, label in enumerate(largest):
        top = shown.height + GAP + row * (size + GAP)
        pen.rectangle((GAP, top, GAP + size, top + size), fill=_name(label))
        text = wrap(f"{shares[label]:.1%}  {names[label]}", size, sheet.width - size - 3 * GAP)[0]
        draw_text(pen, (2 * GAP + size, top + size - 2), text, size, INK)
    _save(sheet, path)


def colour(label: int) -> np.ndarray:
    """The colour of a class, (3,) in [0, 255]; classes share a colour where there are more than colours."""
    return np.array(ImageColor.getrgb(_name(label)), np.float32)


def _name(label: int) -> str:
    return GROUPS[label % len(GROUPS)]


def _enlarged(picture: Image.Image, scale: float) -> Image.Image:
    return picture.resize((round(scale * picture.width), round(scale * picture.height))) if scale > 1 else picture


def _save(sheet: Image.Image, path: Path) -> None:
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", compress_level=1)
