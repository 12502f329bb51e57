"""PNG pictures of groups: a sheet of each group's pictures, and a map of all."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from data.images import ImageError, decode_image
from drawing.contact_sheet import GAP, MOUNT, PAPER, TEXT, TITLE
from drawing.lettering import counted, typeset, write
from drawing.plots import INK
from utils import atomic_path

SHEET, MAP = "clusters.png", "map.png"
MOST_CLUSTERS, COLUMNS, SIDE = 30, 10, 128  # groups and pictures of each on the sheet; px
MOST_ON_MAP, PLANE, CELL, FRAME, BADGE, DOT = 2000, 1400, 56, 3, 12, 4  # pictures; px
HEAD, KEY, MOST_IN_KEY = 76, 300, 18  # px above and beside the map; groups in its key: of as many colours
COMPONENTS = 50  # of PCA before t-SNE, as its authors do
ALONE = "#9aa2ad"  # of pictures in no group
PROJECTIONS = {"tsne": "t-SNE", "pca": "PCA: the first two components"}
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
    titles = [f"cluster {cluster['cluster_id']}: {counted(cluster['size'])}" for cluster in shown]
    width = max(columns * (SIDE + GAP) - GAP, *(math.ceil(typeset(title, 16)[0].getlength(title)) for title in titles))
    row_height = TITLE + SIDE + 2 * GAP
    sheet = Image.new("RGB", (2 * GAP + width, GAP + len(shown) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (cluster, title) in enumerate(zip(shown, titles, strict=True)):
        top = GAP + number * row_height
        write(draw, (GAP, top + TITLE - 8), title, 16, INK)
        for column, name in enumerate(cluster["images"][:columns]):
            sheet.paste(_thumbnail(folder / name, SIDE), (GAP + column * (SIDE + GAP), top + TITLE))
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def cluster_map(features: np.ndarray, names: Sequence[str], clusters: Clusters, path: Path, *, folder: Path | None,
                projection: str, seed: int) -> None:
    """Write a PNG with a dot in its group's colour for every picture where its features lie, and a key of the groups.

    Below the dots the pictures themselves, framed in that colour and bearing the group's number; where they would hide
    each other, one. Of more than `MOST_ON_MAP` pictures so many are drawn, evenly spaced among all.

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
    plane, projection = _projected(features[chosen], projection, seed)
    places = (GAP, HEAD) + plane * (PLANE - 2 * GAP - CELL)
    canvas = Image.new("RGB", (PLANE + KEY, HEAD + PLANE), PAPER)
    draw = ImageDraw.Draw(canvas)
    cells: dict[tuple[int, int], int] = {}  # the first picture of each
    if folder is not None:
        for row, (x, y) in zip(chosen.tolist(), places.tolist(), strict=True):
            cells.setdefault((GAP + int((x - GAP) // CELL) * CELL, HEAD + int((y - HEAD) // CELL) * CELL), row)
    for corner, row in cells.items():
        _pin(canvas, draw, corner, folder / names[row], group.get(names[row]))
    for row, (x, y) in zip(chosen.tolist(), places.tolist(), strict=True):
        draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=_colour(group.get(names[row])), outline=PAPER)
    for line, size, baseline in zip(map_title(len(names), len(chosen), len(cells), projection), (TITLE, TEXT), (34, 58),
                                    strict=True):
        write(draw, (GAP, baseline), line, size, INK)
    _draw_key(draw, map_key(clusters, sum(name not in group for name in names)))
    with atomic_path(path) as partial:
        canvas.save(partial, format="PNG", optimize=True)


def map_title(total: int, drawn: int, thumbnails: int, projection: str) -> tuple[str, str]:
    """What the map shows, and how many of its pictures can be seen."""
    what = counted(total) if drawn == total else f"{drawn} of {counted(total)}"
    seen = f"; {thumbnails} of the {drawn} also as thumbnails (one where several lie)" if thumbnails else ""
    return (f"{what} by their features ({PROJECTIONS[projection]})",
            f"A dot for each{seen}. Near each other means alike to the network; the axes have no unit.")


def map_key(clusters: Clusters, alone: int) -> list[tuple[str, str]]:
    """(colour, text) of the largest groups, of how many more there are, and of the pictures in none."""
    lines = [(_colour(cluster["cluster_id"]), f"cluster {cluster['cluster_id']}: {counted(len(cluster['images']))}")
             for cluster in clusters[:MOST_IN_KEY]]
    if len(clusters) > MOST_IN_KEY:
        lines.append((PAPER, f"… and {len(clusters) - MOST_IN_KEY} more, colours repeat"))
    return [*lines, (ALONE, f"in no cluster: {counted(alone)}")] if alone else lines


def _draw_key(draw: ImageDraw.ImageDraw, lines: Sequence[tuple[str, str]]) -> None:
    for number, (colour, text) in enumerate(lines):
        top = HEAD + number * (TEXT + 11)
        draw.rectangle((PLANE, top, PLANE + TEXT, top + TEXT), fill=colour)
        write(draw, (PLANE + TEXT + 8, top + TEXT - 2), text, TEXT, INK)


def _projected(features: np.ndarray, projection: str, seed: int) -> tuple[np.ndarray, str]:
    """(N, D) -> (N, 2), each coordinate from 0 to 1, and the projection that was possible."""
    plane = np.zeros((len(features), 2))
    drawn = "pca"
    if len(features) > 1:
        reduced = PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(features)
        # Equal pictures have no spread, by which t-SNE divides: scikit-learn 1.9 then crashes.
        if projection == "tsne" and len(features) > 3 and reduced.shape[1] > 1 and np.ptp(reduced[:, 0]) > 0:
            perplexity = min(30, (len(features) - 1) / 3)
            reduced = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
            drawn = projection
        plane[:, :reduced[:, :2].shape[1]] = reduced[:, :2]
    spread = np.ptp(plane, axis=0)
    return (plane - plane.min(axis=0)) / np.where(spread > 0, spread, 1), drawn


def _pin(canvas: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], file: Path,
         number: int | None) -> None:
    left, top = corner
    draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=_colour(number))
    canvas.paste(_thumbnail(file, CELL - 2 * FRAME - 1), (left + FRAME, top + FRAME))
    if number is not None:
        text = str(number)
        draw.rectangle((left, top, left + BADGE * (1 + len(text)) / 1.6, top + BADGE + 2), fill=_colour(number))
        write(draw, (left + 3, top + BADGE), text, BADGE, PAPER)


@functools.cache
def _palette() -> Sequence[str]:
    """Eighteen colours, the strong ones first; no grey, which is `ALONE`'s."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = [to_hex(colour) for colour in colormaps["tab20"].colors]
    return colours[:14:2] + colours[16::2] + colours[1:14:2] + colours[17::2]


def _colour(number: int | None) -> str:
    return ALONE if number is None else _palette()[number % len(_palette())]


def _thumbnail(file: Path, side: int) -> Image.Image:
    """The whole picture on a square of `side` px; an empty one where it was moved or damaged since."""
    try:
        return ImageOps.pad(decode_image(file), (side, side), color=MOUNT)
    except ImageError:
        return Image.new("RGB", (side, side), MOUNT)
