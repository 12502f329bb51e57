"""State dicts of networks and optimisers whose parameters are divided among ranks: gathered to be stored, and divided.

What is stored is the ordinary state dict, so that a run goes on, and a network is used, on any number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from runtime.class_parallel import Division, divided_classifier, divided_names

State = dict[str, Any]


def whole_state(network: torch.nn.Module) -> State:
    """The state dict of `network`, complete on the first rank only; all ranks must call it."""
    head, names = divided_classifier(network), {*divided_names(network)}
    state: State = network.state_dict()
    return {name: head.division.whole(value) if head and name in names else value for name, value in state.items()}


def own_state(network: torch.nn.Module, state: Mapping[str, Any]) -> State:
    """One rank's part of the whole `state`; what is not as long as the classifier stays, to be refused."""
    head, names = divided_classifier(network), {*divided_names(network)}
    return {name: _own(head.division, value) if head and name in names else value for name, value in state.items()}


def whole_optimizer(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> State:
    """The state dict of `optimizer`, of the parameters of `network`; complete on the first rank only."""
    state = optimizer.state_dict()
    divided = dict(_divided_indices(optimizer, network))
    if not divided:
        return state
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {index: {name: divided[index].whole(value) if index in divided and _is_moment(value, weights[index])
                       else value for name, value in found.items()} for index, found in state["state"].items()}
    return {**state, "state": moments}


def own_moments(optimizer: torch.optim.Optimizer, network: torch.nn.Module,
                moments: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    """One rank's part of `moments`, the `state` of a whole optimiser's state dict."""
    divided = dict(_divided_indices(optimizer, network))
    return {index: {name: _own(divided[index], value) if index in divided else value for name, value in found.items()}
            for index, found in moments.items()}


def _divided_indices(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> Iterator[tuple[int, Division]]:
    """The numbers that an optimiser's state dict gives to divided parameters."""
    head = divided_classifier(network)
    own = {id(parameter) for parameter in head.parameters()} if head else set()
    weights = (weight for group in optimizer.param_groups for weight in group["params"])
    return ((index, head.division) for index, weight in enumerate(weights) if head and id(weight) in own)


def _is_moment(value: Any, weight: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == weight.shape


def _own(division: Division, value: Any) -> Any:
    is_whole = isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == division.rows
    return division.own(value) if is_whole else value
