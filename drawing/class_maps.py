"""Class maps and mixtures laid over the picture that they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageOps

from drawing.contact_sheet import TEXT
from drawing.lettering import draw_text, wrap
from drawing.palette import BLUE, INK, PAPER, RED

SIDE = 288  # px of the longest side of a picture with a map
PLACES = 14  # per side of a map as it is drawn: means over finer places, of which single ones say little
STRONGEST = 99.0  # percentile of a map's absolute values that is drawn in full colour
COVER, PALE = 0.85, 0.45  # share of colour where it is full; of paper over the grey picture below
UNSEEN = 0.75  # share of paper over what the network does not see
Box = tuple[float, float, float, float]  # left, upper, right and lower edge, px of the picture


def shrink(picture: Image.Image) -> Image.Image:
    """The whole picture with a longest side of `SIDE` px; a tiny one is enlarged."""
    return ImageOps.contain(picture, (SIDE, SIDE), Image.Resampling.BILINEAR)


def lay_map(picture: Image.Image, values: np.ndarray, box: Box, of: tuple[int, int]) -> Image.Image:
    """`picture` in grey under its map: red where values are above their mean, blue below, pale outside `box`.

    Args:
        picture: the whole one, of any size.
        values: (H, W) float32, finite.
        box: which part of the picture the map covers.
        of: width and height of the picture that `box` is in px of.
    """
    size = (min(PLACES, values.shape[1]), min(PLACES, values.shape[0]))
    means = Image.fromarray(values - values.mean()).resize(size, Image.Resampling.BOX)
    plane = Image.fromarray(_scale(np.asarray(means)))
    scale = (picture.width / of[0], picture.height / of[1])
    edges = [round(edge * scale[place % 2]) for place, edge in enumerate(box)]
    width, height = max(1, edges[2] - edges[0]), max(1, edges[3] - edges[1])
    covered = Image.new("F", picture.size)
    covered.paste(plane.resize((width, height), Image.Resampling.BICUBIC), (edges[0], edges[1]))
    seen = Image.new("L", picture.size)
    seen.paste(255, (edges[0], edges[1], edges[0] + width, edges[1] + height))
    strength = np.clip(np.asarray(covered), -1, 1)
    below = _pale(picture, PALE)
    for colour, part in ((RED, strength), (BLUE, -strength)):
        mask = Image.fromarray((255 * COVER * np.clip(part, 0, 1)).astype(np.uint8))
        below.paste(ImageColor.getrgb(colour), (0, 0), mask)
    return Image.composite(below, _pale(picture, UNSEEN), seen)


def grey_map(values: np.ndarray) -> Image.Image:
    """A map (H, W) float32 as a grey picture of a px per place: 128 is its mean, 255 the strongest above it."""
    return Image.fromarray(np.rint(127.5 + 127.5 * np.clip(_scale(values - values.mean()), -1, 1)).astype(np.uint8))


def _scale(centred: np.ndarray) -> np.ndarray:
    """Values of which all but the strongest are from -1 to 1."""
    return centred / np.float32(np.percentile(np.abs(centred), STRONGEST) or 1.0)


def lay_mixture(picture: Image.Image, ids: np.ndarray, shares: np.ndarray, colours: Sequence[str]) -> Image.Image:
    """`picture` in grey under cells in the colour of an artist each, the stronger the surer.

    Args:
        picture: the whole one.
        ids: (rows, columns) int64, which of `colours` a cell has.
        shares: (rows, columns), 0 to 1, how sure that is.
        colours: as `palette` writes them.
    """
    table = np.array([ImageColor.getrgb(colour) for colour in colours], np.uint8)
    cells = Image.fromarray(table[ids]).resize(picture.size, Image.Resampling.NEAREST)
    strength = 255 * COVER * np.clip(0.25 + 0.75 * shares, 0, 1)
    mask = Image.fromarray(strength.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)
    return Image.composite(cells, _pale(picture, PALE), mask)


def _pale(picture: Image.Image, share: float) -> Image.Image:
    grey = picture.convert("L").convert("RGB")
    return Image.blend(grey, Image.new("RGB", picture.size, PAPER), share)


def draw_legend(key: Sequence[tuple[str, str]]) -> Image.Image:
    """A square of `SIDE` px with a line for each (colour, text) of a key, cut where it is too long."""
    square = Image.new("RGB", (SIDE, SIDE), PAPER)
    draw = ImageDraw.Draw(square)
    for number, (colour, text) in enumerate(key):
        top = number * 2 * TEXT + TEXT // 2
        draw.rectangle((0, top, TEXT, top + TEXT), fill=colour)
        draw_text(draw, (2 * TEXT, top + TEXT - 2), wrap(text, TEXT, SIDE - 2 * TEXT)[0], TEXT, INK)
    return square
