"""What is chosen for a run that begins with weights, and how it meets flags and checkpoints; rates by layer."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.models import group_parameters

import model  # noqa: F401  (registers the presets)
from model.lsnet_artist import PRESETS
from runtime.checkpoint import Checkpoint
from runtime.options import ArtistOptions, OptimizerOptions
from tests.training.test_optim import small
from train_artist_style import build_parser
from training.optim import make_ema, make_optimizer, make_schedule, set_training_mode
from training.probe import fit_head
from training.recipe import (
    FEW_PICTURES,
    Start,
    choose_recipe,
    choose_small_recipe,
    complete,
    describe_recipe,
    saved_recipe,
)
from utils import UserError

NEW, KEPT = Start(keeps_head=False, is_bare=True), Start(keeps_head=True, is_bare=False)


def read(*flags: str) -> ArtistOptions:
    return build_parser().read(["--data-path", "pictures", *flags])


# ---- the choice ------------------------------------------------------------------------------------------------------


def test_few_pictures_are_met_with_a_probe_frozen_norms_and_a_small_rate() -> None:
    few, many = choose_recipe(FEW_PICTURES - 1, "cpu", NEW), choose_recipe(FEW_PICTURES, "cpu", NEW)
    assert (few.head_init, few.freeze_bn, few.head) == ("probe", True, "style")
    assert (many.head_init, many.freeze_bn, many.head) == ("none", False, "style")
    assert few.lr < many.lr <= 1e-3
    for recipe in (few, many):
        assert 0 < recipe.min_lr < recipe.lr


def test_a_new_norm_has_no_statistics_to_keep() -> None:
    assert choose_recipe(100, "cpu", KEPT).head_init == "none"
    assert choose_recipe(100, "cpu", KEPT).freeze_bn
    assert not choose_recipe(100, "cpu", Start(keeps_head=False, is_bare=False, head_init="none")).freeze_bn


def test_epochs_and_batches_follow_the_pictures_and_the_device() -> None:
    sizes = [10, 100, 700, 5_000, FEW_PICTURES - 1]
    found = [choose_recipe(size, "cpu", NEW) for size in sizes]
    assert [recipe.epochs for recipe in found] == sorted([recipe.epochs for recipe in found], reverse=True)
    assert [recipe.batch_size for recipe in found] == sorted(recipe.batch_size for recipe in found)
    assert len({recipe.epochs for recipe in found}) > 2
    assert all(size // recipe.batch_size >= 12 for size, recipe in zip(sizes[1:], found[1:], strict=True))
    assert choose_recipe(5_000, "cuda", NEW).batch_size > choose_recipe(5_000, "cpu", NEW).batch_size


def test_flags_come_first() -> None:
    recipe = choose_recipe(100, "cpu", NEW)
    options = read("--lr", "0.5", "--no-freeze-bn", "--grad-accum-steps", "3")
    found = complete(options, vars(recipe))
    assert (found.optimizing.lr, found.optimizing.freeze_bn) == (0.5, False)
    assert (found.optimizing.epochs, found.data.batch_size) == (recipe.epochs, recipe.batch_size)
    assert (found.model.head, found.run.head_init) == ("style", "probe")
    assert found.optimizing.accumulation_steps == 3
    line = describe_recipe(recipe, options.given, 224, 100)
    assert "--lr" not in line
    assert "freeze" not in line
    assert f"--epochs {recipe.epochs} --batch-size {recipe.batch_size} --min-lr 1e-06" in line
    assert line.endswith("--head style --head-init probe --probe-views 3 --scale 0.35 1.0 --color-jitter 0 "
                         "--input-size 224")


def test_the_small_recipe_sees_as_many_pictures_whatever_their_number() -> None:
    found = {size: choose_small_recipe(size, None, has_shares=True) for size in (150, 668, 5_000)}
    assert all(recipe.head == "style" and not recipe.freeze_bn for recipe in found.values())
    assert found[150].epochs > found[668].epochs > found[5_000].epochs
    assert found[668].epochs * 668 == pytest.approx(40_000, rel=0.02)
    options = complete(read("--input-size", "64"), vars(found[668]))
    assert (options.model.input_size, options.augmentation.color_jitter) == (64, 0)
    assert (options.long_tail.logit_adjustment, options.optimizing.min_lr) == (1, options.optimizing.lr)
    assert complete(read(), vars(found[668])).model.input_size == 96
    assert choose_small_recipe(668, None, has_shares=False).logit_adjustment is None


def test_the_small_recipe_keeps_what_a_start_brings() -> None:
    nothing = choose_small_recipe(668, None, has_shares=True)
    bare, kept = (choose_small_recipe(668, Start(keeps_head=keeps, is_bare=not keeps), has_shares=True)
                  for keeps in (False, True))
    assert (bare.epochs, bare.lr, bare.scale) == (40, nothing.lr, nothing.scale)
    assert (bare.head, bare.head_init, bare.input_size) == ("style", "probe", None)
    assert (kept.head, kept.head_init, kept.probe_views) == (None, "none", None)


def checkpoint(**options: object) -> Checkpoint:
    return Checkpoint(path=Path("x.pth"), model={}, config={"options": options})


def test_a_resumed_run_keeps_what_was_chosen() -> None:
    options = read("--epochs", "9")
    saved = checkpoint(epochs=4, lr=2e-5, freeze_bn=True, head=None, head_init="probe", opt="sgd")
    found = complete(options, saved_recipe(saved, options))
    assert (found.optimizing.epochs, found.optimizing.lr, found.optimizing.freeze_bn) == (9, 2e-5, True)
    assert (found.run.head_init, found.model.head, found.optimizing.opt) == ("probe", None, "adamw")
    assert saved_recipe(checkpoint(), options) == {}


@pytest.mark.parametrize("options", [{"epochs": "many"}, {"epochs": 0}, {"epochs": True}, {"lr": -1}, {"freeze_bn": 1},
                                     {"head_init": "x"}, {"batch_size": [3]}, {"lr": math.inf}])
def test_odd_values_of_a_checkpoint_are_refused(options: dict) -> None:
    with pytest.raises(UserError, match=r"x\.pth, whose run has"):
        saved_recipe(checkpoint(**options), read())


# ---- rates by layer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "arguments"), [
    *[(name, {"feature_dim": 64}) for name in PRESETS], ("lsnet_t_distill", {}),
    ("style_network", {"backbone": "lsnet_s", "feature_dim": 64})])
def test_every_parameter_of_every_preset_has_its_depth(name: str, arguments: dict) -> None:
    with torch.device("meta"):
        network = timm.create_model(name, num_classes=3, **arguments)
    depths = group_parameters(network, network.group_matcher(), reverse=True)
    assert depths.keys() == dict(network.named_parameters()).keys()
    last = {name for name, depth in depths.items() if depth == max(depths.values())}
    assert last == {name for name in depths if name.startswith(("head", "projection"))}
    body = [(name.removeprefix("backbone."), depth) for name, depth in depths.items() if name not in last]
    assert {depth for name, depth in body if name.startswith("patch_embed")} == {0}
    order = [int(name[6]) if name.startswith("blocks") else 0 for name, _ in sorted(body, key=lambda pair: pair[1])]
    assert order == sorted(order)  # stage after stage
    layers = {tuple(name.split(".")[:2]) for name, _ in body if name.startswith("blocks")}
    assert len({depth for _, depth in body}) == 1 + len(layers) - 3  # two convolutions between stages are one layer


@pytest.mark.parametrize("name", ["test_efficientnet", "caformer_s18"])  # the latter has no group_matcher
def test_rates_fall_from_the_classifier_to_the_stem(name: str) -> None:
    options = OptimizerOptions(layer_decay=0.5, epochs=4, warmup_epochs=0, min_lr=0.01)
    with torch.device("meta"):
        network = timm.create_model("style_network", backbone=name, num_classes=3)
        optimizer = make_optimizer(network, options, 0.1)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    depths = group_parameters(network, network.group_matcher(), reverse=True)
    schedule = make_schedule(optimizer, options, 0.1, updates_per_epoch=5)
    for update, rate in ((0, 0.1), (10, 0.055), (20, 0.01)):
        schedule.step_update(update)
        found = {names[id(parameter)]: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
        expected = {name: rate * 0.5 ** (max(depths.values()) - depth) for name, depth in depths.items()}
        assert found == pytest.approx(expected)
        assert found["head.l.weight"] == pytest.approx(rate)


def test_without_layer_decay_the_groups_are_as_they_were() -> None:
    optimizer = make_optimizer(small(), OptimizerOptions(), 0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0, 0.05]
    assert all("lr_scale" not in group for group in optimizer.param_groups)


# ---- batch norms, and a probe on next to nothing ---------------------------------------------------------------------


def test_frozen_norms_learn_and_keep_their_statistics() -> None:
    network = small()
    network(torch.randn(8, 3, 4, 4))  # statistics that are not those of a new network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    set_training_mode(network, frozen=False, freeze_bn=True)
    optimizer = make_optimizer(network, OptimizerOptions(), 0.1)
    network(torch.randn(8, 3, 4, 4)).square().sum().backward()
    optimizer.step()
    moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == dict(network.named_parameters()).keys()
    assert network.training


def test_with_frozen_norms_that_of_the_classifier_stays_as_the_probe_made_it() -> None:
    network = timm.create_model("style_network", backbone="test_resnet", num_classes=3)
    for freeze_bn in (True, False):
        before = {name: value.clone() for name, value in network.named_parameters()}
        set_training_mode(network, frozen=False, freeze_bn=freeze_bn)
        optimizer = make_optimizer(network, OptimizerOptions(), 0.1)
        network(torch.randn(4, 3, 32, 32)).square().sum().backward()
        optimizer.step()
        stays = {name for name, value in network.named_parameters() if torch.equal(value, before[name])}
        norm = {"head.bn.weight", "head.bn.bias"}
        assert norm & stays == (norm if freeze_bn else set())
        assert "head.l.bias" not in stays


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1), (2, 1), (1, 9, 1)])
def test_a_probe_to_begin_with_takes_artists_of_one_picture(counts: tuple[int, ...]) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    rows = np.eye(len(counts), 4, dtype=np.float32)[targets] + np.random.default_rng(0).normal(0, 0.05, (
        len(targets), 4)).astype(np.float32)
    head = fit_head(rows[None], targets, [f"artist {n}" for n in range(len(counts))], [4])
    found = ((rows - head.mean) * head.scale) @ head.weight.T + head.bias
    np.testing.assert_array_equal(found.argmax(1), targets)


# ---- moving average --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", [20, 100, 1_000])
def test_the_moving_average_does_not_lag_in_short_runs(updates: int) -> None:
    """The mean age of the weights in it, which grows by an update and shrinks by the decay, is a small part of the run.

    At the default decay without a warm-up, all of them but a 5000th an update would still be those of the beginning.
    """
    ema = make_ema(small(), OptimizerOptions())
    assert ema is not None
    age = 0.0
    for update in range(1, updates + 1):
        age = ema.get_decay(update) * (age + 1)
    assert 0 < age < updates / 3
