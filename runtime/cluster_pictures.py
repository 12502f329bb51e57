"""PNG pictures of groups: a sheet of each group's pictures, and a map of all."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from data.images import ImageError, decode_image
from runtime.plots import GAP, INK, MOUNT, PAPER, TITLE, typeset
from utils import atomic_path

SHEET, MAP = "clusters.png", "map.png"
MOST_CLUSTERS, COLUMNS, SIDE = 30, 10, 128  # groups and pictures of each on the sheet; px
MOST_ON_MAP, PLANE, CELL, FRAME, BADGE, DOT = 2000, 1400, 56, 3, 12, 4  # pictures; px
COMPONENTS = 50  # of PCA before t-SNE, as its authors do
ALONE = "#9aa2ad"  # of pictures in no group
Clusters = Sequence[Mapping[str, Any]]


def cluster_sheet(clusters: Clusters, folder: Path, path: Path) -> None:
    """Write a PNG with a row for each of the largest groups: its pictures nearest to the centroid, nearest first.

    Args:
        clusters: those of cluster_assignments.json, at least one.
        folder: what their `images` are relative to.
        path: the PNG to write.
    """
    shown = clusters[:MOST_CLUSTERS]
    columns = min(COLUMNS, max(len(cluster["images"]) for cluster in shown))
    row_height = TITLE + SIDE + 2 * GAP
    sheet = Image.new("RGB", (GAP + columns * (SIDE + GAP), GAP + len(shown) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, cluster in enumerate(shown):
        top = GAP + number * row_height
        _write(draw, (GAP, top + TITLE - 8), f"cluster {cluster['cluster_id']}: {cluster['size']} pictures", 16, INK)
        for column, name in enumerate(cluster["images"][:columns]):
            sheet.paste(_thumbnail(folder / name, SIDE), (GAP + column * (SIDE + GAP), top + TITLE))
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def cluster_map(features: np.ndarray, names: Sequence[str], clusters: Clusters, path: Path, *, folder: Path | None,
                projection: str, seed: int) -> None:
    """Write a PNG with every picture where its features lie, framed in its group's colour and bearing its number.

    Where pictures would hide each other one is shown, and the others are dots where there is room. Of more than
    `MOST_ON_MAP` pictures so many are shown, evenly spaced among all.

    Args:
        features: (N, D), one row per picture.
        names: one per row.
        clusters: those of cluster_assignments.json.
        path: the PNG to write.
        folder: what `names` are relative to; None shows dots only.
        projection: `tsne` or `pca`.
        seed: of t-SNE.
    """
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_ON_MAP)).round().astype(int))
    group = {name: cluster["cluster_id"] for cluster in clusters for name in cluster["images"]}
    places = GAP + _projected(features[chosen], projection, seed) * (PLANE - 2 * GAP - CELL)
    canvas = Image.new("RGB", (PLANE, PLANE), PAPER)
    draw = ImageDraw.Draw(canvas)
    taken: dict[tuple[int, int], int] = {}
    for row, (x, y) in zip(chosen.tolist(), places.tolist(), strict=True):
        corner = (GAP + int((x - GAP) // CELL) * CELL, GAP + int((y - GAP) // CELL) * CELL)
        if folder is None or taken.setdefault(corner, row) != row:
            draw.ellipse((x, y, x + 2 * DOT, y + 2 * DOT), fill=_colour(group.get(names[row])))
    for corner, row in taken.items():
        _pin(canvas, draw, corner, folder / names[row], group.get(names[row]))
    with atomic_path(path) as partial:
        canvas.save(partial, format="PNG", optimize=True)


def _projected(features: np.ndarray, projection: str, seed: int) -> np.ndarray:
    """(N, D) -> (N, 2), each coordinate from 0 to 1."""
    plane = np.zeros((len(features), 2))
    if len(features) > 1:
        reduced = PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(features)
        # Equal pictures have no spread, by which t-SNE divides: scikit-learn 1.9 then crashes.
        if projection == "tsne" and len(features) > 3 and reduced.shape[1] > 1 and np.ptp(reduced[:, 0]) > 0:
            perplexity = min(30, (len(features) - 1) / 3)
            reduced = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
        plane[:, :reduced[:, :2].shape[1]] = reduced[:, :2]
    spread = np.ptp(plane, axis=0)
    return (plane - plane.min(axis=0)) / np.where(spread > 0, spread, 1)


def _pin(canvas: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], file: Path,
         number: int | None) -> None:
    left, top = corner
    draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=_colour(number))
    canvas.paste(_thumbnail(file, CELL - 2 * FRAME - 1), (left + FRAME, top + FRAME))
    if number is not None:
        text = str(number)
        draw.rectangle((left, top, left + BADGE * (1 + len(text)) / 1.6, top + BADGE + 2), fill=_colour(number))
        _write(draw, (left + 3, top + BADGE), text, BADGE, PAPER)


@functools.cache
def _palette() -> Sequence[str]:
    """Twenty colours, the ten strong ones first."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = [to_hex(colour) for colour in colormaps["tab20"].colors]
    return colours[::2] + colours[1::2]


def _colour(number: int | None) -> str:
    return ALONE if number is None else _palette()[number % len(_palette())]


def _thumbnail(file: Path, side: int) -> Image.Image:
    """The whole picture on a square of `side` px; an empty one where it was moved or damaged since."""
    try:
        return ImageOps.pad(decode_image(file), (side, side), color=MOUNT)
    except ImageError:
        return Image.new("RGB", (side, side), MOUNT)


def _write(draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, size: int, colour: str) -> None:
    font, drawn = typeset(text, size)
    draw.text(start, drawn, fill=colour, font=font, anchor="ls")
