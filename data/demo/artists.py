"""Pictures by generated artists, alone or mixed: all draw the same scenes in any colours, each in their own style."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data.demo.styles import ARTISTS, Scene, smooth_noise
from data.multilabel.grammar import format_labels
from utils import mix_seed

_LEAST_PERCENT = 20  # of an artist in a mixed picture, so that the style can be seen


def write_demo_artists(folder: Path, *, artists: int, pictures_per_artist: int, size: int, seed: int) -> None:
    """Write `folder/<artist>/0001.jpg`, … by the first `artists` of `ARTISTS`, `size` px square.

    The same arguments give the same pictures; another seed gives others in the same styles.
    """
    for artist, name in enumerate(list(ARTISTS)[:artists]):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(1, pictures_per_artist + 1):
            picture = draw_picture(name, size=size, seed=mix_seed(seed, artist, number))
            picture.save(folder / name / f"{number:04}.jpg", quality=92)


def draw_picture(artist: str, *, size: int, seed: int) -> Image.Image:
    """One picture by `artist` (a key of `ARTISTS`), `size` px square, RGB; drawn twice as large for smooth edges."""
    rng = np.random.default_rng(seed)
    scene = Scene(tone=_draw_tone(rng, 2 * size), colours=_choose_colours(rng), rng=rng)
    return ARTISTS[artist](scene).resize((size, size), Image.Resampling.BOX)


def write_demo_blends(folder: Path, *, artists: int, pictures: int, size: int, seed: int) -> None:
    """Write `folder/0001.jpg`, …, `size` px square, and `0001.txt`, … with their artists and shares as labels.

    Each picture is by one to three of the first `artists`. The same arguments give the same pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, pictures + 1):
        rng = np.random.default_rng(mix_seed(seed, number, 1))
        names = rng.permutation(list(ARTISTS)[:artists])[:rng.integers(1, 4)].tolist()
        free = 100 - _LEAST_PERCENT * len(names)
        cuts = np.sort(rng.integers(0, free + 1, len(names) - 1))
        percent = np.diff(cuts, prepend=0, append=free) + _LEAST_PERCENT
        shares = dict(zip(names, (percent / 100).tolist(), strict=True))
        picture = draw_blend(shares, size=size, seed=mix_seed(seed, number, 2))
        picture.save(folder / f"{number:04}.jpg", quality=92)
        (folder / f"{number:04}.txt").write_text(format_labels(shares) + "\n", encoding="utf-8", newline="\n")


def draw_blend(shares: Mapping[str, float], *, size: int, seed: int) -> Image.Image:
    """One scene, `size` px square, in which each artist draws an area of its share (artist → share, sum 1)."""
    rng = np.random.default_rng(seed)
    tone, colours = _draw_tone(rng, 2 * size), _choose_colours(rng)
    ranks = np.empty(tone.size)
    ranks[smooth_noise(rng, 2 * size, 2).argsort(None)] = (np.arange(tone.size) + 0.5) / tone.size
    artist_index = np.searchsorted(np.cumsum(list(shares.values())), ranks.reshape(tone.shape))
    drawn = [np.asarray(ARTISTS[artist](Scene(tone=tone, colours=colours, rng=rng))) for artist in shares]
    blend = np.choose(np.minimum(artist_index, len(drawn) - 1)[..., None], drawn)
    return Image.fromarray(blend).resize((size, size), Image.Resampling.BOX)


def _choose_colours(rng: np.random.Generator) -> np.ndarray:
    """Three random colours from dark to light, (3, 3) RGB in [0, 255]."""
    middle, reach = rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.45)
    levels = middle + reach * np.array([-1, rng.uniform(-0.4, 0.4), 1])
    return 255 * np.clip(levels[:, None] + rng.uniform(-0.2, 0.2, (3, 3)), 0, 1)


def _draw_tone(rng: np.random.Generator, side: int) -> np.ndarray:
    """The brightness of a random scene, (side, side) in [0, 1]: hills, fruit on a table, or a head and shoulders."""
    y, x = np.mgrid[-1:1:side * 1j, -1:1:side * 1j]
    tone = 0.3 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) + 0.8
    kind = rng.integers(3)
    if kind == 0:
        for height in (-0.3, 0.1, 0.5):
            ridge = height + 0.2 * np.sin(rng.uniform(2, 6) * x + rng.uniform(0, 6)) + 0.1 * smooth_noise(rng, side, 5)
            tone = np.where(y > ridge, rng.uniform(0, 1) + 0.3 * (y - ridge), tone)
    else:
        person = np.array([(0, 1.1), (0, -0.2)]) + rng.normal(0, 0.1, 2)
        centres = rng.uniform(-0.7, 0.7, (6, 2)) if kind == 1 else person
        for cx, cy in centres:
            wide, high = rng.uniform(0.3, 0.6, 2) * (1.6 if cy > 0.8 else 1)
            inside = ((x - cx) / wide) ** 2 + ((y - cy) / high) ** 2
            shade = rng.uniform(0, 1) + 0.5 * ((x - cx) / wide - (y - cy) / high)
            tone = np.where(inside < 1, shade, tone)
    few = Image.fromarray(tone.astype(np.float32)).resize((24, 24), Image.Resampling.BOX)
    tone = np.asarray(few.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(0.5 + 0.27 * (tone - tone.mean()) / (tone.std() + 1e-6), 0, 1)
