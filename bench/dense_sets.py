"""Made sets that try detectors and segmenters: shapes on textures, and pages with pictures of two artists.

Each has COCO's annotations (train.json, val.json) of the pictures in images/training and images/validation, and label
maps in ADE20K's layout. Letters: H W height and width in px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from data.demo.styles import smooth_noise
from data.images import decode_image, picture_size
from data.picture_files import find_pictures
from detection.coco import AnnotatedPicture, Instance, read_coco, write_coco
from detection.datasets import NAMES, DetectionImages, open_ade20k
from detection.masks import pack_pixels
from detection.metrics import CocoMeter, OverlapMeter
from detection.scenes import Fit
from utils import UserError, write_text

SIDES = {"train": "training", "val": "validation"}
SHAPES, PICTURE, BACKGROUND = ("rectangle", "ellipse", "triangle", "ring"), "picture", "background"
TRIES = 40  # places that are tried for a shape
PAPER, INK = 244, 70  # of 255
CONSTANT = 100  # boxes that a constant answer has: as many as COCO counts
ON_DISK = Fit(shortest=1, longest=1)  # nothing is resized where only annotations are read
Objects = list[tuple[int, np.ndarray]]  # class, and pixels (H, W) bool; none covers another


@dataclass(frozen=True, kw_only=True)
class SetOptions:
    """How large a set is.

    Attributes:
        train: pictures to train on.
        val: pictures to validate with.
        size: longer side of a picture, px.
        seed: another one draws other pictures.
    """

    train: int
    val: int
    size: int
    seed: int


def write_shapes(root: Path, textures: Path | None, options: SetOptions) -> None:
    """Shapes of four kinds in random colours, on parts of the pictures in `textures`, or on noise without it.

    Raises:
        UserError: there is no picture in `textures`.
    """
    files = list(find_pictures(textures).images) if textures else []
    if textures and not files:
        raise UserError(f"no picture in {textures}", "pictures to cut textures from", "check --textures")

    def draw(rng: np.random.Generator, side: str) -> tuple[Image.Image, Objects]:
        size = (options.size, int(options.size * rng.uniform(0.75, 1)))
        width, height = size if rng.random() < 0.5 else size[::-1]
        ground = _texture(files[rng.integers(len(files))], rng, width, height) if files else _noise(rng, width, height)
        return draw_shapes(ground, rng)

    _write(root, SHAPES, draw, options)


def write_pages(root: Path, split: Path, options: SetOptions) -> dict[str, str]:
    """Pages of paper with a picture of each of two artists and lines like text, from train/ and val/ of `split`.

    Returns for each picture on a page, by `FOLDER/PAGE/NUMBER`, the file that it shows, relative to `split`.

    Raises:
        UserError: train/ or val/ has no two artists.
    """
    shown: dict[str, str] = {}
    artists = {side: _by_artist(split / side) for side in SIDES}

    def draw(rng: np.random.Generator, side: str) -> tuple[Image.Image, Objects]:
        chosen = rng.choice(len(artists[side]), 2, replace=False)
        files = [artists[side][number][rng.integers(len(artists[side][number]))] for number in chosen]
        shown.update({f"{SIDES[side]}/{sum(key.startswith(SIDES[side]) for key in shown) // 2:04}.png/{number}":
                      file.relative_to(split).as_posix() for number, file in enumerate(files)})
        return draw_page([decode_image(file) for file in files], options.size, rng)

    _write(root, (PICTURE,), draw, options)
    return shown


def draw_shapes(ground: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Objects]:
    """A picture with up to five shapes on `ground`, and what they are."""
    picture, found = ground.copy(), []
    taken = np.zeros((ground.height, ground.width), bool)
    for _ in range(int(rng.integers(2, 6))):
        label, place = int(rng.integers(len(SHAPES))), _free_place(taken, rng)
        if place is None:
            continue
        mask = Image.new("1", ground.size)
        _draw_shape(ImageDraw.Draw(mask), SHAPES[label], place)
        picture.paste(tuple(rng.integers(0, 256, 3).tolist()), mask=mask)
        left, top, right, bottom = place
        taken[top:bottom + 1, left:right + 1] = True
        found.append((label, np.asarray(mask)))
    return picture, found


def draw_page(pictures: Sequence[Image.Image], size: int, rng: np.random.Generator) -> tuple[Image.Image, Objects]:
    """A page, `size` px high and 4/5 as wide, with two pictures, one in each half, and what they cover."""
    width, half = int(0.8 * size), size // 2
    page = Image.new("RGB", (width, size), (PAPER,) * 3)
    pen, found = ImageDraw.Draw(page), []
    for number, picture in enumerate(pictures):
        scale = min(rng.uniform(0.5, 0.9) * width / picture.width, rng.uniform(0.6, 0.9) * half / picture.height)
        shown = picture.resize((max(1, int(picture.width * scale)), max(1, int(picture.height * scale))))
        left = int(rng.integers(0, width - shown.width + 1))
        top = number * half + int(rng.integers(0, half - shown.height + 1))
        for line in range(number * half + size // 40, (number + 1) * half - size // 40, size // 40):
            start, end = sorted(rng.uniform(0.05, 0.95, 2) * width)
            if line < top - size // 60 or line > top + shown.height + size // 60:
                pen.line((start, line, end, line), fill=(INK,) * 3, width=max(1, size // 160))
        page.paste(shown, (left, top))
        pixels = np.zeros((size, width), bool)
        pixels[top:top + shown.height, left:left + shown.width] = True
        found.append((0, pixels))
    return page, found


def _write(root: Path, classes: Sequence[str],
           draw: Callable[[np.random.Generator, str], tuple[Image.Image, Objects]], options: SetOptions) -> None:
    for number, (side, folder) in enumerate(SIDES.items()):
        pictures, (images, maps) = [], (root / kind / folder for kind in ("images", "annotations"))
        for place in (images, maps):
            place.mkdir(parents=True)
        for index in range(getattr(options, side)):
            picture, found = draw(np.random.default_rng([options.seed, number, index]), side)
            name = f"{index:04}.png"
            picture.save(images / name)
            labels = np.ones((picture.height, picture.width), np.uint8)  # 0 stands for no class
            for label, pixels in found:
                labels[pixels] = label + 2
            Image.fromarray(labels).save(maps / name)
            pictures.append(AnnotatedPicture(id=index + 1, name=name, height=picture.height, width=picture.width,
                                             instances=tuple(_instance(100 * index + each, *one)
                                                             for each, one in enumerate(found, 1))))
        write_coco(root / f"{side}.json", pictures, classes, range(1, len(classes) + 1))
    write_text(root / NAMES, "".join(f"{name}\n" for name in (BACKGROUND, *classes)))


def _instance(number: int, label: int, pixels: np.ndarray) -> Instance:
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    left, top = float(columns[0]), float(rows[0])
    return Instance(id=number, label=label, box=(left, top, columns[-1] + 1 - left, rows[-1] + 1 - top),
                    area=float(pixels.sum()), mask=pack_pixels(pixels))


def _by_artist(folder: Path) -> list[list[Path]]:
    found = find_pictures(folder)
    artists = [[image for image in found.images if found.artist(image) == name] for name in
               sorted({found.artist(image) for image in found.images})]
    if len(artists) < 2:
        raise UserError(f"no pictures of two artists in {folder}", "a split, with train/ and val/", "check --pages-of")
    return artists


def _texture(file: Path, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A random part of a picture, of a third to all of it, in this size."""
    picture = decode_image(file)
    share = rng.uniform(1 / 3, 1) * min(picture.width / width, picture.height / height)
    part = max(1, int(width * share)), max(1, int(height * share))
    left, top = (int(rng.integers(0, side - length + 1)) for side, length in zip(picture.size, part, strict=True))
    return picture.resize((width, height), Image.Resampling.BICUBIC, box=(left, top, left + part[0], top + part[1]))


def _noise(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    side = max(width, height)
    channels = [120 + 60 * smooth_noise(rng, side, 8)[:height, :width] for _ in range(3)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def _free_place(taken: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
    """Edges of a free place, a sixth to a half as long as the picture's shorter side, or nothing."""
    shorter = min(taken.shape)
    for _ in range(TRIES):
        width = int(rng.uniform(1 / 6, 1 / 2) * shorter)
        height = int(np.clip(width * rng.uniform(0.6, 1.6), shorter / 6, shorter / 2))
        left, top = (int(rng.integers(0, side - length)) for side, length in
                     ((taken.shape[1], width), (taken.shape[0], height)))
        if not taken[top:top + height, left:left + width].any():
            return left, top, left + width - 1, top + height - 1
    return None


def _draw_shape(pen: ImageDraw.ImageDraw, kind: str, place: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = place
    if kind == "rectangle":
        pen.rectangle(place, fill=1)
    elif kind == "ellipse":
        pen.ellipse(place, fill=1)
    elif kind == "triangle":
        pen.polygon([(left, bottom), (right, bottom), ((left + right) // 2, top)], fill=1)
    else:
        pen.ellipse(place, outline=1, width=max(2, min(right - left, bottom - top) // 4))


# ---- constant answers ------------------------------------------------------------------------------------------------


def constant_figures(root: Path) -> dict[str, float]:
    """The figures, in %, of answers that never look at the picture; those of a network mean something beside them.

    Each picture gets the boxes of the first training objects, with masks that fill them, and the class that most
    pixels of training have.
    """
    folders = {side: root / "images" / folder for side, folder in SIDES.items()}
    train, val = (read_coco(root / f"{side}.json", folders[side], masks=True) for side in SIDES)
    dataset = DetectionImages(val, folders["val"], ON_DISK)
    boxes = CocoMeter(dataset, ("box", "mask"))
    first = [(each, picture) for picture in train.pictures for each in picture.instances][:CONSTANT]
    shares = torch.tensor([[left / one.width, top / one.height, (left + width) / one.width, (top + height) / one.height]
                           for (left, top, width, height), one in ((each.box, one) for each, one in first)])
    found = {"scores": torch.linspace(1, 0.5, len(first)), "labels": torch.tensor([each.label for each, _ in first]),
             "masks": torch.ones(len(first), 1, 28, 28)}
    for index, picture in enumerate(dataset.pictures):
        scaled = shares * torch.tensor([picture.width, picture.height]).repeat(2)
        boxes.update(index, [{**found, "boxes": scaled}], torch.tensor([index]))
    figures = boxes.result()
    return {**{name: figures[name] for name in ("box_ap", "box_ap50", "mask_ap", "mask_ap50")},
            "miou": _constant_overlap(root)}


def _constant_overlap(root: Path) -> float:
    train, val = (open_ade20k(root, folder, ON_DISK)[0] for folder in SIDES.values())
    sizes = [[picture_size(path) for path in images.files()] for images in (train, val)]
    counts = np.sum([np.bincount(train.labels(index, size).ravel(), minlength=256)
                     for index, size in enumerate(sizes[0])], axis=0)
    meter = OverlapMeter(val)
    most = int(np.argmax(counts[:len(val.classes)]))
    for index, size in enumerate(sizes[1]):
        meter.update(index, [torch.full(size, most)], torch.tensor([index]))
    return meter.result()["miou"]
