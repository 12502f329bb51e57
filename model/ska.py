"""Small-kernel aggregation (SKA): every pixel sums its k x k neighbourhood with weights of its own.

    y[b, c, h, w] = sum over taps t of  w[b, c mod G, t, h, w] * x[b, c, h + dy(t), w + dx(t)]

Taps run in row order over the neighbourhood (t = 0 is its upper left corner); x is zero outside the image.
The channels c, c + G, c + 2G, ... share their weights.

Letters: B batch, C channels, H W height and width in px, G groups of channels that share weights, R = C / G channels
in each, T = k * k taps with k odd, P = k // 2 px of padding; U = H + 2P and V = W + 2P, the padded sides.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from math import isqrt, prod
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model import ska_eager
from model.ska_eager import windows

TRITON = find_spec("triton") is not None  # torch brings it along on Linux only


def ska_reference(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA in its shortest form, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W): the reference for all faster paths.

    It holds T copies of x; autograd differentiates it to any order.
    """
    B, C, H, W = x_BCHW.shape
    G, T = w_BGTHW.shape[1:3]
    k = isqrt(T)
    neighbours_BRGTHW = F.unfold(x_BCHW, k, padding=k // 2).view(B, C // G, G, T, H, W)
    return (neighbours_BRGTHW * w_BGTHW[:, None]).sum(3).view(B, C, H, W)


def ska(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """Small-kernel aggregation, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W), like x in dtype and memory format.

    Differentiable in both to any order. Sums run in float32 or wider. Autocast needs no rule: w may be wider than x, as
    norms return it, and is read as it is.

    Raises:
        ValueError: the shapes do not fit, or T is not the square of an odd number.
    """
    (B, C, H, W), (G, T) = x_BCHW.shape, w_BGTHW.shape[1:3]
    if w_BGTHW.shape != (B, G, T, H, W) or C % G or isqrt(T) ** 2 != T or T % 2 == 0:
        raise ValueError(f"ska needs x (B, C, H, W) and w (B, G, k*k, H, W) with k odd and C a multiple of G, "
                         f"not {tuple(x_BCHW.shape)} and {tuple(w_BGTHW.shape)}")
    if in_loops(x_BCHW):
        return ska_loops(x_BCHW, w_BGTHW)
    if torch.compiler.is_exporting():  # an exported program must run without our operators
        return ska_products(x_BCHW, w_BGTHW)
    return _ska(x_BCHW, w_BGTHW)


def in_loops(x_BCHW: Tensor) -> bool:
    """Whether torch.compile is at work where we have no kernels, so that it generates the loops itself."""
    return torch.compiler.is_compiling() and not torch.compiler.is_exporting() and not (TRITON and x_BCHW.is_cuda)


def ska_products(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA as a sum of T products, in functional operations only."""
    return _products(F.pad(x_BCHW, [isqrt(w_BGTHW.shape[2]) // 2] * 4), w_BGTHW).to(x_BCHW.dtype)


def ska_loops(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """The same for a compiler, which fuses it into one loop, and its gradients into two.

    A convolution with ones does the padding: the compiler keeps its result in memory. Otherwise it would test for the
    border at each of the T reads of x (128 channels, 14 x 14 px, bfloat16: 5.5 ms instead of 1.3).
    """
    ones = x_BCHW.new_ones(x_BCHW.shape[1], 1, 1, 1)
    padded = F.conv2d(x_BCHW, ones, padding=isqrt(w_BGTHW.shape[2]) // 2, groups=len(ones))
    return _products(padded, w_BGTHW).to(x_BCHW.dtype)


def _products(padded_BCUV: Tensor, w_BGTHW: Tensor) -> Tensor:
    G, T, H, W = w_BGTHW.shape[1:]
    padded_BRGUV = padded_BCUV.unflatten(1, (-1, G))
    # Selected one by one: a compiler then computes the weights once for all R channels that share them.
    products = [x * w_BGTHW.select(2, t)[:, None] for t, x in enumerate(windows(padded_BRGUV, T, H, W, 3))]
    return sum(products[1:], start=products[0]).flatten(1, 2)


# ---- operators -------------------------------------------------------------------------------------------------------
#
# These are what autograd, torch.compile, profilers and FLOP counters see.

_ska = torch.library.custom_op("lsnet::ska", ska_eager.aggregate, mutates_args=())
_ska_backward = torch.library.custom_op("lsnet::ska_backward", ska_eager.gradients, mutates_args=())


def _on_cuda(device: torch.device) -> ModuleType:
    """The module that computes on a CUDA device: Triton supports compute capability 7.0 and newer."""
    if not TRITON or torch.cuda.get_device_capability(device) < (7, 0):
        return ska_eager
    from model import ska_triton
    return ska_triton


_ska.register_kernel("cuda")(lambda x_BCHW, w_BGTHW: _on_cuda(x_BCHW.device).aggregate(x_BCHW, w_BGTHW))
_ska_backward.register_kernel("cuda")(
    lambda g_BCHW, x_BCHW, w_BGTHW: _on_cuda(x_BCHW.device).gradients(g_BCHW, x_BCHW, w_BGTHW))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: object) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, g_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    return _ska_backward(g_BCHW, *ctx.saved_tensors)


def _differentiate_twice(ctx: Any, u_BCHW: Tensor, v_BGTHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SKA is linear in x and in w, so the gradients of its gradients are SKA and its gradients again."""
    g_BCHW, x_BCHW, w_BGTHW = ctx.saved_tensors
    grad_x_BCHW, _ = _ska_backward(g_BCHW, x_BCHW, v_BGTHW)
    _, grad_w_BGTHW = _ska_backward(g_BCHW, u_BCHW, w_BGTHW)
    return _ska(u_BCHW, w_BGTHW) + _ska(x_BCHW, v_BGTHW), grad_x_BCHW, grad_w_BGTHW


_ska.register_fake(lambda x_BCHW, w_BGTHW: torch.empty_like(x_BCHW))
_ska.register_autograd(_differentiate, setup_context=_save)
_ska_backward.register_fake(lambda g_BCHW, x_BCHW, w_BGTHW: (torch.empty_like(x_BCHW), torch.empty_like(w_BGTHW)))
_ska_backward.register_autograd(_differentiate_twice, setup_context=_save)


def _register_flops() -> None:
    """Tell torch's FLOP counter: T multiply-adds per output, 2 FLOPs each; backward as many for each gradient."""
    logger = logging.getLogger("torch.utils.flop_counter")
    logger.disabled = True  # only while the module loads: it would print a warning where Triton is missing
    from torch.utils.flop_counter import register_flop_formula
    logger.disabled = False

    @register_flop_formula(torch.ops.lsnet.ska)
    def forward(x_shape: torch.Size, w_shape: torch.Size, **_: object) -> int:
        return 2 * prod(x_shape) * w_shape[2]

    @register_flop_formula(torch.ops.lsnet.ska_backward)
    def backward(g_shape: torch.Size, x_shape: torch.Size, w_shape: torch.Size, **_: object) -> int:
        return 2 * forward(x_shape, w_shape)


_register_flops()
