"""What inference looks at: the evaluation's own pixels as bytes, crops at twice the size, JPEGs decoded smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.image_list import ImageList
from data.images import ImageError, decode_image
from data.transforms import Normalise, Preprocessing, Views, eval_transform

ORIENTATION = 0x0112


def preprocessing(fit: str = "crop", size: int = 32) -> Preprocessing:
    return Preprocessing(input_size=size, crop_pct=0.875, interpolation="bicubic", mean=(0.485, 0.456, 0.406),
                         std=(0.229, 0.224, 0.225), fit=fit)


def painting(width: int, height: int) -> Image.Image:
    """Smooth colours with strokes of many widths, different at every corner."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    strokes = sum(np.sin(40 * k * (x + k * y)) / k for k in (1, 2, 3, 5))
    colours = np.stack([x, y, 1 - x * y], -1) * 160 + 40 + 25 * strokes[..., None]
    return Image.fromarray(colours.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_the_default_view_is_the_evaluations_to_the_last_bit(fit: str) -> None:
    how = preprocessing(fit)
    pictures = [painting(90, 50), painting(41, 300), painting(7, 9)]
    pixels = torch.stack([Views(how, "default")(picture) for picture in pictures])
    assert pixels.shape == (3, 1, 32, 32, 3)
    assert pixels.dtype == torch.uint8
    expected = torch.stack([eval_transform(how)(picture) for picture in pictures])
    assert torch.equal(Normalise(how, torch.device("cpu"))(pixels[:, 0]), expected)


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_crops_are_the_quarters_and_the_centre_of_the_same_square_at_twice_the_size(fit: str) -> None:
    picture = painting(200, 150)
    views = Views(preprocessing(fit), "multicrop")(picture)
    large = Views(preprocessing(fit, 64), "default")(picture)[0]
    assert views.shape == (6, 32, 32, 3)
    assert torch.equal(views[0], Views(preprocessing(fit), "default")(picture)[0])
    assert torch.equal(torch.cat([torch.cat([views[1], views[2]], 1), torch.cat([views[3], views[4]], 1)]), large)
    assert torch.equal(views[5], large[16:48, 16:48])


@pytest.mark.parametrize(("fit", "view", "size", "expected"), [
    ("crop", "default", (800, 600), 8), ("crop", "default", (800, 568), 4), ("crop", "default", (160, 144), 2),
    ("crop", "default", (160, 142), 1), ("crop", "multicrop", (800, 600), 4), ("crop", "default", (3000, 600), 1),
    ("crop", "default", (1200, 900), 4),  # 150 x 113 would become 47 px wide, not 48
    ("squash", "default", (1200, 900), 8), ("pad", "default", (1200, 900), 8), ("pad", "default", (1205, 981), 8)])
def test_a_jpeg_is_reduced_while_enough_is_left_of_the_same_shape(tmp_path: Path, fit: str, view: str, expected: int,
                                                                  size: tuple[int, int]) -> None:
    views = Views(preprocessing(fit), view)
    assert views.reduction(size) == views.reduction(size[::-1]) == expected
    painting(*size).save(tmp_path / "a.jpg")
    found = decode_image(tmp_path / "a.jpg", reduction=views.reduction).size
    assert found == tuple(-(-side // expected) for side in size)


@pytest.mark.parametrize("view", ["default", "multicrop"])
@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_what_a_reduced_jpeg_looks_like_is_almost_the_same(tmp_path: Path, fit: str, view: str) -> None:
    painting(1200, 896).save(tmp_path / "a.jpg", quality=95)
    views = Views(preprocessing(fit), view)
    whole, reduced = (ImageList([tmp_path / "a.jpg"], views, reduction=reduction)
                      for reduction in (None, views.reduction))
    assert reduced.picture(0).width < whole.picture(0).width
    difference = (whole[0].image.float() - reduced[0].image.float()).abs()
    assert 0 < difference.mean() < 1.5  # of 255


def test_a_small_jpeg_is_decoded_as_it_is(tmp_path: Path) -> None:
    painting(120, 90).save(tmp_path / "a.jpg")
    views = Views(preprocessing(), "default")
    whole, same = (ImageList([tmp_path / "a.jpg"], views, reduction=reduction)
                   for reduction in (None, views.reduction))
    assert torch.equal(whole[0].image, same[0].image)


@pytest.mark.parametrize("mode", ["RGB", "CMYK", "L"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_orientation_and_colours_of_a_reduced_jpeg_are_right(tmp_path: Path, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    painting(640, 480).convert(mode).save(tmp_path / "a.jpg", exif=exif, quality=95)
    whole, reduced = (decode_image(tmp_path / "a.jpg", reduction=reduction) for reduction in (None, lambda size: 4))
    assert reduced.size == tuple(side // 4 for side in whole.size)
    shrunk = np.asarray(whole.resize(reduced.size, Image.Resampling.BOX), int)
    assert abs(shrunk - np.asarray(reduced, int)).mean() < 4


def test_what_is_damaged_or_too_large_is_so_when_reduced_too(tmp_path: Path) -> None:
    painting(640, 480).save(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="640x480 px, more than the limit of 1000 px"):
        decode_image(tmp_path / "a.jpg", max_pixels=1000, reduction=lambda size: 8)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[:len(content) // 2])
    with pytest.raises(ImageError, match="truncated"):
        decode_image(tmp_path / "a.jpg", reduction=lambda size: 8)


def test_other_formats_are_decoded_whole(tmp_path: Path) -> None:
    painting(400, 300).save(tmp_path / "a.png")
    assert np.array_equal(decode_image(tmp_path / "a.png", reduction=lambda size: 8), painting(400, 300))
