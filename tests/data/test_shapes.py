"""Pictures of every shape come out square: shown whole or cut as asked for, and never large on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import functional

from data.shapes import WHITE, WIDEST, cut_extremes
from data.transforms import LARGEST, eval_transform, train_transform
from tests.data.test_transforms import FITS, NO_AUGMENTATION, PLAIN, augmented, picture, plain

EXTREMES = [(3, 8), (9446, 20), (20, 9446), (1, 300), (400, 399), (90_000, 2)]  # width, height, px


@pytest.mark.parametrize(("size", "cut"), [((400, 100), (400, 100)), ((401, 100), (400, 100)), ((3, 90), (3, 12)),
                                           ((1, 1), (1, 1))])
def test_only_extremes_are_cut(size: tuple[int, int], cut: tuple[int, int]) -> None:
    assert cut_extremes(Image.new("RGB", size)).size == cut


@pytest.mark.parametrize("size", [(300, 70), (2000, 40)])
def test_cutting_the_ends_of_a_wide_picture_leaves_what_is_seen(size: tuple[int, int]) -> None:
    """The centre crop never reaches what was cut: the answer is timm's but for the grid's fraction of a pixel."""
    timms = create_transform(64, crop_pct=0.875, interpolation="bicubic", mean=PLAIN.mean, std=PLAIN.std)
    image = picture(*size)
    assert (eval_transform(PLAIN)(image) - timms(image)).abs().mean() < 0.02


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", EXTREMES)
@pytest.mark.parametrize("make", [eval_transform, lambda p: train_transform(
    p, dataclasses.replace(NO_AUGMENTATION, scale=(0.25, 1.0)))], ids=["eval", "train"])
def test_pictures_of_extreme_shape_stay_small_on_the_way(
        make: Callable, size: tuple[int, int], fit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    enlarged: list[int] = []
    resize, new = Image.Image.resize, Image.new

    def watched(image: Image.Image, shape: tuple[int, int], *args: object, **how: object) -> Image.Image:
        enlarged.append(shape[0] * shape[1])
        return resize(image, shape, *args, **how)

    def watched_new(mode: str, shape: tuple[int, int], color: object = 0) -> Image.Image:
        enlarged.append(shape[0] * shape[1])
        return new(mode, shape, color)

    image = Image.new("RGB", size, (255, 0, 0))
    monkeypatch.setattr(Image.Image, "resize", watched)
    monkeypatch.setattr(Image, "new", watched_new)
    seen = make(plain(fit))(image)
    assert seen.shape == (3, 64, 64)
    assert seen[0, 32, 32] == 1
    assert max(enlarged) <= max((LARGEST * 64) ** 2, WIDEST * 73**2)


@pytest.mark.parametrize(("size", "inside"), [((100, 50), np.s_[16:48, :]), ((50, 100), np.s_[:, 16:48]),
                                              ((64, 4), np.s_[30:34, :]), ((40, 40), np.s_[:, :])])
def test_pad_shows_all_of_the_picture_between_white_borders(size: tuple[int, int], inside: tuple) -> None:
    seen = np.asarray(functional.to_pil_image(eval_transform(plain("pad"))(Image.new("RGB", size, (0, 0, 255)))))
    expected = np.full((64, 64, 3), WHITE)
    expected[inside] = (0, 0, 255)
    assert np.array_equal(seen, expected)


def test_pad_keeps_the_corners_that_crop_cuts() -> None:
    image = Image.new("RGB", (120, 60), (0, 0, 0))
    image.paste((255, 0, 0), (0, 0, 6, 60))
    image.paste((0, 255, 0), (114, 0, 120, 60))
    padded, cropped = eval_transform(plain("pad"))(image), eval_transform(plain("crop"))(image)
    assert padded[:, 32, 1].tolist() == [1, 0, 0]
    assert padded[:, 32, 62].tolist() == [0, 1, 0]
    assert not cropped.any()


def test_squash_trains_on_the_detail_that_evaluation_sees() -> None:
    stripes = Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), 64), (4, 8))).convert("RGB")  # 1024 x 4
    assert augmented(stripes, fit="squash").std() > 0.9 * eval_transform(plain("squash"))(stripes).std() > 0.1
