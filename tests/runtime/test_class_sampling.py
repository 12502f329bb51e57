"""Updates that read part of a classifier's rows: what they do, on any number of ranks, and what they leave alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from runtime.class_parallel import DividedLoss, Division, divide_classifier, divided_classifier, divided_names
from runtime.class_sampling import ClassSampling, draw_sample
from runtime.divided_state import own_state, whole_optimizer, whole_state
from runtime.options import OptimizerOptions
from runtime.processes import process_group, rank, world_size
from tests.conftest import ROOT
from tests.forked import finish, start_ranks
from tests.runtime.test_class_parallel import CPU, IMAGES, Small, error
from training.optim import Clipping, make_optimizer
from training.scale import ELEMENTWISE

CLASSES, WIDTH, RATE, DECAY, LR, CLIP, SMOOTHING = 40, 6, 0.3, 0.05, 1e-2, 0.5, 0.1
ADJUSTMENT = torch.linspace(-2, 0, CLASSES, dtype=torch.float64)


def kept(labels: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Classes of a sample of all ranks, and how many classes each counts for."""
    labels = labels.flatten()
    drawn = torch.rand(CLASSES, generator=torch.Generator().manual_seed(seed)) < RATE
    ids = torch.tensor([number for number in range(CLASSES) if drawn[number] or number in labels.tolist()])
    return ids, torch.where(torch.isin(ids, labels), 1.0, torch.tensor(1 / RATE, dtype=torch.float64))


def plain_loss(logits: torch.Tensor, labels: torch.Tensor, seed: int, everyone: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of a weighted softmax over the classes that are kept."""
    ids, weights = kept(everyone, seed)
    logits = (logits + ADJUSTMENT)[:, ids]
    targets = SMOOTHING * (weights / weights.sum()).repeat(len(labels), 1)
    targets[torch.arange(len(labels)), torch.searchsorted(ids, labels)] += 1 - SMOOTHING
    total = (weights * logits.exp()).sum(1).log()
    return (total - (targets * logits).sum(1)).mean()


class PlainAdamW:
    """AdamW of one matrix, of which only some rows change."""

    def __init__(self, weight: torch.Tensor, decay: float) -> None:
        self.weight, self.decay, self.steps = weight, decay, 0
        self.first, self.second = torch.zeros_like(weight), torch.zeros_like(weight)

    def step(self, gradient: torch.Tensor, rows: torch.Tensor | slice) -> None:
        self.steps += 1
        weight, first, second = (tensor[rows] for tensor in (self.weight, self.first, self.second))
        first, second = 0.9 * first + 0.1 * gradient[rows], 0.999 * second + 0.001 * gradient[rows]**2
        way = first / (1 - 0.9**self.steps) / ((second / (1 - 0.999**self.steps)).sqrt() + 1e-8)
        self.weight[rows] = weight * (1 - LR * self.decay) - LR * way
        self.first[rows], self.second[rows] = first, second


def compare(updates: int) -> dict[str, float]:
    """Relative errors after so many updates of two batches each, on all ranks, against a plain whole network."""
    torch.manual_seed(0)
    network = Small(WIDTH, CLASSES).double()
    whole = copy.deepcopy(network)
    plain = {name: PlainAdamW(weight.data, DECAY if weight.ndim > 1 else 0.0)
             for name, weight in whole.named_parameters()}
    if world_size() == 1:
        divide_classifier(network)
        forward: nn.Module = network
    else:
        divide_classifier(network)
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, divided_names(network))
        forward = DistributedDataParallel(network)
    optimizer = make_optimizer(network, OptimizerOptions(weight_decay=DECAY), LR)
    sampling = ClassSampling(divided_classifier(network), optimizer, RATE)
    loss, found = DividedLoss(CLASSES, SMOOTHING, ADJUSTMENT), {"loss": 0.0, "norm": 0.0}
    for step in range(updates):
        count = 6 // world_size()
        inputs = torch.randn(2, 6, 5, dtype=torch.float64)
        labels = torch.randint(CLASSES, (2, 6))
        own = slice(count * rank(), count * rank() + count)
        with sampling.update(labels[:, own].flatten(), seed=step):
            for batch in range(2):
                value = loss(forward(inputs[batch, own]), labels[batch, own], IMAGES) / 2
                value.backward()
                right = plain_loss(whole(inputs[batch]), labels[batch], step, labels) / 2
                right.backward()
                found["loss"] = max(found["loss"], error(value.detach(), right.detach()))
            norm, right_norm = Clipping(network, "norm", CLIP)(), Clipping(whole, "norm", CLIP)()
            found["norm"] = max(found["norm"], error(norm, right_norm))
            optimizer.step()
            optimizer.zero_grad()
        rows, _ = kept(labels, step)
        for name, weight in whole.named_parameters():
            plain[name].step(weight.grad, rows if name.startswith("head") else slice(None))
            weight.grad = None
    state, moments = whole_state(network), whole_optimizer(optimizer, network)["state"]
    if rank() == 0:
        found["update"] = max(error(state[name], value) for name, value in whole.state_dict().items())
        names = {name: index for index, name in enumerate(
            name for group in (1, 2) for name, weight in whole.named_parameters() if weight.ndim == group)}
        found["moments"] = max(error(moments[names[name]][key], expected) for name, each in plain.items()
                               for key, expected in (("exp_avg", each.first), ("exp_avg_sq", each.second)))
    return found


def print_comparison() -> None:
    torch.set_num_threads(1)
    with process_group(CPU):
        found = compare(4)
        if rank() == 0:
            print(json.dumps(found))


def test_an_update_is_that_of_a_plain_weighted_softmax() -> None:
    assert max(compare(4).values()) < 1e-10


@pytest.mark.slow
def test_ranks_together_do_what_one_process_does(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                      "from tests.runtime.test_class_sampling import print_comparison; print_comparison()")
    assert max(json.loads(finish(start_ranks(2, script, cwd=tmp_path))).values()) < 1e-10


def make(opt: str = "adamw", rate: float = RATE, classes: int = CLASSES) -> tuple[Any, Any, ClassSampling]:
    torch.manual_seed(0)
    network = Small(WIDTH, classes).double()
    divide_classifier(network)
    optimizer = make_optimizer(network, OptimizerOptions(weight_decay=DECAY, opt=opt), LR)
    return network, optimizer, ClassSampling(divided_classifier(network), optimizer, rate)


def learn(network: Any, optimizer: torch.optim.Optimizer, sampling: ClassSampling, steps: range) -> list[float]:
    loss, losses = DividedLoss(network.head.division.rows, SMOOTHING), []
    for step in steps:
        torch.manual_seed(step)
        inputs, labels = torch.randn(6, 5, dtype=torch.float64), torch.randint(network.head.division.rows, (6,))
        with sampling.update(labels, seed=step):
            value = loss(network(inputs), labels, IMAGES)
            value.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("opt", ELEMENTWISE)
def test_other_rows_and_their_moments_stay_as_they_are(opt: str) -> None:
    network, optimizer, sampling = make(opt)
    learn(network, optimizer, sampling, range(3))
    before, moments = copy.deepcopy(network.head.state_dict()), copy.deepcopy(optimizer.state[network.head.weight])
    torch.manual_seed(3)
    torch.randn(6, 5, dtype=torch.float64)
    rows, _ = kept(torch.randint(CLASSES, (6,)), 3)
    learn(network, optimizer, sampling, range(3, 4))
    others = torch.ones(CLASSES, dtype=torch.bool).index_fill(0, rows, False)
    assert 0 < others.sum() < CLASSES
    for name, value in network.head.state_dict().items():
        assert torch.equal(value[others], before[name][others])
        assert not (value[rows] == before[name][rows]).flatten(1).any() if value.ndim > 1 else True
    for name, value in optimizer.state[network.head.weight].items():
        if isinstance(value, torch.Tensor) and value.ndim == 2:
            assert torch.equal(value[others], moments[name][others])
            assert not torch.equal(value[rows], moments[name][rows])
    assert {id(weight) for weight in optimizer.state} <= {id(weight) for weight in network.parameters()}


@pytest.mark.parametrize("opt", ELEMENTWISE)
def test_a_sample_of_all_rows_is_the_whole_classifier(opt: str) -> None:
    network, optimizer, sampling = make(opt, rate=1 - 1e-12)
    whole, other, _ = make(opt)
    found = learn(network, optimizer, sampling, range(4))
    plain: Any = type("", (), {"update": lambda self, labels, seed: torch.enable_grad()})()
    assert found == pytest.approx(learn(whole, other, plain, range(4)), rel=1e-10)
    assert all(error(value, whole.state_dict()[name]) < 1e-9 for name, value in network.state_dict().items())


def test_a_run_that_is_stored_between_updates_goes_on_to_the_last_bit() -> None:
    network, optimizer, sampling = make()
    expected = learn(network, optimizer, sampling, range(6))
    again, other, drawing = make()
    losses = learn(again, other, drawing, range(3))
    state, moments = copy.deepcopy(whole_state(again)), copy.deepcopy(whole_optimizer(other, again))
    again, other, drawing = make()
    again.load_state_dict(own_state(again, state))
    other.load_state_dict(moments)
    assert losses + learn(again, other, drawing, range(3, 6)) == expected
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in network.state_dict().items())


def test_the_expectation_of_the_softmax_is_that_of_all_classes() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(CLASSES).double(), torch.tensor([3, 17])
    found, counts = torch.zeros(2000, dtype=torch.float64), torch.zeros(CLASSES)
    for seed in range(len(found)):
        sample = draw_sample(Division(CLASSES, 1), labels, RATE, seed)
        found[seed] = (sample.weights * logits[sample.rows].exp()).sum()
        counts[sample.rows] += 1
    assert (counts[labels] == len(found)).all()
    assert (counts / len(found) - RATE).abs().median() < 0.02
    assert (found.mean() - logits.exp().sum()).abs() < 4 * found.std() / len(found)**0.5


def test_a_failed_update_leaves_the_classifier_whole() -> None:
    network, optimizer, sampling = make()
    learn(network, optimizer, sampling, range(1))
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError, match="memory"), sampling.update(torch.tensor([1, 2]), seed=0):
        raise RuntimeError("memory")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    learn(network, optimizer, sampling, range(1, 2))


def test_a_part_of_which_nothing_is_drawn_has_no_loss_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    network, optimizer, sampling = make(rate=1e-9)
    assert len(draw_sample(Division(CLASSES, 2), torch.tensor([39]), 1e-9, 0).rows) == 0
    losses = learn(network, optimizer, sampling, range(2))
    assert all(loss > 0 for loss in losses)
