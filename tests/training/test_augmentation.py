"""Each value of the augmentation acts, also on images of extreme shape; mixup and cutmix give the shares of images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn.functional import one_hot
from torchvision.transforms import functional

from data.transforms import WHITE, WIDEST, eval_transform
from runtime.options import AugmentationOptions
from tests.data.test_transforms import FITS, picture, plain
from training.augmentation import LARGEST, Mix, make_mix, mix_presence_and_shares, train_transform
from utils import UserError, isolated_random

NO_AUGMENTATION = AugmentationOptions(scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.0, color_jitter=0.0)
EXTREMES = [(3, 8), (9446, 20), (20, 9446), (1, 300), (400, 399), (90_000, 2)]  # width, height, px


def augmented(image: Image.Image, seed: int = 0, fit: str = "crop", **values: object) -> torch.Tensor:
    with isolated_random(seed):
        return train_transform(plain(fit), dataclasses.replace(NO_AUGMENTATION, **values))(image)


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


def test_squash_trains_on_the_detail_that_evaluation_sees() -> None:
    stripes = Image.fromarray(np.tile(np.repeat(np.array([0, 255], np.uint8), 64), (4, 8))).convert("RGB")  # 1024 x 4
    assert augmented(stripes, fit="squash").std() > 0.9 * eval_transform(plain("squash"))(stripes).std() > 0.1


# ---- mixup and cutmix ------------------------------------------------------------------------------------------------


def batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of one value each, 0 to count - 1, and their classes."""
    return torch.arange(count).float()[:, None, None, None].expand(count, 3, 8, 8).clone(), torch.arange(count) % 5


def mixing(*, mixup: float, cutmix: float, prob: float, switch_prob: float) -> Mix | None:
    return make_mix(AugmentationOptions(mixup=mixup, cutmix=cutmix, mixup_prob=prob, mixup_switch_prob=switch_prob), 5)


@pytest.mark.parametrize("alphas", [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_shares_sum_to_one_for_batches_of_any_size(alphas: tuple[float, float], count: int) -> None:
    torch.manual_seed(count)
    mix = mixing(mixup=alphas[0], cutmix=alphas[1], prob=1.0, switch_prob=0.5)
    for _ in range(10):
        images, shares = mix(*batch(count))
        assert images.shape == (count, 3, 8, 8)
        assert shares.shape == (count, 5)
        torch.testing.assert_close(shares.sum(1), torch.ones(count))


def test_probability_zero_leaves_the_pictures() -> None:
    images, targets = batch(6)
    mixed, shares = mixing(mixup=0.8, cutmix=1.0, prob=0.0, switch_prob=0.5)(images, targets)
    assert torch.equal(mixed, batch(6)[0])
    assert torch.equal(shares, one_hot(targets, 5).float())


@pytest.mark.parametrize("prob", [0.0, 1.0])
def test_rows_are_mixed_as_one_hot_classes_are(prob: float) -> None:
    images, targets = batch(6)
    mix = mixing(mixup=0.8, cutmix=1.0, prob=prob, switch_prob=0.5)
    with isolated_random(1):
        expected = mix(images.clone(), targets)
    with isolated_random(1):
        found = mix(images, one_hot(targets, 5))
    torch.testing.assert_close(found, expected)


def test_probability_is_that_of_mixing_a_batch() -> None:
    torch.manual_seed(0)
    mix = mixing(mixup=1.0, cutmix=0.0, prob=0.5, switch_prob=0.5)
    mixed = [not torch.equal(mix(*batch(4))[0], batch(4)[0]) for _ in range(100)]
    assert 30 < sum(mixed) < 70


def test_shares_of_cutmix_match_the_pasted_area() -> None:
    torch.manual_seed(1)
    mix = mixing(mixup=0.0, cutmix=1.0, prob=1.0, switch_prob=0.0)
    for _ in range(10):
        images, shares = mix(*batch(5))
        for number in range(5):
            for origin in range(5):
                area = (images[number, 0] == origin).float().mean()
                torch.testing.assert_close(shares[number, origin], area)


def test_shares_of_mixup_match_the_blend() -> None:
    torch.manual_seed(1)
    images, targets = torch.eye(5)[:, None, None, :].expand(5, 3, 8, 5).contiguous(), torch.arange(5)
    mixed, shares = mixing(mixup=1.0, cutmix=0.0, prob=1.0, switch_prob=1.0)(images, targets)
    torch.testing.assert_close(mixed[:, 0, 0], shares)
    assert 0 < shares.max() < 1


@pytest.mark.parametrize(("switch_prob", "blends"), [(0.0, True), (1.0, False)])
def test_the_switch_chooses_between_the_two(switch_prob: float, blends: bool) -> None:
    torch.manual_seed(3)
    mix = mixing(mixup=1.0, cutmix=1.0, prob=1.0, switch_prob=switch_prob)
    values = torch.cat([mix(*batch(5))[0].flatten() for _ in range(5)])
    assert bool((values != values.round()).any()) is blends


def test_nothing_to_mix_is_none() -> None:
    assert mixing(mixup=0.0, cutmix=0.0, prob=1.0, switch_prob=0.5) is None


def test_mixing_several_artists_mixes_presence_and_shares_apart() -> None:
    weights = torch.tensor([[1.4, 0, 0, 0], [1, 1, 0, 0]])
    mix = mix_presence_and_shares(lambda images, rows: (images, 0.3 * rows + 0.7 * rows.roll(1, 0)))
    _, mixed = mix(torch.zeros(2, 3, 8, 8), weights)
    torch.testing.assert_close(mixed[0], torch.tensor([[1, 0.7, 0, 0], [0.65, 0.35, 0, 0]]))
    torch.testing.assert_close(mixed[1], torch.tensor([[1, 0.3, 0, 0], [0.85, 0.15, 0, 0]]))
