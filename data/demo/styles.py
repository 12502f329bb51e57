"""The drawing styles of the generated artists: each draws any scene, in any colours, in its own style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an artist draws.

    Attributes:
        tone: (N, N) brightness in [0, 1] of hills, fruit or a figure; mean 0.5.
        colours: (3, 3) RGB in [0, 255] of the brightnesses 0, 0.5 and 1.
        rng: random choices of the style.
    """

    tone: np.ndarray
    colours: np.ndarray
    rng: np.random.Generator

    def paint(self, tone: np.ndarray) -> np.ndarray:
        """Colours (…, 3) uint8 of the brightnesses `tone` (…)."""
        tone = np.clip(tone, 0, 1)
        return np.stack([np.interp(tone, (0, 0.5, 1), channel) for channel in self.colours.T], -1).astype(np.uint8)

    def canvas(self, tone: np.ndarray | float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
        """A picture painted with the brightness `tone`, and a pen to draw on it."""
        image = Image.fromarray(self.paint(np.broadcast_to(tone, self.tone.shape)))
        return image, ImageDraw.Draw(image)

    def ink(self, lines: np.ndarray) -> Image.Image:
        """Dark ink where `lines` (N, N) is true, on light paper; both vary a little over the picture."""
        drift = 0.15 * smooth_noise(self.rng, len(lines), 3)
        return Image.fromarray(self.paint(np.where(lines, 0.05 + drift, 0.9 + drift)))

    def fills(self, tone: np.ndarray) -> list[tuple[int, ...]]:
        """Colours of the brightnesses (K,), for the pen."""
        return [tuple(colour) for colour in self.paint(tone).tolist()]

    def at(self, points: np.ndarray) -> np.ndarray:
        """Brightness (K,) at the points (K, 2) as x, y in px; outside the picture, that of its edge."""
        x, y = np.clip(points, 0, len(self.tone) - 1).astype(int).T
        return self.tone[y, x]


def smooth_noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """Noise (side, side) in [-1, 1] with about `cells` maxima along each side."""
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells + 1, cells + 1)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)), -1, 1)


def _hatching(scene: Scene) -> Image.Image:
    """Parallel lines, thicker in the dark."""
    side, rng = len(scene.tone), scene.rng
    y, x = np.mgrid[:side, :side]
    angle, period = rng.uniform(0, np.pi), side * rng.uniform(0.05, 0.06)
    across = (x * np.cos(angle) + y * np.sin(angle)) / period + 0.5 * smooth_noise(rng, side, 3)
    return scene.ink(np.abs(across % 1 - 0.5) < 0.12 + 0.26 * (1 - scene.tone))


def _dots(scene: Scene) -> Image.Image:
    """Separate dots in rows, larger in the dark."""
    side, rng = len(scene.tone), scene.rng
    image, pen = scene.canvas(0.92)
    step, angle = side * rng.uniform(0.07, 0.085), rng.uniform(0, np.pi / 2)
    rows, columns = np.mgrid[-side:side:step, -side:side:step].reshape(2, -1)
    turned = [rows * np.cos(angle) - columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)]
    centres = np.stack(turned, -1) + side / 2
    centres = centres[((centres > -step) & (centres < side + step)).all(-1)]
    radii = step * (0.46 - 0.26 * scene.at(centres))
    for (x, y), radius, fill in zip(centres, radii, scene.fills(rng.uniform(0, 0.3, len(radii))), strict=True):
        pen.circle((x, y), radius, fill=fill)
    return image


def _contours(scene: Scene) -> Image.Image:
    """Lines of equal height, as on a map."""
    side = len(scene.tone)
    height = 5 * scene.tone + 2.5 * smooth_noise(scene.rng, side, 4)
    slope = np.hypot(*np.gradient(height)) + 1e-6
    return scene.ink((0.5 - np.abs(height % 1 - 0.5)) / slope < side * 0.008)


def _strokes(scene: Scene) -> Image.Image:
    """Short broad brush strokes whose direction changes slowly over the picture."""
    side, rng = len(scene.tone), scene.rng
    image, pen = scene.canvas(scene.tone)
    flow = np.pi * smooth_noise(rng, side, 3)
    centres = rng.uniform(0, side, (700, 2))
    fills = scene.fills(scene.at(centres) + rng.normal(0, 0.2, len(centres)))
    for (x, y), fill in zip(centres, fills, strict=True):
        angle, length, radius = flow[int(y), int(x)], side * rng.uniform(0.03, 0.06), side * rng.uniform(0.012, 0.02)
        dx, dy = length * np.cos(angle), length * np.sin(angle)
        pen.line((x - dx, y - dy, x + dx, y + dy), fill=fill, width=int(2 * radius))
        pen.circle((x - dx, y - dy), radius, fill=fill)
        pen.circle((x + dx, y + dy), radius, fill=fill)
    return image


def _mosaic(scene: Scene) -> Image.Image:
    """Irregular tiles with joints: the Voronoi cells of jittered grid points."""
    side, rng = len(scene.tone), scene.rng
    cells = int(rng.integers(8, 11))
    grid = np.moveaxis(np.mgrid[-1:cells + 1, -1:cells + 1], 0, -1) + rng.uniform(0.1, 0.9, (cells + 2, cells + 2, 2))
    row, column = np.mgrid[:side, :side] * (cells / side)
    nearest, second, shade = np.full((3, side, side), 9.0)
    shades = scene.at(grid.reshape(-1, 2)[:, ::-1] * side / cells) + rng.normal(0, 0.15, (cells + 2) ** 2)
    shades = shades.reshape(cells + 2, cells + 2)
    for dy in range(3):
        for dx in range(3):
            home = row.astype(int) + dy, column.astype(int) + dx
            distance = np.hypot(grid[(*home, 0)] - row, grid[(*home, 1)] - column)
            second = np.minimum(second, np.maximum(nearest, distance))
            shade = np.where(distance < nearest, shades[home], shade)
            nearest = np.minimum(nearest, distance)
    return Image.fromarray(scene.paint(np.where(second - nearest < 0.16, 0, 0.15 + 0.85 * shade)))


def _blocks(scene: Scene) -> Image.Image:
    """Rectangles with heavy outlines, smaller where the tone varies more."""
    side, rng = len(scene.tone), scene.rng
    blocks = [(0, 0, side, side)]
    while len(blocks) < 30:
        x0, y0, x1, y1 = blocks.pop(max(range(len(blocks)), key=lambda index: _priority(scene.tone, blocks[index])))
        cut = rng.uniform(0.35, 0.65)
        if x1 - x0 > y1 - y0:
            middle = int(x0 + cut * (x1 - x0))
            blocks += [(x0, y0, middle, y1), (middle, y0, x1, y1)]
        else:
            middle = int(y0 + cut * (y1 - y0))
            blocks += [(x0, y0, x1, middle), (x0, middle, x1, y1)]
    image, pen = scene.canvas(0.0)
    shades = [scene.tone[y0:y1, x0:x1].mean() + rng.normal(0, 0.15) for x0, y0, x1, y1 in blocks]
    for block, fill in zip(blocks, scene.fills(np.array(shades)), strict=True):
        pen.rectangle(block, fill=fill, outline=scene.fills(np.zeros(1))[0], width=max(1, side // 40))
    return image


def _priority(tone: np.ndarray, block: tuple[int, int, int, int]) -> float:
    """The block with the highest is split next."""
    x0, y0, x1, y1 = block
    return (x1 - x0) * (y1 - y0) * (0.1 + float(tone[y0:y1, x0:x1].std()))


def _rings(scene: Scene) -> Image.Image:
    """Groups of concentric circles that overlap."""
    side, rng = len(scene.tone), scene.rng
    image, pen = scene.canvas(scene.tone)
    centres = rng.uniform(0, side, (24, 2))
    for (x, y), tone, rings in zip(centres, scene.at(centres), rng.integers(4, 7, len(centres)), strict=True):
        light, dark = scene.fills(np.array([0.4 * tone + 0.6, 0.4 * tone]))
        for ring in range(rings, 0, -1):
            pen.circle((x, y), ring * side * 0.032, fill=dark if ring % 2 else light)
    return image


def _spiral(scene: Scene) -> Image.Image:
    """One spiral line, thicker in the dark."""
    side, rng = len(scene.tone), scene.rng
    y, x = np.mgrid[:side, :side] - rng.uniform(0.3, 0.7, 2)[:, None, None] * side
    turns = np.hypot(x, y) / (side * rng.uniform(0.045, 0.055)) - np.arctan2(y, x) / (2 * np.pi)
    return scene.ink(np.abs(turns % 1 - 0.5) < 0.1 + 0.3 * (1 - scene.tone))


ARTISTS: dict[str, Callable[[Scene], Image.Image]] = {
    "Vera_Hatch": _hatching, "Otto_Dots": _dots, "Mina_Contour": _contours, "Luis_Brush": _strokes,
    "Quinn_Blocks": _blocks, "Nora_Rings": _rings, "Tessa_Mosaic": _mosaic, "Sol_Spiral": _spiral}
