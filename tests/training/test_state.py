"""Odd optimiser states in a checkpoint are refused before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runtime.checkpoint import Checkpoint
from runtime.options import OptimizerOptions
from training.optim import make_optimizer, make_schedule
from training.state import Position, TrainingState
from utils import UserError


def make_state(opt: str = "adamw", steps: int = 0) -> TrainingState:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    options = OptimizerOptions(epochs=3, warmup_epochs=0, opt=opt)
    optimizer = make_optimizer(network, options, 1e-3)
    state = TrainingState(network=network, ema=None, optimizer=optimizer,
                          schedule=make_schedule(optimizer, options, 1e-3, 4),
                          scaler=torch.amp.GradScaler("cpu", enabled=False), updates_per_epoch=4, per_update=2,
                          position=Position(epoch=1, step=2, best_metric=3.0))
    for _ in range(steps):
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    return state


def saved(opt: str = "adamw") -> dict[str, Any]:
    return copy.deepcopy({"format": "lsnet-artist-1", **make_state(opt, steps=2).as_content()})


def restore(content: dict[str, Any], opt: str = "adamw") -> TrainingState:
    state = make_state(opt)
    state.restore(Checkpoint(path=Path("c.pth"), model=content["model"], content=content))
    return state


@pytest.mark.parametrize("opt", ["adamw", "sgd", "adafactor", "lamb", "lion", "nadamw"])
def test_a_state_comes_back(opt: str) -> None:
    content = saved(opt)
    state = restore(content, opt)
    assert (state.position.epoch, state.position.step, state.position.best_metric) == (1, 2, 3.0)
    for key, moments in content["optimizer"]["state"].items():
        found = state.optimizer.state_dict()["state"][key]
        assert moments.keys() == found.keys()
        assert all(torch.equal(found[name], moment) for name, moment in moments.items()
                   if isinstance(moment, torch.Tensor))


def test_switches_that_an_older_torch_does_not_know_are_filled_in() -> None:
    content = saved()
    del content["optimizer"]["param_groups"][0]["amsgrad"]
    assert restore(content).optimizer.param_groups[0]["amsgrad"] is False


def group(**values: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["optimizer"]["param_groups"][0].update(values)


def moment(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["optimizer"]["state"][0].update({name: value})


@pytest.mark.parametrize("spoil", [
    group(lr="x"), group(lr=float("nan")), group(betas=0.9), group(betas=("a", 0.1)), group(params=[0, 0, 7]),
    group(weight_decay=torch.ones(2)), moment("exp_avg", 3), moment("exp_avg", torch.ones(7, 7)),
    moment("exp_avg", torch.eye(3).to_sparse()), moment("exp_avg_sq", torch.empty(2, 3, device="meta")),
    moment("step", "x"), lambda content: content.update(optimizer=[1]), lambda content: content.update(epoch="x"),
    lambda content: content.update(step=-1), lambda content: content.update(best_metric=torch.ones(2)),
    lambda content: content.update(per_update=0), lambda content: content["optimizer"].update(state=[1]),
    lambda content: content["optimizer"].update(param_groups=7), lambda content: content["optimizer"].pop("state"),
    lambda content: content["optimizer"]["state"].update({99: {"exp_avg": torch.ones(1)}}),
])
def test_odd_states_are_refused(spoil: Callable[[dict[str, Any]], Any]) -> None:
    content = saved()
    spoil(content)
    with pytest.raises(UserError, match=r"c\.pth, whose optimiser is another") as refused:
        restore(content)
    assert "\n" not in str(refused.value)


def test_the_state_of_another_optimiser_is_refused() -> None:
    with pytest.raises(UserError, match="whose optimiser is another"):
        restore(saved("sgd"))
    restore({**saved(), "lr_scheduler": "odd", "scaler": None, "rng": [1]})  # what is made anew may hold anything
