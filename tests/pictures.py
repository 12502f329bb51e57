"""Small generated data sets: artists who differ by the direction of their strokes, and pictures by several artists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from data.demo.artists import write_demo_blends
from data.multilabel.annotations import Annotation, write_annotations
from data.multilabel.grammar import parse_labels


def stroke_picture(angle: float, rng: np.random.Generator, size: int = 32) -> Image.Image:
    """Parallel strokes at `angle` radians over a random colour, (size, size)."""
    y, x = np.mgrid[0:size, 0:size]
    wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(0.8, 1.2) + rng.uniform(0, 6))
    colour = rng.uniform(60, 200, 3)
    return Image.fromarray(np.clip(colour + 50 * wave[..., None], 0, 255).astype(np.uint8))


def write_data_set(root: Path, *, artists: int = 3, train: int = 8, val: int = 4, size: int = 32) -> Path:
    """`root`/train and `root`/val with `artists` folders each; the same pictures every time."""
    rng = np.random.default_rng(0)
    for side, count in (("train", train), ("val", val)):
        for artist in range(artists):
            folder = root / side / f"artist_{artist}"
            folder.mkdir(parents=True)
            for number in range(count):
                stroke_picture(np.pi * artist / artists, rng, size).save(folder / f"{side}_{number}.png")
    return root


def write_annotated_set(root: Path, *, artists: int = 3, train: int = 16, val: int = 8, size: int = 32) -> Path:
    """`root`/pictures by one to three of `artists` each, `root`/train.csv and `root`/val.csv that annotate them."""
    write_demo_blends(root / "pictures", artists=artists, pictures=train + val, size=size, seed=0)
    rows = [Annotation(path.with_suffix(".jpg").name, parse_labels(path.read_text(encoding="utf-8").strip()))
            for path in sorted((root / "pictures").glob("*.txt"))]
    write_annotations(root / "train.csv", rows[:train])
    write_annotations(root / "val.csv", rows[train:])
    return root
