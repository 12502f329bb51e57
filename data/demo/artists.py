"""Generated artists, alone or mixed: all draw the same subjects in any colours; the manner alone tells whose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from data.demo.manners import ARTISTS, Motif, smooth_noise
from data.multilabel.annotations import format_labels
from utils import mix_seed


def write_demo_artists(folder: Path, *, artists: int, pictures_per_artist: int, size: int, seed: int) -> None:
    """Write `folder/<artist>/0001.jpg`, …: the same pictures for the same arguments.

    Args:
        folder: made if missing.
        artists: how many of `ARTISTS`, from the first.
        pictures_per_artist: pictures of each.
        size: side of the square pictures, px.
        seed: another seed draws other pictures in the same manners.
    """
    for artist, name in enumerate(list(ARTISTS)[:artists]):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(1, pictures_per_artist + 1):
            picture = draw_picture(name, size=size, seed=mix_seed(seed, artist, number))
            picture.save(folder / name / f"{number:04}.jpg", quality=92)


def draw_picture(artist: str, *, size: int, seed: int) -> Image.Image:
    """One picture by `artist` (a key of `ARTISTS`), `size` px square, RGB; drawn twice as large for smooth edges."""
    rng = np.random.default_rng(seed)
    motif = Motif(tone=_subject(rng, 2 * size), colours=_colours(rng), rng=rng)
    return ARTISTS[artist](motif).resize((size, size), Image.Resampling.BOX)


def write_demo_blends(folder: Path, *, artists: int, pictures: int, size: int, seed: int) -> None:
    """Write `folder/0001.jpg`, … by one to three artists each, and `0001.txt`, … with their shares as labels.

    Args:
        folder: made if missing.
        artists: how many of `ARTISTS`, from the first.
        pictures: how many.
        size: side of the square pictures, px.
        seed: another seed draws other pictures in the same manners.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, pictures + 1):
        rng = np.random.default_rng(mix_seed(seed, number, 1))
        names = rng.permutation(list(ARTISTS)[:artists])[:rng.integers(1, 4)].tolist()
        percent = np.diff(np.sort(rng.integers(0, 101 - 20 * len(names), len(names) - 1)), prepend=0,
                          append=100 - 20 * len(names)) + 20  # each at least a fifth, so that it can be seen
        shares = dict(zip(names, (percent / 100).tolist(), strict=True))
        picture = draw_blend(shares, size=size, seed=mix_seed(seed, number, 2))
        picture.save(folder / f"{number:04}.jpg", quality=92)
        (folder / f"{number:04}.txt").write_text(format_labels(shares) + "\n", encoding="utf-8", newline="\n")


def draw_blend(shares: Mapping[str, float], *, size: int, seed: int) -> Image.Image:
    """One subject that each artist of `shares` (artist → share, in all 1) drew in an area of that share, `size` px."""
    rng = np.random.default_rng(seed)
    tone, colours = _subject(rng, 2 * size), _colours(rng)
    ranks = np.empty(tone.size)
    ranks[smooth_noise(rng, 2 * size, 2).argsort(None)] = (np.arange(tone.size) + 0.5) / tone.size
    hands = np.searchsorted(np.cumsum(list(shares.values())), ranks.reshape(tone.shape))
    drawn = [np.asarray(ARTISTS[artist](Motif(tone=tone, colours=colours, rng=rng))) for artist in shares]
    blend = np.choose(np.minimum(hands, len(drawn) - 1)[..., None], drawn)
    return Image.fromarray(blend).resize((size, size), Image.Resampling.BOX)


def _colours(rng: np.random.Generator) -> np.ndarray:
    """Three random colours from dark to light."""
    middle, reach = rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.45)
    levels = middle + reach * np.array([-1, rng.uniform(-0.4, 0.4), 1])
    return 255 * np.clip(levels[:, None] + rng.uniform(-0.2, 0.2, (3, 3)), 0, 1)


def _subject(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[-1:1:side * 1j, -1:1:side * 1j]
    tone = 0.3 * (x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) + 0.8
    kind = rng.integers(3)
    if kind == 0:
        for height in (-0.3, 0.1, 0.5):
            ridge = height + 0.2 * np.sin(rng.uniform(2, 6) * x + rng.uniform(0, 6)) + 0.1 * smooth_noise(rng, side, 5)
            tone = np.where(y > ridge, rng.uniform(0, 1) + 0.3 * (y - ridge), tone)
    else:  # fruit on a table, or a head above its shoulders
        person = np.array([(0, 1.1), (0, -0.2)]) + rng.normal(0, 0.1, 2)
        places = rng.uniform(-0.7, 0.7, (6, 2)) if kind == 1 else person
        for cx, cy in places:
            wide, high = rng.uniform(0.3, 0.6, 2) * (1.6 if cy > 0.8 else 1)
            inside = ((x - cx) / wide) ** 2 + ((y - cy) / high) ** 2
            shade = rng.uniform(0, 1) + 0.5 * ((x - cx) / wide - (y - cy) / high)
            tone = np.where(inside < 1, shade, tone)
    few = Image.fromarray(tone.astype(np.float32)).resize((24, 24), Image.Resampling.BOX)
    tone = np.asarray(few.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(0.5 + 0.27 * (tone - tone.mean()) / (tone.std() + 1e-6), 0, 1)
