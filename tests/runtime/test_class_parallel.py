"""A classifier divided among ranks: loss, gradients, one update, answers and stored form are those of the whole one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from losses import ClassificationLoss
from runtime.class_parallel import (
    DividedLoss,
    Division,
    divide_classifier,
    divided_classifier,
    divided_names,
    rank_answers,
)
from runtime.divided_state import own_moments, own_state, whole_optimizer, whole_state
from runtime.options import OptimizerOptions
from runtime.processes import process_group, rank, world_size
from tests.conftest import ROOT
from tests.forked import finish, start_ranks
from training.optim import Clipping, make_optimizer
from utils import UserError

CPU = torch.device("cpu")
IMAGES = torch.empty(0)
CLIP = 0.1  # below the norm of the gradients, so that all ranks must find the same norm


class Small(nn.Module):
    """A backbone of one layer, which all ranks share, and a classifier."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.pretrained_cfg = {"classifier": "head"}
        self.backbone, self.head = nn.Linear(5, width), nn.Linear(width, classes)

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.head(self.backbone(inputs).tanh())


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference, relative to the largest number expected."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def step(network: nn.Module, forward: nn.Module, loss: nn.Module, inputs: torch.Tensor, labels: torch.Tensor,
         optimizer: torch.optim.Optimizer) -> tuple[torch.Tensor, torch.Tensor]:
    found = loss(forward(inputs), labels, IMAGES)
    found.backward()
    norm = Clipping(network, "norm", CLIP)()
    optimizer.step()
    return found.detach(), norm


def compare(classes: int, width: int, dtype: torch.dtype, opt: str, smoothing: float,
            adjusted: bool) -> dict[str, float]:
    """Relative errors of one update on all ranks together, against one of the whole network on the first rank."""
    torch.manual_seed(0)
    network = Small(width, classes).to(dtype)
    inputs = torch.randn(6 * world_size(), 5, dtype=dtype)
    labels = torch.randint(classes, (6 * world_size(),))
    adjustment = torch.rand(classes, dtype=dtype).log() if adjusted else None
    options = OptimizerOptions(weight_decay=0.05, opt=opt)
    found: dict[str, float] = {}
    whole = copy.deepcopy(network) if rank() == 0 else None
    divide_classifier(network)
    head = divided_classifier(network)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(network, divided_names(network))
    own = slice(6 * rank(), 6 * rank() + 6)
    optimizer = make_optimizer(network, options, 1e-3)
    loss, norm = step(network, DistributedDataParallel(network), DividedLoss(classes, smoothing, adjustment),
                      inputs[own], labels[own], optimizer)
    gradients = {name: head.division.whole(parameter.grad) if name in divided_names(network) else parameter.grad
                 for name, parameter in network.named_parameters()}
    state, stored = whole_state(network), whole_optimizer(optimizer, network)
    answers = rank_answers(head, torch.ones(rank() * 2, width, dtype=dtype), torch.arange(rank() * 2), min(7, classes))
    found["bytes"] = count_bytes(head, optimizer)
    if whole is not None:
        exact = exact_update(whole, inputs, labels, options, smoothing, adjustment)
        other = make_optimizer(whole, options, 1e-3)
        expected = ExactLoss(smoothing, adjustment) if dtype is torch.float64 else ClassificationLoss(
            smoothing, adjustment)
        right, right_norm = step(whole, whole, expected, inputs, labels, other)
        found |= {"loss": error(loss, right), "norm": error(norm, right_norm), "clipped": float(right_norm > CLIP)}
        found["gradients"] = max(error(gradients[name], parameter.grad) for name, parameter in whole.named_parameters())
        found["update"] = max(error(state[name], value) for name, value in whole.state_dict().items())
        found["moments"] = max(error(stored["state"][index][name], value) for index, moments in
                               other.state_dict()["state"].items() for name, value in moments.items())
        found["rounding"], found["undivided rounding"] = (max(error(
            one[name].double(), value) for name, value in exact.items()) for one in (state, whole.state_dict()))
        found["undivided bytes"] = count_bytes(whole.head, other)
        assert len(answers.ids) == 0, "the first rank asked about no picture"
        # What was gathered comes back in parts.
        own, moments = own_state(network, state), own_moments(optimizer, network, stored["state"])
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in own.items())
        assert all(torch.equal(value, optimizer.state_dict()["state"][index][name])
                   for index, each in moments.items() for name, value in each.items())
    return found


def exact_update(network: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, options: OptimizerOptions,
                 smoothing: float, adjustment: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """The weights of `network` after one update in float64."""
    network = copy.deepcopy(network).double()
    step(network, network, ExactLoss(smoothing, adjustment), inputs.double(), labels, make_optimizer(
        network, options, 1e-3))
    return network.state_dict()


def count_bytes(head: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Of the weights of `head` and their moments."""
    return sum(tensor.nbytes for weight in head.parameters() for tensor in (
        weight, *(moment for moment in optimizer.state[weight].values() if moment is not None and moment.ndim)))


class ExactLoss(ClassificationLoss):
    """The same in float64."""

    def forward(self, logits: torch.Tensor, targets: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        logits = logits if self.adjustment is None else logits + self.adjustment
        return nn.functional.cross_entropy(logits, targets, label_smoothing=self.smoothing)


def print_comparison(classes: int, width: int) -> None:
    """Print, on the first rank, the errors with and without smoothing and adjustment, in both precisions."""
    torch.set_num_threads(1)
    with process_group(CPU):
        for dtype, opt in ((torch.float32, "sgd"), (torch.float32, "adamw"), (torch.float64, "adamw")):
            for smoothing, adjusted in ((0.0, False), (0.1, True)):
                found = compare(classes, width, dtype, opt, smoothing, adjusted)
                if rank() == 0:
                    print(json.dumps({"dtype": str(dtype), "opt": opt, **found}))


def run_ranks(tmp_path: Path, processes: int, call: str) -> list[dict[str, Any]]:
    script = tmp_path / "ranks.py"
    name = call.partition("(")[0]
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                      f"from tests.runtime.test_class_parallel import {name}; {call}")
    return [json.loads(line) for line in finish(start_ranks(processes, script, cwd=tmp_path)).splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "classes", "width"), [
    (2, 11, 6), (3, 11, 6),
    *(pytest.param(processes, 100_000, 768, marks=pytest.mark.exhaustive) for processes in (2, 4))])
def test_an_update_is_that_of_the_whole_classifier(tmp_path: Path, processes: int, classes: int, width: int) -> None:
    found = run_ranks(tmp_path, processes, f"print_comparison({classes}, {width})")
    assert len(found) == 6
    for errors in found:
        print(errors)
        limit = 1e-5 if errors["dtype"] == "torch.float32" else 1e-10
        assert errors["clipped"]
        assert max(errors[name] for name in ("loss", "norm", "gradients")) < limit, errors
        assert errors["moments"] < 2 * limit, errors  # squares, after clipping by a norm that float32 rounds
        # AdamW's first step is the gradient's sign wherever that is above 1e-8: in float32, rounding decides of the
        # smallest, in the undivided classifier as well.
        assert errors["update"] < limit or (errors["opt"] == "adamw" and (
            errors["rounding"] < 2 * errors["undivided rounding"])), errors
        assert errors["bytes"] == pytest.approx(errors["undivided bytes"] / processes, rel=processes / classes)


def print_answers() -> None:
    """Print the answers of every rank to its own pictures, of which ranks have 0, 3, 6, …"""
    torch.set_num_threads(1)
    with process_group(CPU):
        torch.manual_seed(0)
        network = Small(6, 11)
        features, labels = torch.randn(9, 6), torch.randint(11, (9,))
        logits = network.head(features)
        own = slice(3 * rank() * (rank() - 1) // 2, 3 * rank() * (rank() + 1) // 2)
        divide_classifier(network)
        found = rank_answers(divided_classifier(network), features[own], labels[own], 8)
        highest, ids = logits[own].topk(8)
        print(json.dumps({"pictures": len(found.ids), "same": all((
            torch.equal(found.ids, ids), torch.allclose(found.logits, highest, atol=1e-6),
            torch.allclose(found.total, logits[own].logsumexp(1), atol=1e-6),
            torch.allclose(found.own, logits[own].gather(1, labels[own, None])[:, 0], atol=1e-6)))}))


@pytest.mark.slow
def test_the_highest_answers_are_those_of_all_logits(tmp_path: Path) -> None:
    found = run_ranks(tmp_path, 3, "print_answers()")  # of 11 classes, no rank has 8
    assert sorted(each["pictures"] for each in found) == [0, 3, 6]
    assert all(each["same"] for each in found)


@pytest.mark.parametrize(("rows", "parts"), [(10, 1), (10, 3), (11, 4), (4, 4)])
def test_rows_are_divided_evenly(rows: int, parts: int) -> None:
    found = [range(rows)[Division(rows, parts).part(number)] for number in range(parts)]
    assert [row for part in found for row in part] == list(range(rows))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_only_one_linear_layer_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Small(6, 3)
    monkeypatch.setattr("runtime.class_parallel.world_size", lambda: 4)
    with pytest.raises(UserError, match="3 classes on 4 processes"):
        divide_classifier(network)
    network.head = nn.Sequential()
    with pytest.raises(UserError, match="not one linear layer"):
        divide_classifier(network)
