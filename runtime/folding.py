"""Networks for inference: batch norms and parallel branches become part of the convolutions beside them."""

from __future__ import annotations

import copy

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from model.lsnet import LSNet
from utils import UserError

TOLERANCE = 1e-3  # relative difference of outputs: float32 stays well below it, a wrong fold never does


@torch.no_grad()
def fold(network: nn.Module, images_BCHW: Tensor) -> nn.Module:
    """A copy of `network` in evaluation mode with the same outputs and fewer layers.

    LSNet folds itself. In other networks timm folds the branches that it knows, and then every batch norm that reads
    the output of a convolution becomes part of that convolution.

    Args:
        network: any network of convolutions and batch norms, in any mode; it is not changed.
        images_BCHW: an input of the network, to trace which norm follows which convolution and to compare the outputs.

    Raises:
        UserError: other layers read the output of a folded convolution too, so that the outputs would differ.
    """
    if isinstance(network, LSNet):
        return network.for_inference()
    expected = copy.deepcopy(network).eval()(images_BCHW)
    network = reparameterize_model(copy.deepcopy(network).eval(), inplace=True).requires_grad_(False)
    names = {module: name for name, module in network.named_modules()}
    for norm, conv in _find_norms_after_convolutions(network, images_BCHW).items():
        network.set_submodule(names[conv], fuse_conv_bn_eval(conv, norm))
        rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]  # timm's norm with activation
        network.set_submodule(names[norm], nn.Sequential(*rest) if rest else nn.Identity())
    found = network(images_BCHW)
    if not (found - expected).norm() <= TOLERANCE * expected.norm():
        raise UserError(f"{type(network).__name__}, whose batch norms do not fold", "norms that are the only readers "
                        "of their convolutions", "add --no-fuse")
    return network


def _find_norms_after_convolutions(network: nn.Module, images_BCHW: Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """The batch norms whose input is the very tensor that a convolution returned, each with that convolution."""
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # by id; holds the tensors, so that no id is used twice
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}

    def before_norm(norm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in outputs:
            pairs[norm] = outputs[id(inputs[0])][0]

    def after_convolution(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[id(output)] = conv, output

    hooks = [module.register_forward_pre_hook(before_norm) if isinstance(module, nn.BatchNorm2d)
             else module.register_forward_hook(after_convolution)
             for module in network.modules() if isinstance(module, nn.BatchNorm2d | nn.Conv2d)]
    network(images_BCHW)
    for hook in hooks:
        hook.remove()
    return pairs
