"""LSNet with its LS convolutions in plain PyTorch operations, to time our own operator against."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from model.layers import TAPS, LSConv
from model.ska import ska_products, ska_reference

FORMULATIONS = {"unfold": ska_reference, "shifted": ska_products}


class PlainLSConv(nn.Module):
    """An LS convolution with the layers and keys of an `LSConv`, but SKA by another function."""

    def __init__(self, conv: LSConv, aggregate: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Take over the layers of `conv`; `aggregate` computes SKA, see `ska_reference`."""
        super().__init__()
        self.lkp, self.bn, self.aggregate = conv.lkp, conv.bn, aggregate

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        lkp = self.lkp
        hidden_BCHW = lkp.act3(lkp.cv3(lkp.cv2(lkp.act1(lkp.cv1(x_BCHW)))))
        w_BGTHW = lkp.norm(lkp.cv4(hidden_BCHW).contiguous()).unflatten(1, (lkp.groups, TAPS))
        return self.bn(self.aggregate(x_BCHW, w_BGTHW)) + x_BCHW


def replace_ls_convolutions(network: nn.Module, formulation: str) -> bool:
    """Replace each `LSConv` of `network` by its formulation; False where there is none of either."""
    layers = [(name, module) for name, module in network.named_modules() if isinstance(module, LSConv)]
    for name, layer in layers if formulation in FORMULATIONS else ():
        network.set_submodule(name, PlainLSConv(layer, FORMULATIONS[formulation]))
    return bool(layers) and formulation in FORMULATIONS
