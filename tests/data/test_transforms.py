"""The evaluation transform equals timm's, and each value of the augmentation acts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from timm.data import create_transform
from torch.nn.functional import one_hot
from torchvision.transforms import functional

from data.shapes import WHITE, WIDEST
from data.transforms import Augmentation, Preprocessing, eval_transform, make_mix, train_transform
from utils import UserError, isolated_random

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PUBLISHED = Preprocessing(input_size=64, crop_pct=0.875, interpolation="bicubic", mean=MEAN, std=STD)
PLAIN = dataclasses.replace(PUBLISHED, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))  # values in [0, 1] come out
NO_AUGMENTATION = Augmentation(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, color_jitter=0.0, aa="none", reprob=0.0)
FITS = ("crop", "pad", "squash")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A photograph's stand-in: random colours at every scale of detail, mode RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 9 + 1, width // 9 + 1, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def plain(fit: str = "crop", **preprocessing: object) -> Preprocessing:
    return dataclasses.replace(PLAIN, fit=fit, **preprocessing)


def augmented(image: Image.Image, seed: int = 0, fit: str = "crop", **values: object) -> torch.Tensor:
    with isolated_random(seed):
        return train_transform(plain(fit), dataclasses.replace(NO_AUGMENTATION, **values))(image)


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


# ---- augmentation ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", FITS)
def test_without_augmentation_a_square_picture_is_only_resized(fit: str) -> None:
    image = picture(100, 100)
    resized = functional.to_tensor(image.resize((64, 64), Image.Resampling.BICUBIC))
    assert torch.equal(augmented(image, fit=fit), resized)


def test_hflip_mirrors_at_its_rate() -> None:
    image = picture(64, 64)
    straight, mirrored = augmented(image), augmented(ImageOps.mirror(image))
    assert torch.equal(augmented(image, hflip=1.0), mirrored)
    halves = [torch.equal(augmented(image, seed, hflip=0.5), mirrored) for seed in range(40)]
    assert 8 < sum(halves) < 32  # beyond four standard deviations otherwise
    assert all(torch.equal(augmented(image, seed), straight) for seed in range(3))


def test_color_jitter_changes_brightness_contrast_and_saturation_within_its_strength() -> None:
    grey = Image.new("RGB", (64, 64), (100, 100, 100))
    levels = [augmented(grey, seed, color_jitter=0.3).mean().item() for seed in range(30)]
    assert max(levels) - min(levels) > 0.1
    assert min(levels) >= 0.7 * 100 / 255 - 0.01
    assert max(levels) <= 1.3 * 100 / 255 + 0.01
    colour = Image.new("RGB", (64, 64), (200, 40, 90))
    hues = {tuple(augmented(colour, seed, color_jitter=0.3)[:, 0, 0].argsort().tolist()) for seed in range(20)}
    assert hues == {(1, 2, 0)}  # the order of the channels, which a change of hue would turn


def test_scale_is_the_cropped_share_of_the_area() -> None:
    """On a ramp of 64 grey levels the range seen is the cropped width."""
    ramp = Image.fromarray(np.repeat(np.arange(64, dtype=np.uint8)[None, :], 64, 0)).convert("RGB")
    seen = [augmented(ramp, seed, scale=(0.25, 0.25)) * 255 for seed in range(5)]
    assert [(crop.max() - crop.min()).item() for crop in seen] == pytest.approx([31] * 5, abs=1.5)
    assert len({crop.min().item() for crop in seen}) > 1


def test_ratio_is_the_cropped_shape() -> None:
    x, y = np.meshgrid(np.arange(64, dtype=np.uint8), np.arange(64, dtype=np.uint8))
    ramps = Image.fromarray(np.stack([x, y, x], 2))
    seen = augmented(ramps, scale=(0.25, 0.25), ratio=(4.0, 4.0)) * 255
    spread = seen.amax((1, 2)) - seen.amin((1, 2))
    assert spread[0].item() == pytest.approx(63, abs=1.5)
    assert spread[1].item() == pytest.approx(15, abs=1.5)


def test_reprob_erases_at_its_rate() -> None:
    white = Image.new("RGB", (64, 64), WHITE)
    erased = [(augmented(white, seed, reprob=0.5) == 0).any().item() for seed in range(40)]
    assert 8 < sum(erased) < 32
    assert (augmented(white, reprob=1.0) == 0).any()


@pytest.mark.parametrize("aa", ["rand-m9-mstd0.5-inc1", "augmix-m3", "original", "v0", "3a"])
def test_timms_policies_act_and_repeat(aa: str) -> None:
    image = picture(64, 64)
    seen = [augmented(image, seed, aa=aa) for seed in range(3)]
    assert any(not torch.equal(crop, augmented(image)) for crop in seen)
    assert all(torch.equal(crop, augmented(image, seed, aa=aa)) for seed, crop in enumerate(seen))


def test_the_strongest_policies_pass_every_pillow() -> None:
    """At level 10 timm's posterize asks for 0 bits, which Pillow 13 refuses and 12 answered with black."""
    image = picture(16, 16)
    for seed in range(40):
        assert augmented(image, seed, aa="rand-m10-n6").isfinite().all()


@pytest.mark.parametrize("aa", ["rnd-m9", "randaug", "rand-q9", "rand-m9x", "v0-z1", "augmix-q3", "none-3"])
def test_an_unknown_policy_is_the_users_error(aa: str) -> None:
    with pytest.raises(UserError, match=f"found --aa {aa}"):
        augmented(picture(8, 8), aa=aa)


# ---- mixup and cutmix ------------------------------------------------------------------------------------------------


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of one value each, 0 to count - 1, and their classes."""
    return torch.arange(count).float()[:, None, None, None].expand(count, 3, 8, 8).clone(), torch.arange(count) % 5


@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_shares_sum_to_one_for_batches_of_any_size(alphas: tuple[float, float], count: int) -> None:
    torch.manual_seed(count)
    mix = make_mix(5, mixup=alphas[0], cutmix=alphas[1], prob=1.0, switch_prob=0.5)
    for _ in range(10):
        images, shares = mix(*batch(count))
        assert images.shape == (count, 3, 8, 8)
        assert shares.shape == (count, 5)
        torch.testing.assert_close(shares.sum(1), torch.ones(count))


def test_probability_zero_leaves_the_pictures() -> None:
    images, targets = batch(6)
    mixed, shares = make_mix(5, mixup=0.8, cutmix=1.0, prob=0.0, switch_prob=0.5)(images, targets)
    assert torch.equal(mixed, batch(6)[0])
    assert torch.equal(shares, one_hot(targets, 5).float())


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_rows_are_mixed_as_one_hot_classes_are(prob: float) -> None:
    images, targets = batch(6)
    mix = make_mix(5, mixup=0.8, cutmix=1.0, prob=prob, switch_prob=0.5)
    with isolated_random(1):
        expected = mix(images.clone(), targets)
    with isolated_random(1):
        found = mix(images, one_hot(targets, 5))
    torch.testing.assert_close(found, expected)


def test_probability_is_that_of_mixing_a_batch() -> None:
    torch.manual_seed(0)
    mix = make_mix(5, mixup=1.0, cutmix=0.0, prob=0.5, switch_prob=0.5)
    mixed = [not torch.equal(mix(*batch(4))[0], batch(4)[0]) for _ in range(100)]
    assert 30 < sum(mixed) < 70


def test_shares_of_cutmix_match_the_pasted_area() -> None:
    torch.manual_seed(1)
    mix = make_mix(5, mixup=0.0, cutmix=1.0, prob=1.0, switch_prob=0.0)
    for _ in range(10):
        images, shares = mix(*batch(5))
        for number in range(5):
            for origin in range(5):
                area = (images[number, 0] == origin).float().mean()
                torch.testing.assert_close(shares[number, origin], area)


def test_shares_of_mixup_match_the_blend() -> None:
    torch.manual_seed(1)
    images, targets = torch.eye(5)[:, None, None, :].expand(5, 3, 8, 5).contiguous(), torch.arange(5)
    mixed, shares = make_mix(5, mixup=1.0, cutmix=0.0, prob=1.0, switch_prob=1.0)(images, targets)
    torch.testing.assert_close(mixed[:, 0, 0], shares)
    assert 0 < shares.max() < 1


@pytest.mark.parametrize(("switch_prob", "blends"), [(0.0, True), (1.0, False)])
def test_the_switch_chooses_between_the_two(switch_prob: float, blends: bool) -> None:
    torch.manual_seed(3)
    mix = make_mix(5, mixup=1.0, cutmix=1.0, prob=1.0, switch_prob=switch_prob)
    values = torch.cat([mix(*batch(5))[0].flatten() for _ in range(5)])
    assert bool((values != values.round()).any()) is blends


def test_nothing_to_mix_is_none() -> None:
    assert make_mix(5, mixup=0.0, cutmix=0.0, prob=1.0, switch_prob=0.5) is None
