"""What moves the weights: scaled rates by value, the schedule's ends, who is decayed, clipping as torch and timm do."""

from __future__ import annotations

import copy
import itertools

import pytest
import timm
import torch
from timm.utils.clip_grad import dispatch_clip_grad
from torch import nn

import model  # noqa: F401  (registers the presets)
from detection.options import DenseOptimizerOptions
from runtime.options import OptimizerOptions
from training.optim import Clipping, make_ema, make_optimizer, make_schedule, scale_lr
from utils import UserError


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))


# ---- learning rate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "pictures", "expected"), [
    ("auto", 32, 1e-3), ("auto", 512, 1e-3), ("auto", 1024, 2e-3), ("linear", 32, 1e-3 / 16), ("linear", 2048, 4e-3),
    ("sqrt", 128, 5e-4), ("sqrt", 2048, 2e-3), ("none", 32, 1e-3), ("none", 4096, 1e-3)])
def test_the_rate_follows_the_pictures_per_update(rule: str, pictures: int, expected: float) -> None:
    assert scale_lr(OptimizerOptions(lr=1e-3, lr_scaling=rule), pictures) == pytest.approx(expected, rel=1e-12)


def rates(options: OptimizerOptions, updates_per_epoch: int, lr: float = 0.1) -> list[float]:
    """The rate of each update, and after them the rate at the end."""
    optimizer = make_optimizer(small(), options, lr)
    schedule = make_schedule(optimizer, options, lr, updates_per_epoch)
    found = []
    for update in range(options.epochs * updates_per_epoch + 1):
        schedule.step_update(update)
        groups = {group["lr"] for group in optimizer.param_groups}
        assert len(groups) == 1
        found += groups
    return found


def test_warm_up_rises_to_the_rate_and_the_cosine_falls_to_the_least() -> None:
    found = rates(OptimizerOptions(epochs=40, warmup_epochs=2, warmup_lr=0.001, min_lr=0.01), updates_per_epoch=5)
    assert len(found) == 201
    assert found[0] == pytest.approx(0.001)
    steps = [after - before for before, after in itertools.pairwise(found[:11])]
    assert steps == pytest.approx([0.0099] * 10)  # linear, over two epochs
    assert found[10] == max(found) == pytest.approx(0.1)
    assert found[105] == pytest.approx(0.055)  # half-way down
    assert all(before > after for before, after in itertools.pairwise(found[10:]))
    assert found[-1] == pytest.approx(0.01)


def test_warm_up_takes_at_most_a_tenth_of_the_run() -> None:
    found = rates(OptimizerOptions(epochs=10, warmup_epochs=5), updates_per_epoch=3)
    assert found.index(max(found)) == 3


@pytest.mark.parametrize("options", [{"warmup_epochs": 0}, {"epochs": 1}])
def test_without_a_warm_up_the_first_update_has_the_full_rate(options: dict) -> None:
    assert rates(OptimizerOptions(**{"epochs": 4, **options}), updates_per_epoch=2)[0] == pytest.approx(0.1)


def test_the_ends_never_exceed_the_rate_itself() -> None:
    found = rates(OptimizerOptions(epochs=20, min_lr=1.0, warmup_lr=1.0), updates_per_epoch=2, lr=1e-4)
    assert found == pytest.approx([1e-4] * 41)


def test_steps_are_a_tenth_after_two_thirds_and_after_eleven_twelfths() -> None:
    found = rates(DenseOptimizerOptions(epochs=12, sched="step", warmup_epochs=1, warmup_lr=0.0), updates_per_epoch=10)
    assert found[12:80] == pytest.approx([0.1] * 68)
    assert found[80:110] == pytest.approx([0.01] * 30)
    assert found[110:] == pytest.approx([0.001] * 11)
    assert found[6] == pytest.approx(0.06)


def test_a_polynomial_falls_by_its_power() -> None:
    found = rates(DenseOptimizerOptions(epochs=4, sched="poly", warmup_epochs=0, min_lr=1e-6), updates_per_epoch=10)
    expected = [(0.1 - 1e-6) * (1 - update / 40) ** 0.9 + 1e-6 for update in range(40)]
    assert found[:40] == pytest.approx(expected)
    assert found[40] == pytest.approx(1e-6)


# ---- optimiser -------------------------------------------------------------------------------------------------------


def test_norms_biases_and_position_biases_are_not_decayed() -> None:
    network = timm.create_model("lsnet_t_artist", num_classes=3, img_size=64)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(network, OptimizerOptions(weight_decay=0.05), 1e-3)
    decay = {names[id(parameter)]: group["weight_decay"] for group in optimizer.param_groups
             for parameter in group["params"]}
    assert decay.keys() == set(names.values())
    for name, parameter in network.named_parameters():
        exempt = name.endswith((".bias", "attention_biases")) or parameter.ndim < 2
        assert decay[name] == (0 if exempt else 0.05), name
    assert {"head.l.weight", "head.l.bias"} <= decay.keys()
    assert any(name.endswith("attention_biases") for name in decay)


def test_adamw_steps_as_torchs_own() -> None:
    network, twin = small().double().eval(), small().double().eval()
    optimizer = make_optimizer(network, OptimizerOptions(weight_decay=0.1), 1e-2)
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    matrices = [parameter for parameter in twin.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in twin.parameters() if parameter.ndim < 2]
    expected = torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0}], 1e-2, weight_decay=0.1)
    for _ in range(3):
        for trained, stepped in ((network, optimizer), (twin, expected)):
            trained(images).square().sum().backward()
            stepped.step()
            stepped.zero_grad()
    for found, wanted in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("opt", ["sgd", "lamb", "lion", "adafactor"])
def test_other_optimisers_of_timm_move_the_weights(opt: str) -> None:
    network = small()
    before = copy.deepcopy(network.state_dict())
    optimizer = make_optimizer(network, OptimizerOptions(opt=opt), 1e-2)
    network(torch.ones(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    assert not torch.equal(network[3].bias, before["3.bias"])


@pytest.mark.parametrize("opt", ["adamwx", "", "adahessian", "bnbadam8bit", "fusedlamb"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="some of these are for CUDA")
def test_an_optimiser_that_cannot_be_had_is_the_users_error(opt: str) -> None:
    with pytest.raises(UserError, match=f"found --opt {opt}"):
        make_optimizer(small(), OptimizerOptions(opt=opt), 1e-3)


def test_the_closest_optimisers_are_named() -> None:
    with pytest.raises(UserError, match="expected for example adamw"):
        make_optimizer(small(), OptimizerOptions(opt="adamww"), 1e-3)


# ---- clipping --------------------------------------------------------------------------------------------------------


def with_gradients() -> nn.Sequential:
    network = small()
    for number, parameter in enumerate(network.parameters()):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    return network


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
@pytest.mark.parametrize("limit", [0.01, 0.5])
def test_clipping_is_timms_and_tells_the_norm_before(mode: str, limit: float) -> None:
    network, twin = with_gradients(), with_gradients()
    before = torch.cat([parameter.grad.flatten() for parameter in network.parameters()]).norm()
    norm = Clipping(network, mode, limit)()
    torch.testing.assert_close(norm, before)
    spared = list(twin.parameters())[:-2] if mode == "agc" else twin.parameters()  # all but the head
    dispatch_clip_grad(spared, limit, mode=mode)
    for found, wanted in zip(network.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=0, atol=0)
    unclipped = with_gradients()
    assert any(not torch.equal(a.grad, b.grad) for a, b in zip(network.parameters(), unclipped.parameters(),
                                                              strict=True))


@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_a_limit_of_zero_clips_nothing(mode: str) -> None:
    network = with_gradients()
    norm = Clipping(network, mode, 0.0)()
    assert norm > 1
    for found, wanted in zip(network.parameters(), with_gradients().parameters(), strict=True):
        assert torch.equal(found.grad, wanted.grad)


def test_gradients_below_the_limit_stay() -> None:
    network = with_gradients()
    Clipping(network, "norm", 1e6)()
    for found, wanted in zip(network.parameters(), with_gradients().parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad)


# ---- moving average --------------------------------------------------------------------------------------------------


def test_the_average_of_a_constant_network_is_that_network() -> None:
    network = small()
    ema = make_ema(network, OptimizerOptions())
    for step in range(1, 30):
        ema.update(network, step=step)
    for found, wanted in zip(ema.module.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(found, wanted)
    assert not ema.module.training


def test_the_average_follows_sooner_at_the_beginning_and_never_beyond_its_decay() -> None:
    network, shares = nn.Linear(1, 1), []
    for decay in (0.9, 0.9998):
        ema = make_ema(network, OptimizerOptions(model_ema_decay=decay))
        for step in (1, 2, 10, 10_000_000):
            with torch.no_grad():
                ema.module.weight.zero_()
                network.weight.fill_(1)
            ema.update(network, step=step)
            shares.append(ema.module.weight.item())
    assert shares[0] == shares[4] == 1  # the first update copies
    assert shares[1] > shares[2] > shares[3] == pytest.approx(0.1)
    assert shares[5] > shares[6] > shares[7]
    assert shares[7] == pytest.approx(1 - 0.9998, rel=1e-3)


def test_no_average_when_off() -> None:
    assert make_ema(small(), OptimizerOptions(model_ema=False)) is None
