"""PNG drawings of clusters: a sheet with a row of pictures for each, and a map of all pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from data.images import ImageError, decode_image
from drawing.contact_sheet import GAP, TEXT, TITLE
from drawing.lettering import draw_text, format_count, typeset
from drawing.palette import CLUSTERS, INK, MOUNT, NO_CLUSTER, PAPER
from utils import atomic_path

SHEET, MAP = "clusters.png", "map.png"
MOST_CLUSTERS, COLUMNS, SIDE = 30, 10, 128  # rows and columns of the sheet; px
MOST_ON_MAP, PLANE, CELL, FRAME, BADGE, DOT = 2000, 1400, 56, 3, 12, 4  # pictures; px
HEAD, KEY, MOST_IN_KEY = 76, 300, len(CLUSTERS)  # px above and beside the map; clusters in its key
COMPONENTS = 50  # of PCA before t-SNE, as its authors do
PROJECTIONS = {"tsne": "t-SNE", "pca": "PCA: the first two components"}
Clusters = Sequence[Mapping[str, Any]]  # as in cluster_assignments.json


def cluster_sheet(clusters: Clusters, folder: Path, path: Path) -> None:
    """Write a PNG with a row for each of the largest clusters: the pictures nearest to its centroid, nearest first.

    Args:
        clusters: at least one.
        folder: what their `images` are relative to.
        path: the PNG to write.
    """
    shown = clusters[:MOST_CLUSTERS]
    columns = min(COLUMNS, max(len(cluster["images"]) for cluster in shown))
    titles = [f"cluster {cluster['cluster_id']}: {format_count(cluster['size'])}" for cluster in shown]
    width = max(columns * (SIDE + GAP) - GAP, *(math.ceil(typeset(title, 16)[0].getlength(title)) for title in titles))
    row_height = TITLE + SIDE + 2 * GAP
    sheet = Image.new("RGB", (2 * GAP + width, GAP + len(shown) * row_height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (cluster, title) in enumerate(zip(shown, titles, strict=True)):
        top = GAP + number * row_height
        draw_text(draw, (GAP, top + TITLE - 8), title, 16, INK)
        for column, name in enumerate(cluster["images"][:columns]):
            sheet.paste(_thumbnail(folder / name, SIDE), (GAP + column * (SIDE + GAP), top + TITLE))
    with atomic_path(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def cluster_map(features: np.ndarray, names: Sequence[str], clusters: Clusters, path: Path, *, folder: Path | None,
                projection: str, seed: int) -> None:
    """Write a PNG with a dot in its cluster's colour for every picture where its features lie, and a key.

    Thumbnails lie below the dots, framed in the same colour and with the cluster's number; of those that would hide
    each other one is drawn. Of more than `MOST_ON_MAP` pictures as many are drawn, evenly spaced among all.

    Args:
        features: (N, D), one row per picture.
        names: one per row.
        clusters: the clusters.
        path: the PNG to write.
        folder: what `names` are relative to; None draws dots only.
        projection: `tsne` or `pca`.
        seed: of t-SNE.
    """
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_ON_MAP)).round().astype(int))
    ids = {name: cluster["cluster_id"] for cluster in clusters for name in cluster["images"]}
    plane, projection = _project(features[chosen], projection, seed)
    positions = ((GAP, HEAD) + plane * (PLANE - 2 * GAP - CELL)).tolist()
    canvas = Image.new("RGB", (PLANE + KEY, HEAD + PLANE), PAPER)
    draw = ImageDraw.Draw(canvas)
    cells: dict[tuple[int, int], str] = {}  # left and top of each thumbnail, and its picture
    drawn = [names[row] for row in chosen]
    if folder is not None:
        for name, (x, y) in zip(drawn, positions, strict=True):
            cells.setdefault((GAP + int((x - GAP) // CELL) * CELL, HEAD + int((y - HEAD) // CELL) * CELL), name)
        for corner, name in cells.items():
            _draw_thumbnail(canvas, draw, corner, folder / name, ids.get(name))
    for name, (x, y) in zip(drawn, positions, strict=True):
        draw.ellipse((x - DOT, y - DOT, x + DOT, y + DOT), fill=_colour(ids.get(name)), outline=PAPER)
    title, note = map_title(len(names), len(chosen), len(cells), projection)
    draw_text(draw, (GAP, 34), title, TITLE, INK)
    draw_text(draw, (GAP, 58), note, TEXT, INK)
    for number, (colour, text) in enumerate(map_key(clusters, sum(name not in ids for name in names))):
        top = HEAD + number * (TEXT + 11)
        draw.rectangle((PLANE, top, PLANE + TEXT, top + TEXT), fill=colour)
        draw_text(draw, (PLANE + TEXT + 8, top + TEXT - 2), text, TEXT, INK)
    with atomic_path(path) as partial:
        canvas.save(partial, format="PNG", optimize=True)


def map_title(total: int, drawn: int, thumbnails: int, projection: str) -> tuple[str, str]:
    """What the map shows, and how many of its pictures can be seen."""
    what = format_count(total) if drawn == total else f"{drawn} of {format_count(total)}"
    seen = f"; {thumbnails} of the {drawn} also as thumbnails (one where several lie)" if thumbnails else ""
    return (f"{what} by their features ({PROJECTIONS[projection]})",
            f"A dot for each{seen}. Near each other means alike to the network; the axes have no unit.")


def map_key(clusters: Clusters, unassigned: int) -> list[tuple[str, str]]:
    """(colour, text) of the largest clusters, of how many more there are, and of the pictures in none."""
    shown = [(cluster["cluster_id"], len(cluster["images"])) for cluster in clusters[:MOST_IN_KEY]]
    lines = [(_colour(number), f"cluster {number}: {format_count(size)}") for number, size in shown]
    if len(clusters) > MOST_IN_KEY:
        lines.append((PAPER, f"… and {len(clusters) - MOST_IN_KEY} more, colours repeat"))
    return [*lines, (NO_CLUSTER, f"in no cluster: {format_count(unassigned)}")] if unassigned else lines


def _project(features: np.ndarray, projection: str, seed: int) -> tuple[np.ndarray, str]:
    """(N, D) -> (N, 2), each coordinate from 0 to 1, and the projection that was possible."""
    plane = np.zeros((len(features), 2))
    used = "pca"
    # Of size one and in float64: t-SNE divides by the spread of its start; scikit-learn 1.9 crashes if it underflows.
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    size = np.abs(centred).max(initial=0)
    if size > 0:
        reduced = PCA(min(COMPONENTS, *features.shape), random_state=seed).fit_transform(centred / size)
        if projection == "tsne" and len(features) > 3 and reduced.shape[1] > 1:
            perplexity = min(30, (len(features) - 1) / 3)
            reduced = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
            used = projection
        plane[:, :reduced[:, :2].shape[1]] = reduced[:, :2]
    spread = np.ptp(plane, axis=0)
    return (plane - plane.min(axis=0)) / np.where(spread > 0, spread, 1), used


def _draw_thumbnail(canvas: Image.Image, draw: ImageDraw.ImageDraw, corner: tuple[int, int], file: Path,
                    cluster_id: int | None) -> None:
    left, top = corner
    colour = _colour(cluster_id)
    draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=colour)
    canvas.paste(_thumbnail(file, CELL - 2 * FRAME - 1), (left + FRAME, top + FRAME))
    if cluster_id is not None:
        text = str(cluster_id)
        draw.rectangle((left, top, left + BADGE * (1 + len(text)) / 1.6, top + BADGE + 2), fill=colour)
        draw_text(draw, (left + 3, top + BADGE), text, BADGE, PAPER)


def _colour(cluster_id: int | None) -> str:
    return NO_CLUSTER if cluster_id is None else CLUSTERS[cluster_id % len(CLUSTERS)]


def _thumbnail(file: Path, side: int) -> Image.Image:
    """The whole picture on a square of `side` px; an empty square where the file was moved or damaged since."""
    try:
        return ImageOps.pad(decode_image(file), (side, side), color=MOUNT)
    except ImageError:
        return Image.new("RGB", (side, side), MOUNT)
