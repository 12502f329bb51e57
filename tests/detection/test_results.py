"""Files of what was found: outlines cover their masks, and edges and names are those of the picture."""

from __future__ import annotations

import random
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image, ImageDraw

from data.images import decode_labels
from detection.masks import pack_pixels
from detection.predictor import Found, FoundObject
from detection.results import Names, labelme_content, outlines, padded, save_labels

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")


def names(*pictures: str) -> Names:
    return Names(pictures={Path(name): PurePosixPath(name) for name in pictures}, image_ids={}, classes=("a",),
                 category_ids=(1,))


def filled(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is in one of the polygons, by Pillow at eight times the size."""
    mask = Image.new("1", (8 * shape[1], 8 * shape[0]))
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon([(8 * x, 8 * y) for x, y in polygon], fill=1)
    return np.asarray(mask)[4::8, 4::8]


@pytest.mark.parametrize("seed", range(4))
def test_outlines_cover_the_mask(seed: int) -> None:
    random.seed(seed)
    mask = Image.new("1", (90, 70))
    for _ in range(3):
        left, top = random.randrange(60), random.randrange(40)
        ImageDraw.Draw(mask).ellipse((left, top, left + random.randrange(8, 29), top + random.randrange(8, 29)), fill=1)
    pixels = np.asarray(mask)
    drawn = filled(outlines(pixels), pixels.shape)
    assert (drawn & pixels).sum() / (drawn | pixels).sum() > 0.95


def test_an_outline_has_few_points_and_a_part_of_its_own() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:30, 10:50] = mask[40:50, 20:25] = True
    parts = sorted(outlines(mask), key=len)
    assert len(parts) == 2
    assert all(len(part) <= 8 for part in parts)
    found = np.array([point for part in parts for point in part])
    assert found.min(0).tolist() == [10, 10]
    assert found.max(0).tolist() == [50, 50]


def test_the_outer_line_of_a_ring_is_told() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[15:25, 15:25] = False
    assert len(outlines(mask)) == 1
    assert outlines(np.zeros((5, 5), bool)) == []


def test_labelme_gets_boxes_and_grouped_polygons(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:8, 2:8] = mask[10:18, 12:20] = True
    objects = [FoundObject(label=0, score=0.9, box=(1, 2, 3, 4)),
               FoundObject(label=0, score=0.8, box=(2, 2, 20, 18), mask=pack_pixels(mask))]
    content = labelme_content(Found(path=tmp_path / "a" / "x.png", size=(20, 30)), objects, ["figure"],
                              tmp_path / "b" / "c")
    assert (content["imageHeight"], content["imageWidth"], content["imagePath"]) == (20, 30, "../../a/x.png")
    assert [(shape["shape_type"], shape["group_id"]) for shape in content["shapes"]] == [
        ("rectangle", None), ("polygon", 2), ("polygon", 2)]
    assert content["shapes"][0]["points"] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("box", "padding", "edges"), [
    ((10.2, 5.9, 20.1, 15), 0, (10, 5, 21, 15)), ((10, 10, 20, 30), 0.1, (9, 8, 21, 32)),
    ((-3, 0, 99, 99), 1, (0, 0, 50, 40)), ((50, 40, 50, 40), 0, (49, 39, 50, 40))])
def test_cut_outs_hold_their_box_and_at_least_a_pixel(box: tuple, padding: float, edges: tuple) -> None:
    assert padded(box, (40, 50), padding) == edges


def test_files_of_pictures_that_differ_in_their_ending_keep_it() -> None:
    named = names("a/x.jpg", "a/x.png", "b/x.jpg")
    assert [named.beside(path, ".json") for path in named.pictures] == ["a/x.jpg.json", "a/x.png.json", "b/x.json"]


@pytest.mark.parametrize("shift", [True, False])
def test_label_maps_are_read_as_they_were_written(shift: bool, tmp_path: Path) -> None:
    labels = np.arange(150, dtype=np.uint8).reshape(10, 15)
    save_labels(labels, tmp_path / "x.png", shift=shift)
    assert (decode_labels(tmp_path / "x.png") == labels + shift).all()
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == "P"
