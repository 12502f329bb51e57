"""What a network costs, counted: parameters, multiply-adds and activations, in all and part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from model.layers import TAPS, LSConv

OPENED = ("blocks", "layers", "stages")  # containers whose children are the parts people speak of
OURS = "lsnet"  # namespace of the kernels


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of one part, or of all.

    Attributes:
        name: the part's name in the network; empty for the whole.
        shape: of its output without the batch, such as 64 x 28 x 28.
        parameters: numbers that training changes.
        multiply_adds: per picture, of convolutions, matrix products and small-kernel aggregation.
        activations: numbers per picture that these write.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    activations: int


class _Counter(TorchDispatchMode):
    """Adds up what the operations under it compute.

    Operations are counted by torch's own formulas. SKA is counted where LSConv calls it, nine multiply-adds for each
    output: on the CPU it is made of sums that torch has no formula for, on a GPU it is one kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.multiply_adds = self.activations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula and func.namespace != OURS:
            self.multiply_adds += formula(*args, **(kwargs or {}), out_val=result) // 2
            self.activations += _tensor(result).numel()
        return result

    def aggregated(self, module: LSConv, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """A forward hook: `module` called SKA once."""
        self.multiply_adds += TAPS * output.numel()
        self.activations += output.numel()


@torch.no_grad()
def costs(network: nn.Module, image_CHW: Tensor) -> list[Cost]:
    """The cost of each part of `network` in evaluation, in the order they run, and last that of the whole."""
    network.eval()
    counter, found, before = _Counter(), [], {}

    def enter(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before[module] = counter.multiply_adds, counter.activations

    def leave(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        multiply_adds, activations = before[module]
        found.append(Cost(name=names[module], shape=tuple(_tensor(output).shape[1:]), parameters=parameters(module),
                          multiply_adds=counter.multiply_adds - multiply_adds,
                          activations=counter.activations - activations))

    names = {module: name for name, module in _parts(network)} | {network: ""}
    hooks = [module.register_forward_hook(counter.aggregated)
             for module in network.modules() if isinstance(module, LSConv)]
    hooks += [hook for module in names
              for hook in (module.register_forward_pre_hook(enter), module.register_forward_hook(leave))]
    with counter, sdpa_kernel(SDPBackend.MATH):  # attention in matrix products: not every fused kernel has a formula
        network(image_CHW[None])
    for hook in hooks:
        hook.remove()
    return found


def parameters(network: nn.Module) -> int:
    """How many numbers training would change."""
    return sum(parameter.numel() for parameter in network.parameters())


def _tensor(result: Tensor | tuple[Tensor, ...]) -> Tensor:
    return result if isinstance(result, Tensor) else result[0]


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    children = [(name, module) for name, module in network.named_children() if parameters(module)]
    for name, module in children:
        if name in OPENED:
            yield from ((f"{name}.{inner}", part) for inner, part in module.named_children())
        else:
            yield name, module
