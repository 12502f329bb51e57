"""PNG drawings of clusters: a sheet with a row of pictures for each, and a map of all pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from data.names import named_file
from data.picture_files import artist_of
from drawing.contact_sheet import GAP, SMALL, TEXT, TITLE, Tile, contact_sheet, thumbnail
from drawing.lettering import draw_text, format_count, text_notes, wrap
from drawing.palette import GROUPS, INK, MOUNT, NO_GROUP, PAPER, SLATE, SMALL_GROUPS
from utils import atomic_path

SHEET, MAP = "clusters.png", "map.png"
MOST_CLUSTERS, COLUMNS, SIDE, MOST_ARTISTS = 30, 10, 128, 5  # rows and columns of the sheet; px; named in a heading
MOST_ON_MAP, PLANE, CELL, FRAME, BADGE, DOT = 2000, 1400, 56, 4, 12, 4  # pictures; px
HEAD, KEY = 76, 330  # px above and beside the map
COMPONENTS = 50  # of PCA before t-SNE, as its authors do
PROJECTIONS = {"tsne": "t-SNE", "pca": "PCA: the first two components"}
Clusters = Sequence[Mapping[str, Any]]  # as in cluster_assignments.json


def cluster_sheet(clusters: Clusters, folder: Path, path: Path) -> None:
    """Write a PNG with a row for each of the largest clusters: the pictures nearest to its centroid, nearest first.

    Where folders are artists, it says how many pictures of each are in the cluster.

    Args:
        clusters: at least one.
        folder: what their `images` are relative to.
        path: the PNG to write.
    """
    sections = [(heading(cluster), [
        Tile(picture=named_file(folder, name), file=name.partition("/")[2] or name, caption=artist_of(name) or "")
        for name in cluster["images"][:COLUMNS]]) for cluster in clusters[:MOST_CLUSTERS]]
    shown = f"the {len(sections)} largest of " if len(sections) < len(clusters) else ""
    title = f"{shown}{format_count(len(clusters), 'cluster')}: the pictures nearest to each centre"
    contact_sheet(sections, path, title=title, columns=COLUMNS, side=SIDE)


def heading(cluster: Mapping[str, Any]) -> str:
    """The number of a cluster, its size, and its most common artists where folders are artists."""
    artists = Counter(artist for name in cluster["images"] if (artist := artist_of(name))).most_common()
    told = [f"{count} {artist}" for artist, count in artists[:MOST_ARTISTS]]
    if more := len(artists) - len(told):
        told.append(f"{sum(count for _, count in artists[MOST_ARTISTS:])} by {format_count(more, 'other artist')}")
    return f"cluster {cluster['cluster_id']}, {format_count(cluster['size'])}" + ": " * bool(told) + ", ".join(told)


def cluster_map(features: np.ndarray, names: Sequence[str], clusters: Clusters, path: Path, *, folder: Path | None,
                projection: str, seed: int) -> None:
    """Write a PNG with a dot for every picture where its features lie, and a key of the dots' colours.

    For the colours see `map_groups`. Thumbnails lie below the dots; of those that would hide each other one is drawn,
    with the number of its cluster. Without thumbnails the numbers of the largest clusters stand above their middles.
    Of more than `MOST_ON_MAP` pictures as many are drawn, evenly spaced among all.

    Args:
        features: (N, D), one row per picture.
        names: one per row.
        clusters: the clusters.
        path: the PNG to write.
        folder: what `names` are relative to; None draws dots only.
        projection: `tsne` or `pca`.
        seed: of t-SNE.
    """
    rows = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_ON_MAP)).round().astype(int))
    ids = {name: cluster["cluster_id"] for cluster in clusters for name in cluster["images"]}
    kind, groups = map_groups(names, ids)
    key, colours = map_key(kind, groups)
    plane, projection = project(features[rows], projection, seed)
    points = list(zip([names[row] for row in rows], *(plane * (PLANE - 2 * GAP - CELL)).T.tolist(), strict=True))
    cells = {(int(x // CELL), int(y // CELL)): name for name, x, y in reversed(points)} if folder else {}
    canvas = Image.new("RGB", (PLANE + KEY, HEAD + PLANE), PAPER)
    draw = ImageDraw.Draw(canvas)
    for (column, row), name in cells.items():
        left, top, inside = GAP + column * CELL, HEAD + row * CELL, CELL - 2 * FRAME - 1
        draw.rectangle((left, top, left + CELL - 2, top + CELL - 2), fill=colours[groups[name]])
        canvas.paste(thumbnail(named_file(folder or Path(), name), inside) or MOUNT,
                     (left + FRAME, top + FRAME, left + FRAME + inside, top + FRAME + inside))
    for name, x, y in points:
        left, top = GAP + x - DOT, HEAD + y - DOT
        draw.ellipse((left, top, left + 2 * DOT, top + 2 * DOT), fill=colours[groups[name]], outline=PAPER)
    for x, y, number in _numbers(points, cells, ids):
        draw_text(draw, (GAP + x, HEAD + y), str(number), BADGE, INK, halo=PAPER)
    title, note = map_title(len(names), len(points), len(cells), projection, kind)
    draw_text(draw, (GAP, 34), title, TITLE, INK)
    draw_text(draw, (GAP, 58), note, TEXT, INK)
    for number, (colour, text) in enumerate(key):
        top = HEAD + number * (TEXT + 11)
        draw.rectangle((PLANE, top, PLANE + TEXT, top + TEXT), fill=colour)
        draw_text(draw, (PLANE + TEXT + 8, top + TEXT - 2), wrap(text, TEXT, KEY - TEXT - 8 - GAP)[0], TEXT, INK)
    foot = text_notes(text for _, text in key)
    draw_text(draw, (GAP, HEAD + PLANE - 8), wrap(foot, SMALL, PLANE + KEY - 2 * GAP)[0], SMALL, SLATE)
    with atomic_path(path) as partial:
        canvas.save(partial, format="PNG")


def map_groups(names: Iterable[str], ids: Mapping[str, int]) -> tuple[str, dict[str, str | None]]:
    """What colours stand for, "artist" or "cluster", and whose each picture is; None for one in no cluster.

    Colours are artists where all folders are, and the artists that get one have at least half of the pictures.
    """
    artists = {name: artist_of(name) for name in names}
    sizes = Counter(artists.values())
    if None not in sizes and len(sizes) > 1 and 2 * sum(n for _, n in sizes.most_common(len(GROUPS))) >= sizes.total():
        return "artist", artists
    return "cluster", {name: f"cluster {ids[name]}" if name in ids else None for name in artists}


def map_key(kind: str, groups: Mapping[str, str | None]) -> tuple[list[tuple[str, str]], dict[str | None, str]]:
    """(colour, text) of the largest groups and of the rest together; and the colour of each group."""
    sizes = Counter(groups.values())
    unassigned = sizes.pop(None, 0)
    ranked = sizes.most_common()
    colours = {None: NO_GROUP, **{group: (*GROUPS, SMALL_GROUPS)[min(rank, len(GROUPS))]
                                  for rank, (group, _) in enumerate(ranked)}}
    lines = [(colours[group], f"{group}: {size}") for group, size in ranked[:len(GROUPS)]]
    if more := ranked[len(GROUPS):]:
        lines.append((SMALL_GROUPS, f"{format_count(len(more), f'other {kind}')}: {sum(size for _, size in more)}"))
    return [*lines, *[(NO_GROUP, f"in no cluster: {unassigned}")] * bool(unassigned)], colours


def map_title(total: int, drawn: int, thumbnails: int, projection: str, kind: str) -> tuple[str, str]:
    """What the map shows, and how many of its pictures can be seen."""
    what = format_count(total) if drawn == total else f"{drawn} of {format_count(total)}"
    seen = f", {thumbnails} of the {drawn} also as thumbnails (one where several lie)" if thumbnails else ""
    return (f"{what} by their features ({PROJECTIONS[projection]})",
            f"A dot in its {kind}'s colour for each{seen}; numbers are clusters. Near each other means alike to the "
            "network; the axes have no unit.")


def _numbers(points: Sequence[tuple[str, float, float]], cells: Mapping[tuple[int, int], str],
             ids: Mapping[str, int]) -> Iterator[tuple[float, float, int]]:
    """Where the numbers of clusters stand: on the thumbnails, or where there are none in the middle of each cluster."""
    for (column, row), name in cells.items():
        if name in ids:
            yield column * CELL + FRAME + 1, row * CELL + FRAME + BADGE - 2, ids[name]
    for number in () if cells else sorted({ids[name] for name, _, _ in points if name in ids})[:MOST_CLUSTERS]:
        x, y = np.median([(x, y) for name, x, y in points if ids.get(name) == number], axis=0)
        yield x - BADGE / 2, y - 2 * DOT, number


def project(features: np.ndarray, projection: str, seed: int) -> tuple[np.ndarray, str]:
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
