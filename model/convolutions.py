"""Convolutions where PyTorch's own are slow on a CPU.

Of single pixels, as the last stage has them of a picture of 64 px, a pointwise convolution is a matrix product, but
oneDNN's way there takes three times as long. And in inference PyTorch brings the weights of each convolution into
oneDNN's order at every call, and walks through its result once more for the ReLU behind it.

Letters: B batch, C channels, H W height and width in px.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

AVAILABLE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


class Pointwise(nn.Conv2d):
    """A 1x1 convolution: (B, in, H, W) -> (B, out, H, W)."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Trains lsnet_t at 64 px, batch 64, in 157 ms a step instead of 199 (two cores, float32)."""
        if x_BCHW.shape[2:] != (1, 1):
            return super().forward(x_BCHW)
        return F.linear(x_BCHW.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


def absorb(network: nn.Module) -> None:
    """Replace the convolutions in `network`, folded and in evaluation mode, and let them absorb the ReLUs behind them.

    A ReLU is taken to run right behind a convolution if their parent registers it there.
    """
    for parent in list(network.modules()):
        children = [item for item in parent.named_children() if not isinstance(item[1], nn.Identity)]
        for (name, child), (next_name, behind) in pairwise([*children, ("", None)]):
            if type(child) is nn.Conv2d:
                relu = isinstance(behind, nn.ReLU)
                setattr(parent, name, Convolution(child, relu))
                if relu:
                    setattr(parent, next_name, nn.Identity())


class Convolution(nn.Conv2d):
    """A convolution for inference, and the ReLU behind it if there is one, in a single pass of oneDNN.

    Its parameters are those of `conv`. Beside them it keeps the weights in oneDNN's order where oneDNN serves, in step
    with whatever loads, moves or changes them; only compiled programs do not see a change by hand, in place.
    """

    def __init__(self, conv: nn.Conv2d, relu: bool):
        super().__init__(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding,
                         groups=conv.groups, device="meta")
        self.weight, self.bias, self.relu = conv.weight, conv.bias, relu
        self._order()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""
        if not torch.compiler.is_compiling() and not self._in_step():
            self._order()
        if not self._serves(x_BCHW):
            y_BCHW = super().forward(x_BCHW)
            return y_BCHW.relu_() if self.relu else y_BCHW
        return torch.ops.mkldnn._convolution_pointwise(
            x_BCHW, self._ordered, self.bias, self.padding, self.stride, self.dilation, self.groups,
            "relu" if self.relu else "none", [], "")

    def _serves(self, x_BCHW: Tensor) -> bool:
        """Whether oneDNN's operator takes this input, and nobody asks for what it does not know: a gradient, autocast,
        a program that runs without it.
        """
        return (self._ordered is not None and x_BCHW.device.type == "cpu" and x_BCHW.dtype == self.weight.dtype
                and not (torch.is_grad_enabled() and (x_BCHW.requires_grad or self.weight.requires_grad))
                and not torch.is_autocast_enabled("cpu")
                and not torch.compiler.is_exporting() and not torch.jit.is_tracing())

    @torch.no_grad()
    def _order(self) -> None:
        weight = self.weight
        self._ordered = torch.ops.mkldnn._reorder_convolution_weight(
            weight.contiguous(memory_format=torch.channels_last), self.padding, self.stride, self.dilation, self.groups,
            None) if _supported(weight) else None
        self._ordered_from = weight, _version(weight)

    def _in_step(self) -> bool:
        weight, version = self._ordered_from
        return weight is self.weight and version == _version(weight)

    def _apply(self, *args: Any, **kwargs: Any) -> Convolution:
        super()._apply(*args, **kwargs)
        self._order()
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._order()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ordered": None, "_ordered_from": None}  # oneDNN's tensors are not for copying

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._order()


def _supported(weight: Tensor) -> bool:
    """Whether oneDNN computes with these weights here; those that others put in a parameter's place it never sees."""
    if not AVAILABLE or type(weight) is not nn.Parameter or weight.device.type != "cpu":
        return False
    return (weight.dtype == torch.float32
            or (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported())
            or (weight.dtype == torch.float16 and torch.ops.mkldnn._is_mkldnn_fp16_supported()))


def _version(weight: Tensor) -> int | None:
    """How often the weights were changed in place; tensors made in inference mode do not count."""
    return None if weight.is_inference() else weight._version


if AVAILABLE:
    @register_flop_formula(torch.ops.mkldnn._convolution_pointwise)
    def _flops(x_shape: torch.Size, w_shape: torch.Size, *_: object, out_shape: torch.Size, **__: object) -> int:
        return conv_flop_count(x_shape, w_shape, out_shape)
