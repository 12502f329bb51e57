"""State dicts of networks and optimisers that are divided among ranks: gathered to be stored, and divided again.

A classifier may be divided by classes (`runtime/class_parallel.py`), or all weights by torch's `fully_shard`, whose
parameters are DTensors. What is stored is the ordinary state dict either way, so that a run goes on, and a network is
used, on any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from runtime.class_parallel import Division, divided_classifier, divided_names
from runtime.processes import rank

State = dict[str, Any]


def whole_state(network: torch.nn.Module, *, everywhere: bool = False) -> State:
    """The state dict of `network`, complete on the first rank only; all ranks must call it.

    With `everywhere`, what `fully_shard` divided is complete on every rank, on its device.
    """
    head, names = divided_classifier(network), {*divided_names(network)}
    return {name: _whole(value, head.division if head and name in names else None, everywhere=everywhere)
            for name, value in network.state_dict().items()}


def own_state(network: torch.nn.Module, state: Mapping[str, Any]) -> State:
    """One rank's part of the whole `state`; what has another shape than `network` has whole stays, to be refused."""
    head, names, own = divided_classifier(network), {*divided_names(network)}, network.state_dict()
    return {name: _own(value, own.get(name), head.division if head and name in names else None)
            for name, value in state.items()}


def whole_optimizer(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> State:
    """The state dict of `optimizer`, of the parameters of `network`; complete on the first rank only."""
    state, weights = optimizer.state_dict(), _weights(optimizer, network)
    moments = {index: {name: _whole(value, weights[index][1] if _is_moment(value, weights[index][0]) else None)
                       for name, value in found.items()} for index, found in state["state"].items()}
    return {**state, "state": moments}


def own_moments(optimizer: torch.optim.Optimizer, network: torch.nn.Module,
                moments: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """One rank's part of `moments`, the `state` of a whole optimiser's state dict."""
    weights = _weights(optimizer, network)
    return {index: {name: _own(value, *weights[index]) for name, value in found.items()}
            for index, found in moments.items()}


def whole_shapes(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> list[torch.Size]:
    """The shapes of the optimiser's weights, as they are undivided."""
    return [_whole_shape(weight, division) for weight, division in _weights(optimizer, network)]


def is_finite(network: torch.nn.Module) -> bool:
    """Whether all weights that this rank holds are."""
    held = (weight.to_local() if isinstance(weight, DTensor) else weight for weight in network.parameters())
    return all(bool(weight.isfinite().all()) for weight in held)


def _weights(optimizer: torch.optim.Optimizer,
             network: torch.nn.Module) -> list[tuple[torch.Tensor, Division | None]]:
    """The weights by their numbers in the optimiser's state dict, and how each is divided by classes."""
    head = divided_classifier(network)
    own = {id(parameter) for parameter in head.parameters()} if head else set()
    return [(weight, head.division if head and id(weight) in own else None)
            for group in optimizer.param_groups for weight in group["params"]]


def _is_moment(value: Any, weight: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == weight.shape


def _whole_shape(weight: torch.Tensor, division: Division | None) -> torch.Size:
    return weight.shape if division is None else torch.Size([division.rows, *weight.shape[1:]])


def _whole(value: Any, division: Division | None, *, everywhere: bool = False) -> Any:
    if isinstance(value, DTensor):
        full = value.full_tensor()
        return full if everywhere else full.cpu() if rank() == 0 else value
    return division.whole(value) if division else value


def _own(value: Any, weight: torch.Tensor | None, division: Division | None) -> Any:
    """The part of `value` that belongs to this rank's part of `weight`, if it is of the whole one's shape."""
    if weight is None or not isinstance(value, torch.Tensor) or value.shape != _whole_shape(weight, division):
        return value
    if isinstance(weight, DTensor):
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)
    return division.own(value) if division else value
