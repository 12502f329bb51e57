"""Small generated data sets: artists who differ by the direction of their strokes, and pictures by several artists."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from data.demo.artists import write_demo_blends
from data.multilabel.annotations import Annotation, write_annotations
from data.multilabel.grammar import LabelGrammar, read_labels
from data.picture_files import find_pictures


def list_images(folder: Path) -> list[Path]:
    """The pictures below `folder`."""
    return list(find_pictures(folder).images)


def parse_labels(text: str, delimiter: str = ",") -> dict[str, float]:
    """Label → weight of a text in the format csv."""
    return read_labels(text, LabelGrammar(delimiter=delimiter, format="csv"))


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


def smooth_picture(rng: np.random.Generator, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Soft blots of random colours that no two pictures share."""
    blots = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    return blots.resize(size, Image.Resampling.BICUBIC)


def altered_copy(image: Image.Image, rng: np.random.Generator, *, crop: bool) -> Image.Image:
    """`image` reduced to 30-90 %, recoloured, saved as JPEG of quality 50-90, and with `crop` cut to 90-98 % a side."""
    if crop:
        width, height = (round(side * rng.uniform(0.9, 0.98)) for side in image.size)
        x, y = rng.integers(0, image.width - width + 1), rng.integers(0, image.height - height + 1)
        image = image.crop((x, y, x + width, y + height))
    scale = rng.uniform(0.3, 0.9)
    image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
    shifted = np.asarray(image, np.float32) * rng.uniform(0.85, 1.15, 3) + rng.uniform(-20, 20, 3)
    image = ImageEnhance.Color(Image.fromarray(shifted.clip(0, 255).astype(np.uint8))).enhance(rng.uniform(0.5, 1.5))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(50, 91)))
    return Image.open(file)
