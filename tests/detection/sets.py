"""Small generated sets: shapes on coloured noise, annotated as COCO and as ADE20K annotate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("box", "disc", "wedge", "ring")
IDS = (3, 7, 20, 90)  # with gaps, as COCO's
COLOURS = ((220, 40, 40), (40, 200, 60), (60, 80, 230), (230, 220, 60))


def scene(rng: np.random.Generator, height: int, width: int, shapes: int) -> tuple[Image.Image, list[tuple]]:
    """A picture and for each shape its class, and its pixels (H, W) bool where no later one covers it."""
    noise = rng.integers(60, 160, (8, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    found: list[tuple] = []
    for _ in range(shapes):
        label, least = int(rng.integers(len(CLASSES))), min(height, width) // 4
        side = int(rng.integers(least, 2 * least))
        left, top = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        mask = Image.new("1", (width, height))
        draw, place = ImageDraw.Draw(mask), (left, top, left + side - 1, top + side - 1)
        if label == 0:
            draw.rectangle(place, fill=1)
        elif label == 1:
            draw.ellipse(place, fill=1)
        elif label == 2:
            draw.polygon([(left, top + side - 1), (left + side - 1, top + side - 1), (left + side // 2, top)], fill=1)
        else:
            draw.ellipse(place, outline=1, width=max(2, side // 5))
        pixels = np.asarray(mask)
        if any((pixels & before).any() for _, before in found):
            continue  # none covers another
        picture.paste(COLOURS[label], mask=mask)
        found.append((label, pixels))
    return picture, found


def run_lengths(pixels: np.ndarray) -> dict:
    """COCO's run lengths, column by column, zeros first; written out here, as a second opinion."""
    flat = pixels.T.flatten()
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(pixels.shape), "counts": [0, *counts] if flat[0] else counts}


def write_coco(root: Path, name: str, count: int, *, seed: int = 0, size: tuple[int, int] = (64, 96),
               shapes: int = 3) -> Path:
    """`root`/`name`/*.png and `root`/`name`.json; every second picture is turned. Returns the JSON."""
    rng, images, annotations = np.random.default_rng(seed), [], []
    (root / name).mkdir(parents=True)
    for number in range(count):
        height, width = size if number % 2 else size[::-1]
        picture, found = scene(rng, height, width, shapes)
        picture.save(root / name / f"{number:03}.png")
        images.append({"id": 10 * number + 1, "file_name": f"{number:03}.png", "height": height, "width": width})
        for label, pixels in found:
            rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
            box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
            annotations.append({"id": len(annotations) + 1, "image_id": images[-1]["id"], "category_id": IDS[label],
                                "bbox": box, "area": int(pixels.sum()), "iscrowd": 0,
                                "segmentation": run_lengths(pixels)})
    categories = [{"id": number, "name": label} for number, label in zip(IDS, CLASSES, strict=True)]
    path = root / f"{name}.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def write_ade20k(root: Path, *, train: int, val: int, size: tuple[int, int] = (64, 96), shapes: int = 3) -> Path:
    """`root` with images/ and annotations/ of training and validation and classes.txt; 0 is what no shape covers."""
    for side, count in (("training", train), ("validation", val)):
        rng = np.random.default_rng([7, count])
        for kind in ("images", "annotations"):
            (root / kind / side).mkdir(parents=True)
        for number in range(count):
            height, width = size if number % 2 else size[::-1]
            picture, found = scene(rng, height, width, shapes)
            labels = np.zeros((height, width), np.uint8)
            for label, pixels in found:
                labels[pixels] = label + 1
            picture.save(root / "images" / side / f"{number:03}.jpg", quality=95)
            Image.fromarray(labels).save(root / "annotations" / side / f"{number:03}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return root
