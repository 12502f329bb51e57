"""The evaluation transform equals timm's; images of every shape come out square, shown whole or cut as asked for."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import functional

from data.transforms import WHITE, WIDEST, Preprocessing, cut_extremes, eval_transform, fit_square, seen_box

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED = Preprocessing(input_size=64, crop_pct=0.875, interpolation="bicubic", mean=MEAN, std=STD)
PLAIN = dataclasses.replace(PUBLISHED, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # values in [0, 1] come out
FITS = ("crop", "pad", "squash")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A photograph's stand-in: random colours at every scale of detail, mode RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def plain(fit: str = "crop", **preprocessing: object) -> Preprocessing:
    return dataclasses.replace(PLAIN, fit=fit, **preprocessing)


# ---- evaluation ------------------------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(width=st.integers(1, 220), height=st.integers(1, 220), size=st.sampled_from([32, 64, 95, 224]))
def test_fit_crop_is_timms_evaluation_to_the_bit(width: int, height: int, size: int) -> None:
    if max(width, height) > WIDEST * min(width, height):
        width = height
    image = picture(width, height)
    timms = create_transform(size, crop_pct=0.875, interpolation="bicubic", mean=MEAN, std=STD)
    ours = eval_transform(dataclasses.replace(PUBLISHED, input_size=size))
    torch.testing.assert_close(ours(image), timms(image), rtol=0, atol=0)


def test_squash_is_one_resize() -> None:
    image = picture(100, 60)
    resized = functional.to_tensor(image.resize((64, 64), Image.Resampling.BICUBIC))
    assert torch.equal(eval_transform(plain("squash"))(image), resized)


def cfg_of(**entries: object) -> dict[str, Any]:
    usual = {"input_size": (3, 64, 64), "crop_pct": 0.875, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    return usual | entries


@pytest.mark.parametrize("crop_pct", [1.0, 0.95, 0.875, 0.5])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(100, 60), (40, 150), (64, 64), (7, 5)])
def test_crop_modes_are_timms_to_the_bit(mode: str, crop_pct: float, size: tuple[int, int]) -> None:
    image, cfg = picture(*size), cfg_of(crop_mode=mode, crop_pct=crop_pct)
    found = Preprocessing.from_pretrained_cfg(cfg, input_size=None)
    assert Preprocessing.from_dict(found.as_dict()) == found
    timms = create_transform(**{**cfg, "input_size": 64})
    torch.testing.assert_close(eval_transform(found)(image), timms(image), rtol=0, atol=0)
    told = {**found.as_pretrained_cfg(), "input_size": 64}
    torch.testing.assert_close(create_transform(**told)(image), timms(image), rtol=0, atol=0)


def test_a_border_is_refused_unless_another_fit_is_chosen() -> None:
    with pytest.raises(ValueError, match="crop_mode border"):
        Preprocessing.from_pretrained_cfg(cfg_of(crop_mode="border"), input_size=None)
    assert Preprocessing.from_pretrained_cfg(cfg_of(crop_mode="border"), input_size=None, fit="pad").fit == "pad"


@pytest.mark.parametrize("fit", FITS)
def test_timm_is_told_how_a_run_of_ours_cuts(fit: str) -> None:
    told = {**dataclasses.replace(PUBLISHED, fit=fit).as_pretrained_cfg(), "input_size": 64}
    image = picture(90, 60)
    ours = eval_transform(dataclasses.replace(PUBLISHED, fit=fit))(image)
    same = (ours - create_transform(**told)(image)).abs() < 1e-5
    assert same.all() or (fit == "pad" and same[:, 16:48].all())  # but for the colour of the borders


def test_the_interpolation_and_the_statistics_act() -> None:
    image = picture(100, 100)
    seen = eval_transform(PUBLISHED)(image)
    other = eval_transform(dataclasses.replace(PUBLISHED, interpolation="bilinear"))(image)
    assert not torch.equal(seen, other)
    scaled = (eval_transform(PLAIN)(image) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(seen, scaled)


def test_a_preprocessing_survives_its_dict_and_comes_from_timms() -> None:
    padded = dataclasses.replace(PUBLISHED, fit="pad")
    assert Preprocessing.from_dict(padded.as_dict()) == padded
    assert all(not isinstance(value, tuple) for value in padded.as_dict().values())
    cfg = {"input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bicubic", "mean": MEAN, "std": STD}
    assert Preprocessing.from_pretrained_cfg(cfg, input_size=64, fit="crop") == PUBLISHED
    assert Preprocessing.from_pretrained_cfg(cfg, input_size=None, fit="crop").input_size == 224


# ---- shapes ----------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("fit", "crop_pct"), [("crop", 0.8), ("squash_crop", 0.8), ("squash", 1.0), ("pad", 1.0)])
@pytest.mark.parametrize("size", [(300, 200), (90, 250)])
def test_the_seen_box_is_what_evaluation_keeps(fit: Any, crop_pct: float, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(input_size=100, crop_pct=crop_pct, interpolation="bilinear", mean=(0, 0, 0),
                                  std=(1, 1, 1), fit=fit)
    columns, rows = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    ramp = Image.fromarray((255 * np.stack([columns, rows, rows], 2)).astype(np.uint8))
    left, upper, right, lower = seen_box(preprocessing, size)
    corner = np.asarray(fit_square(preprocessing)(ramp), np.float64)
    if fit == "pad":  # the box is a square around the picture
        assert right - left == lower - upper == max(size)
        return
    for place, (edge, length) in enumerate(((left, size[0]), (upper, size[1]))):
        assert corner[0, 0, place] == pytest.approx(255 * edge / length, abs=5)
    for place, (edge, length) in enumerate(((right, size[0]), (lower, size[1]))):
        assert corner[-1, -1, place] == pytest.approx(255 * edge / length, abs=5)
