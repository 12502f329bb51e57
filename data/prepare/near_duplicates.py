"""The same picture resized, compressed again, lightly cropped or recoloured: found by hashes, checked on thumbnails."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from data.images import ImageError, decode_image
from data.prepare.integrity import ENDS_PROCESS, find_copies
from data.worker_pool import Progress, map_ordered

# Chosen on 415 pictures of seven artists and 300 copies of them (resized 30-90 %, JPEG 50-90, recoloured; half of them
# cropped to 90-98 % of each side). 8 bits find all whole and 95 % of the cropped copies. Aligned copies correlate with
# 0.93 or more; of other pictures the most alike, drawings of one composition, with 0.87. Other pictures in one frame
# reach 0.98, so the parts are compared, too: of copies, 90 % of these correlate with 0.74 or more, in a frame 0.4.
_DISTANCE = 8  # bits of 64
_SIDE = 32  # of a thumbnail, px
_WINDOW = 0.94  # side of the windows that find crops, as a share of the picture's
_PLACES = ((0.0, 0.0), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))  # x and y of theirs: corners and middle
_LEAST_CORRELATION = 0.92
_LEAST_OF_PARTS = 0.65
_PART = 4  # side of a part, px of a thumbnail
_EMPTY_PART = 0.15  # contrast below which a part does not count, as a share of the picture's
_FLAT = 2.0  # standard deviation of a thumbnail, of 255, below which there is nothing to compare
_LEAST_SHIFT = 4  # px of a thumbnail; a picture that is like itself after such a shift is a pattern:
_PATTERN = 0.96  # parallel strokes correlate with 0.967 or more, the 415 pictures with 0.954 or less
_MOST_CUT = 8  # half px of a thumbnail by which one side of a crop may be shorter
_WORTH_ALIGNING = 0.85  # correlation within half a px above which the alignment goes on
_LARGEST_CHAIN = 20  # pictures that may be joined through others
_BUCKET = 20  # hashes; where fewer share a bucket, calls take longer than comparing them
_ROWS_AT_ONCE, _QUERIES_AT_ONCE = 64, 1024  # compared in the processor's cache


class Look(NamedTuple):
    """What is kept of a picture: `hashes` (views,) uint64 of the whole and the windows, `thumbnail` (S, S) uint8."""

    hashes: np.ndarray
    thumbnail: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """The looks of N pictures, 1.1 KB each: `hashes` (N, views) uint64, `thumbnails` (N, S, S) uint8."""

    paths: list[Path]
    hashes: np.ndarray
    thumbnails: np.ndarray


@dataclass(frozen=True, kw_only=True)
class NearDuplicates:
    """Pictures that are one picture.

    Attributes:
        groups: two or more each, in the order of their first.
        parted: pairs in two groups, of a chain that was too long for one.
    """

    groups: list[list[Path]]
    parted: list[tuple[Path, Path]]


def look_at_image(image: Image.Image) -> Look:
    """The look of a picture that was decoded in full: JPEG's draft modes would move a hash by up to 6 bits.

    The hashes are those of `imagehash.phash`, which transforms view by view: which of the lowest 8 x 8 frequencies of
    the cosine transform lie above their median.
    """
    from scipy.fft import dctn  # slow to import

    grey = image.convert("L").resize((2 * _SIDE, 2 * _SIDE), Image.Resampling.LANCZOS, reducing_gap=2.0)
    slack, side = 2 * _SIDE * (1 - _WINDOW), 2 * _SIDE * _WINDOW
    boxes = [(x * slack, y * slack, x * slack + side, y * slack + side) for x, y in _PLACES]
    views = np.stack([np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, box=box))
                      for box in ((0, 0, 2 * _SIDE, 2 * _SIDE), *boxes)])
    low = dctn(views.astype(float), axes=(1, 2))[:, :8, :8].reshape(len(views), -1)
    bits = low > np.median(low, axis=1, keepdims=True)
    return Look(np.packbits(bits, axis=1).view(np.uint64).ravel(), views[0])


def scan_looks(paths: Sequence[Path], *, workers: int | None, max_pixels: int,
               progress: Progress | None = None) -> tuple[dict[Path, str], Looks]:
    """The damaged files of `paths` with the reason, as `scan_images` finds them, and the looks of the others.

    Each picture is decoded once. The arguments are those of `scan_images`.
    """
    damaged: dict[Path, str] = {}
    sound: list[Path] = []
    hashes = np.zeros((len(paths), 1 + len(_PLACES)), np.uint64)
    thumbnails = np.zeros((len(paths), _SIDE, _SIDE), np.uint8)
    look = functools.partial(_try_look, max_pixels=max_pixels)
    looks = map_ordered(look, paths, workers=workers, lost=ENDS_PROCESS, progress=progress)
    for path, found in zip(paths, looks, strict=True):
        if isinstance(found, str):
            damaged[path] = found
        else:
            hashes[len(sound)], thumbnails[len(sound)] = found
            sound.append(path)
    return damaged, Looks(paths=sound, hashes=hashes[:len(sound)], thumbnails=thumbnails[:len(sound)])


def _try_look(path: Path, max_pixels: int) -> Look | str:
    try:
        return look_at_image(decode_image(path, max_pixels=max_pixels))
    except ImageError as error:
        return error.reason


def find_near_duplicates(looks: Looks, *, skip: Collection[Path] = ()) -> NearDuplicates:
    """The near-duplicates among `looks` without `skip`.

    A group of more than `_LARGEST_CHAIN` pictures holds only those that are alike one of them, so that a chain of
    pictures, each like the next one, does not join what is different.
    """
    from scipy.cluster.hierarchy import DisjointSet  # slow to import

    thumbnails = looks.thumbnails
    asked = np.array([number for number, path in enumerate(looks.paths)
                      if path not in skip and thumbnails[number].std() >= _FLAT], np.int64)
    pairs = asked[candidate_pairs(looks.hashes[asked])].tolist()
    joined = DisjointSet(number for pair in pairs for number in pair)
    neighbours: dict[int, list[int]] = defaultdict(list)
    for first, second in pairs:
        # Of many versions of one picture most pairs are joined through others by then, and need no check.
        if not joined.connected(first, second) and are_alike(thumbnails[first], thumbnails[second]):
            joined.merge(first, second)
            neighbours[first].append(second)
            neighbours[second].append(first)
    groups = [part for group in joined.subsets() for part in (
        [sorted(group)] if len(group) <= _LARGEST_CHAIN else _stars(group, neighbours, thumbnails))]
    group_of = {number: place for place, group in enumerate(groups) for number in group}
    parted = [(looks.paths[first], looks.paths[second]) for first in sorted(neighbours)
              for second in sorted(neighbours[first]) if first < second and group_of[first] != group_of[second]]
    return NearDuplicates(groups=[[looks.paths[number] for number in group] for group in sorted(groups)
                                  if len(group) > 1], parted=parted)


def find_same_pictures(paths: Sequence[Path], *, workers: int | None, max_pixels: int,
                       progress: Progress | None = None) -> list[list[Path]]:
    """Groups of two or more files that are one picture, copies and near-duplicates, in the order of their first.

    The arguments are those of `scan_looks`; damaged files are in no group but that of their copies.
    """
    equal = find_copies(paths, workers=workers)
    _, looks = scan_looks(paths, workers=workers, max_pixels=max_pixels, progress=progress)
    near = find_near_duplicates(looks, skip={path for group in equal for path in group[1:]}).groups
    copies = {group[0]: group for group in equal}
    joined = [[copy for path in group for copy in copies.pop(path, [path])] for group in near]
    place = {path: number for number, path in enumerate(paths)}
    groups = [sorted(group, key=place.__getitem__) for group in [*joined, *copies.values()]]
    return sorted(groups, key=lambda group: place[group[0]])


# ---- candidates ------------------------------------------------------------------------------------------------------


def candidate_pairs(hashes: np.ndarray) -> np.ndarray:
    """Pairs of pictures (P, 2), of which one's whole hash is near one of the other's: all that differ in so few bits.

    Of pictures with equal whole hashes the first stands for all. A hash is cut into d + k bands: two that differ in at
    most d bits agree in k bands, so they share a bucket of these. More pictures need more, k, bands; time still grows
    faster than their number.

    Source: Manku, Jain & Das Sarma, Detecting near-duplicates for web crawling, WWW 2007.

    Args:
        hashes: (N, views) uint64; in column 0 those of the whole pictures.
    """
    whole, first = np.unique(hashes[:, 0], return_index=True)
    queries, views = hashes.ravel(), hashes.shape[1]
    codes = np.empty(0, np.int64)
    for bands in _choices_of_bands(len(whole)):
        found = [np.sort([query // views, first[row]], axis=0) for query, row in _matches(queries, whole, bands)]
        pairs = np.concatenate([np.empty((2, 0), np.int64), *found], axis=1)
        codes = np.unique(np.concatenate([codes, (pairs[0] * len(hashes) + pairs[1])[pairs[0] < pairs[1]]]))
    return np.stack(np.divmod(codes, max(1, len(hashes))), axis=1)


class _Band(NamedTuple):
    """Bits of a hash, from the lowest on."""

    first: int
    width: int


def _choices_of_bands(count: int) -> Iterator[tuple[_Band, ...]]:
    """Each choice of k bands; of `count` hashes about `_BUCKET` or more share a bucket, unless k is 1."""
    agreeing = next((k for k in (3, 2) if 2 ** (64 * k / (_DISTANCE + k)) * _BUCKET <= count), 1)
    bands = [_Band(int(part[0]), len(part)) for part in np.array_split(np.arange(64), _DISTANCE + agreeing)]
    return itertools.combinations(bands, agreeing)


def _matches(queries: np.ndarray, table: np.ndarray,
             bands: Sequence[_Band]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places of queries and of rows of `table` that agree in `bands` and are near, some at a time."""
    (asked, asked_edges), (rows, row_edges) = _buckets(queries, bands), _buckets(table, bands)
    sorted_queries, sorted_table = queries[asked], table[rows]
    for (query, query_end), (row, row_end) in zip(itertools.pairwise(asked_edges), itertools.pairwise(row_edges),
                                                    strict=True):
        for some in _slices(row, row_end, _ROWS_AT_ONCE) if query < query_end else ():
            column = sorted_table[some, None]
            for part in _slices(query, query_end, _QUERIES_AT_ONCE):
                near = np.flatnonzero(np.bitwise_count(column ^ sorted_queries[part]) <= _DISTANCE)
                if near.size:
                    of_rows, of_queries = np.divmod(near, part.stop - part.start)
                    yield asked[part.start + of_queries], rows[some.start + of_rows]


def _buckets(hashes: np.ndarray, bands: Sequence[_Band]) -> tuple[np.ndarray, list[int]]:
    """The order (N,) of hashes by the value of their bits in `bands`, and where each value begins in it, and N."""
    values = np.zeros_like(hashes)
    for first, width in bands:
        values = (values << width) | ((hashes >> first) & (2**width - 1))
    bits = sum(width for _, width in bands)
    values = values.astype(np.uint16 if bits <= 16 else np.int32)  # NumPy sorts 16 bits by their digits
    return np.argsort(values, kind="stable"), [0, *np.cumsum(np.bincount(values, minlength=2**bits)).tolist()]


def _slices(start: int, end: int, size: int) -> Iterator[slice]:
    for first in range(start, end, size):
        yield slice(first, min(end, first + size))


# ---- the check -------------------------------------------------------------------------------------------------------


def are_alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two thumbnails (S, S) show one picture, or one shows a part of the other that leaves little out.

    They are compared by correlation, which a change of brightness or contrast leaves as it is: as wholes and in parts,
    because a frame or margin can make wholes alike. A tenth of the parts may differ, such as a signature. Of patterns,
    such as stripes, which can be laid over each other in many ways, none is alike another.
    """
    a, b = (_normalised(thumbnail.astype(np.float32)) for thumbnail in (first, second))
    same = _correlate(a, b) or any(_correlate(_align(whole, part), part) for whole, part in ((a, b), (b, a)))
    return same and not _is_pattern(a)


def _correlate(a: np.ndarray, b: np.ndarray) -> bool:
    if (_normalised(a) * b).sum() < _LEAST_CORRELATION:
        return False
    parts = [_parts(image / image.std()) for image in (a, b)]
    contrasts = [part.std((-2, -1)) for part in parts]
    correlations = (_normalised(parts[0]) * _normalised(parts[1])).sum((-2, -1))
    counted = correlations[np.maximum(*contrasts) > _EMPTY_PART]
    return bool(counted.size and np.percentile(counted, 10) >= _LEAST_OF_PARTS)


def _is_pattern(image: np.ndarray) -> bool:
    """Whether rows or columns, shifted by up to half of the side, are like themselves."""
    return any((_normalised(rows[shift:]) * _normalised(rows[:-shift])).sum() > _PATTERN
               for rows in (image, image.T) for shift in range(_LEAST_SHIFT, _SIDE // 2 + 1))


def _parts(image: np.ndarray) -> np.ndarray:
    """The parts (parts, P, P) of an image, each of which overlaps its neighbours by half."""
    step = _PART // 2
    return np.lib.stride_tricks.sliding_window_view(image, (_PART, _PART))[::step, ::step].reshape(-1, _PART, _PART)


def _align(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The part of `a` that is most like `b`, as large as `b`; it is exact only where they are alike.

    Rows and columns are fitted in turns: to half a pixel, then to an eighth.
    """
    margins, windows = _coarse_windows()
    columns, best = windows[0], -1.0
    while True:
        row, _ = _fit(a @ columns.T, b, windows)
        rows = windows[row]
        column, score = _fit((rows @ a).T, b.T, windows)
        columns = windows[column]
        if score <= best + 1e-4:
            break
        best = score
    if best >= _WORTH_ALIGNING:
        near_rows, near_columns = (_window_matrices(margins[place] + _FINE_STEPS) for place in (row, column))
        for _ in range(2):
            rows = near_rows[_fit(a @ columns.T, b, near_rows)[0]]
            columns = near_columns[_fit((rows @ a).T, b.T, near_columns)[0]]
    return rows @ a @ columns.T


def _fit(a: np.ndarray, b: np.ndarray, windows: np.ndarray) -> tuple[int, float]:
    """Which of the `windows` on the rows of `a` gives the highest correlation with `b`, and this."""
    scores = (_normalised(windows @ a) * b).sum((-2, -1))
    return int(scores.argmax()), float(scores.max())


def _normalised(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W) with mean 0 and norm 1."""
    centred = images - images.mean((-2, -1), keepdims=True)
    return centred / (np.sqrt((centred * centred).sum((-2, -1), keepdims=True)) + 1e-6)


@functools.cache
def _coarse_windows() -> tuple[np.ndarray, np.ndarray]:
    """Margins (K, 2) of crops, px, and their matrices; the first is the whole."""
    margins = np.array([(left, right) for left in range(_MOST_CUT + 1) for right in range(_MOST_CUT + 1 - left)]) / 2
    return margins, _window_matrices(margins)


_FINE_STEPS = np.array(list(itertools.product(np.arange(-3, 4) / 8, repeat=2)))  # px, of both margins


def _window_matrices(margins: np.ndarray) -> np.ndarray:
    """Matrices (K, S, S) that enlarge S rows without the `margins` (K, 2) at both ends, px, to S rows, linearly."""
    first, last = np.split(np.maximum(margins, 0), 2, axis=1)
    centres = first + (np.arange(_SIDE) + 0.5) * (1 - (first + last) / _SIDE) - 0.5
    weights = np.clip(1 - np.abs(centres[..., None] - np.arange(_SIDE)), 0, 1)
    return (weights / weights.sum(-1, keepdims=True)).astype(np.float32)


# ---- groups ----------------------------------------------------------------------------------------------------------


def _stars(group: Collection[int], neighbours: Mapping[int, Sequence[int]],
           thumbnails: np.ndarray) -> Iterator[list[int]]:
    """Parts of a group, around the pictures with the most neighbours; each picture of a part is alike that one."""
    left = set(group)

    def joins(hub: int, number: int) -> bool:
        return number in left and are_alike(thumbnails[hub], thumbnails[number])

    for hub in sorted(group, key=lambda number: (-len(neighbours[number]), number)):
        if hub in left:
            part = _grow(hub, neighbours, functools.partial(joins, hub))
            left.difference_update(part)
            yield sorted(part)


def _grow(start: int, neighbours: Mapping[int, Sequence[int]], joins: Callable[[int], bool]) -> list[int]:
    """`start` and what is reached from it through neighbours that join, each asked once."""
    part, asked = [start], {start}
    for number in part:
        for other in neighbours[number]:
            if other not in asked:
                asked.add(other)
                if joins(other):
                    part.append(other)
    return part
