"""The cost of a network: parameters, multiply-adds and activations, in all and part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import conv_flop_count, flop_registry

CONTAINERS = ("blocks", "layers", "stages")  # their children are listed as parts of their own
FUSED_CONVOLUTION = "mkldnn._convolution_pointwise"  # in model/convolutions.py; torch has no formula for it


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of a network or of a part of it.

    Attributes:
        name: of the part in the network; empty for the whole network.
        shape: of its output without the batch, such as 64 x 28 x 28.
        parameters: number of weights.
        multiply_adds: per image, of convolutions, matrix products and small-kernel aggregation.
        activations: numbers per image in the results of these.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int


class _Counter(TorchDispatchMode):
    """Adds up multiply-adds and activations of the operations under it, for those that have a FLOP formula.

    The formulas are torch's and, for SKA, the one that `model/ska.py` registers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = self.activations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        operator = func.overloadpacket
        if str(operator) == FUSED_CONVOLUTION:
            flops = conv_flop_count(list(args[0].shape), list(args[1].shape), list(result.shape))
        elif operator in flop_registry:
            flops = flop_registry[operator](*args, **(kwargs or {}), out_val=result)
        else:
            return result
        self.multiply_adds += flops // 2
        self.activations += _first(result).numel()
        return result


@torch.no_grad()
def count_costs(network: nn.Module, image_CHW: Tensor) -> list[Cost]:
    """The cost of each part of `network` in evaluation, in the order they run, and last that of the whole."""
    network.eval()
    counter = _Counter()
    found: list[Cost] = []
    before: dict[nn.Module, tuple[int, int]] = {}

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before[module] = counter.multiply_adds, counter.activations

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        multiply_adds, activations = before[module]
        found.append(Cost(name=names[module], shape=tuple(_first(output).shape[1:]),
                          parameters=count_parameters(module), multiply_adds=counter.multiply_adds - multiply_adds,
                          activations=counter.activations - activations))

    names = {module: name for name, module in _parts(network)} | {network: ""}
    hooks = [hook for module in names
             for hook in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
    with counter, sdpa_kernel(SDPBackend.MATH):  # attention as matrix products: not every fused kernel has a formula
        network(image_CHW[None])
    for hook in hooks:
        hook.remove()
    return found


def count_parameters(network: nn.Module) -> int:
    """The number of weights in all parameters of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())


def _first(result: Any) -> Tensor:
    while not isinstance(result, Tensor):
        result = next(iter(result.values() if isinstance(result, dict) else result))
    return result


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in network.named_children():
        if count_parameters(module) and name in CONTAINERS:
            yield from ((f"{name}.{inner}", part) for inner, part in module.named_children())
        elif count_parameters(module):
            yield name, module
