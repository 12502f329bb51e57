"""Drawings of objects and regions: what is drawn lies where it was found, and names can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawing.objects import LEAST, DrawnObject, colour, draw_objects, draw_regions


def test_a_mask_is_coloured_and_its_box_is_framed(tmp_path: Path) -> None:
    mask = np.zeros((300, 700), bool)
    mask[100:200, 300:500] = True
    draw_objects(Image.new("RGB", (700, 300), "white"), [DrawnObject(text="ring 93%", label=2, mask=mask,
                                                                     box=(300, 100, 500, 200))], tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png")).astype(int)
    assert drawn.shape == (300, 700, 3)
    assert (drawn[150, 300] == colour(2)).all()
    assert np.abs(drawn[150, 400] - (255 + 0.45 * (colour(2) - 255))).max() <= 1
    assert (drawn[250, 600] == 255).all()


@pytest.mark.parametrize("box", [(0, 0, 5, 5), (95, 95, 100, 100), (10, 10, 10, 10)])
def test_small_pictures_are_enlarged_and_names_stay_inside(box: tuple, tmp_path: Path) -> None:
    draw_objects(Image.new("RGB", (100, 100), "white"), [DrawnObject(text="Dürer 浮世絵 100%", label=40, box=box)],
                 tmp_path / "x.png")
    drawn = Image.open(tmp_path / "x.png")
    assert max(drawn.size) == LEAST
    assert (np.asarray(drawn) == colour(40)).all(-1).sum() > 500  # the name's ground


def test_regions_are_coloured_and_listed_by_share(tmp_path: Path) -> None:
    labels = np.zeros((640, 640), np.uint8)
    labels[:, :160] = 1
    draw_regions(Image.new("RGB", (640, 640), "white"), labels, ["sky", "sea", "land"], tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png")).astype(int)
    assert np.abs(drawn[300, 10] - (0.55 * 255 + 0.45 * colour(1))).max() <= 1
    assert [tuple(drawn[row, 10]) for row in (655, 677)] == [tuple(colour(label)) for label in (0, 1)]
    assert drawn.shape[0] < 700  # nothing is said of land
