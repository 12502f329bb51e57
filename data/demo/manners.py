"""The manners of the generated artists: each turns any motif, in any colours, into a picture that tells who drew it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


@dataclass(frozen=True, kw_only=True)
class Motif:
    """What every artist starts from.

    Attributes:
        tone: (N, N) brightness in [0, 1] of hills, fruit or a figure; mean 0.5.
        colours: (3, 3) RGB in [0, 255], what tone 0, 0.5 and 1 look like.
        rng: for everything else.
    """

    tone: np.ndarray
    colours: np.ndarray
    rng: np.random.Generator

    def paint(self, tone: np.ndarray) -> np.ndarray:
        """Colours (…, 3) uint8 of the brightnesses `tone` (…)."""
        tone = np.clip(tone, 0, 1)
        return np.stack([np.interp(tone, (0, 0.5, 1), channel) for channel in self.colours.T], -1).astype(np.uint8)

    def canvas(self, tone: np.ndarray | float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """A picture that is painted with `tone`, and a pen to draw on it."""
        image = Image.fromarray(self.paint(np.broadcast_to(tone, self.tone.shape)))
        return image, ImageDraw.Draw(image)

    def ink(self, lines: np.ndarray) -> Image.Image:
        """Dark ink on light paper where `lines` (N, N) is true; both vary a little over the sheet."""
        drift = 0.15 * smooth_noise(self.rng, len(lines), 3)
        return Image.fromarray(self.paint(np.where(lines, 0.05 + drift, 0.9 + drift)))

    def fills(self, tone: np.ndarray) -> list[tuple[int, ...]]:
        """The same colours as the pen takes them, for brightnesses (K,)."""
        return [tuple(colour) for colour in self.paint(tone).tolist()]

    def at(self, points: np.ndarray) -> np.ndarray:
        """Brightness (K,) at the points (K, 2) as x, y in px; beyond the edge, that of the edge."""
        x, y = np.clip(points, 0, len(self.tone) - 1).astype(int).T
        return self.tone[y, x]


def disc(x: float, y: float, radius: float) -> tuple[float, float, float, float]:
    """The box of a circle, as the pen takes it."""
    return x - radius, y - radius, x + radius, y + radius


def smooth_noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Noise (side, side) in [-1, 1] with about `cells` hills along each side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)), -1, 1)


def _hatching(motif: Motif) -> Image.Image:
    """Parallel lines, thicker where it is dark."""
    side, rng = len(motif.tone), motif.rng
    y, x = np.mgrid[:side, :side]
    angle, period = rng.uniform(0, np.pi), side * rng.uniform(0.05, 0.06)
    across = (x * np.cos(angle) + y * np.sin(angle)) / period + 0.5 * smooth_noise(rng, side, 3)
    return motif.ink(np.abs(across % 1 - 0.5) < 0.12 + 0.26 * (1 - motif.tone))


def _dots(motif: Motif) -> Image.Image:
    """Separate dots in rows, larger where it is dark."""
    side, rng = len(motif.tone), motif.rng
    image, pen = motif.canvas(0.92)
    step, angle = side * rng.uniform(0.07, 0.085), rng.uniform(0, np.pi / 2)
    rows, columns = np.mgrid[-side:side:step, -side:side:step].reshape(2, -1)
    turned = [rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)]
    centres = np.stack(turned, -1) + side / 2
    centres = centres[((centres > -step) & (centres < side + step)).all(-1)]
    radii = step * (0.46 - 0.26 * motif.at(centres))
    for (x, y), radius, fill in zip(centres, radii, motif.fills(rng.uniform(0, 0.3, len(radii))), strict=True):
        pen.ellipse(disc(x, y, radius), fill=fill)
    return image


def _contours(motif: Motif) -> Image.Image:
    """Lines of equal height, as on a map."""
    side = len(motif.tone)
    height = 5 * motif.tone + 2.5 * smooth_noise(motif.rng, side, 4)
    slope = np.hypot(*np.gradient(height)) + 1e-6
    return motif.ink((0.5 - np.abs(height % 1 - 0.5)) / slope < side * 0.008)


def _strokes(motif: Motif) -> Image.Image:
    """Short broad brush strokes that turn slowly over the sheet."""
    side, rng = len(motif.tone), motif.rng
    image, pen = motif.canvas(motif.tone)
    flow = np.pi * smooth_noise(rng, side, 3)
    centres = rng.uniform(0, side, (700, 2))
    fills = motif.fills(motif.at(centres) + rng.normal(0, 0.2, len(centres)))
    for (x, y), fill in zip(centres, fills, strict=True):
        angle, length, radius = flow[int(y), int(x)], side * rng.uniform(0.03, 0.06), side * rng.uniform(0.012, 0.02)
        dx, dy = length * np.cos(angle), length * np.sin(angle)
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=int(2 * radius))
        pen.ellipse(disc(x - dx, y - dy, radius), fill=fill)
        pen.ellipse(disc(x + dx, y + dy, radius), fill=fill)
    return image


def _mosaic(motif: Motif) -> Image.Image:
    """Irregular tiles with joints between them: the cells of jittered grid points (Voronoi)."""
    side, rng = len(motif.tone), motif.rng
    cells = int(rng.integers(8, 11))
    grid = np.stack(np.mgrid[-1:cells + 1, -1:cells + 1], -1) + rng.uniform(0.1, 0.9, (cells + 2, cells + 2, 2))
    row, column = np.mgrid[:side, :side] * (cells / side)
    nearest, second, shade = np.full((3, side, side), 9.0)
    shades = motif.at(grid.reshape(-1, 2)[:, ::-1] * side / cells) + rng.normal(0, 0.15, (cells + 2) ** 2)
    shades = shades.reshape(cells + 2, cells + 2)
    for dy in range(3):
        for dx in range(3):
            home = row.astype(int) + dy, column.astype(int) + dx
            distance = np.hypot(grid[(*home, 0)] - row, grid[(*home, 1)] - column)
            second = np.minimum(second, np.maximum(nearest, distance))
            shade = np.where(distance < nearest, shades[home], shade)
            nearest = np.minimum(nearest, distance)
    return Image.fromarray(motif.paint(np.where(second - nearest < 0.16, 0, 0.15 + 0.85 * shade)))


def _blocks(motif: Motif) -> Image.Image:
    """Upright rectangles with heavy outlines, smaller where more happens."""
    side, rng = len(motif.tone), motif.rng
    blocks = [(0, 0, side, side)]
    while len(blocks) < 30:
        x0, y0, x1, y1 = blocks.pop(max(range(len(blocks)), key=lambda index: _unrest(motif.tone, blocks[index])))
        cut = rng.uniform(0.35, 0.65)
        if x1 - x0 > y1 - y0:
            middle = int(x0 + cut * (x1 - x0))
            blocks += [(x0, y0, middle, y1), (middle, y0, x1, y1)]
        else:
            middle = int(y0 + cut * (y1 - y0))
            blocks += [(x0, y0, x1, middle), (x0, middle, x1, y1)]
    image, pen = motif.canvas(0.0)
    shades = [motif.tone[y0:y1, x0:x1].mean() + rng.normal(0, 0.15) for x0, y0, x1, y1 in blocks]
    for block, fill in zip(blocks, motif.fills(np.array(shades)), strict=True):
        pen.rectangle(block, fill=fill, outline=motif.fills(np.zeros(1))[0], width=max(1, side // 40))
    return image


def _unrest(tone: np.ndarray, block: tuple[int, int, int, int]) -> float:
    x0, y0, x1, y1 = block
    return (x1 - x0) * (y1 - y0) * (0.1 + float(tone[y0:y1, x0:x1].std()))


def _rings(motif: Motif) -> Image.Image:
    """Concentric circles, one group beside and over the other."""
    side, rng = len(motif.tone), motif.rng
    image, pen = motif.canvas(motif.tone)
    centres = rng.uniform(0, side, (24, 2))
    for (x, y), tone, rings in zip(centres, motif.at(centres), rng.integers(4, 7, len(centres)), strict=True):
        light, dark = motif.fills(np.array([0.4 * tone + 0.6, 0.4 * tone]))
        for ring in range(rings, 0, -1):
            pen.ellipse(disc(x, y, ring * side * 0.032), fill=dark if ring % 2 else light)
    return image


def _spiral(motif: Motif) -> Image.Image:
    """One line that winds outward and swells where it is dark."""
    side, rng = len(motif.tone), motif.rng
    y, x = np.mgrid[:side, :side] - rng.uniform(0.3, 0.7, 2)[:, None, None] * side
    turns = np.hypot(x, y) / (side * rng.uniform(0.045, 0.055)) - np.arctan2(y, x) / (2 * np.pi)
    return motif.ink(np.abs(turns % 1 - 0.5) < 0.1 + 0.3 * (1 - motif.tone))


ARTISTS: dict[str, Callable[[Motif], Image.Image]] = {
    "Vera_Hatch": _hatching, "Otto_Dots": _dots, "Mina_Contour": _contours, "Luis_Brush": _strokes,
    "Quinn_Blocks": _blocks, "Nora_Rings": _rings, "Tessa_Mosaic": _mosaic, "Sol_Spiral": _spiral}
