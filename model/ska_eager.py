"""SKA in plain PyTorch operations, written for speed on CPUs; correct on any device.

A tensor operation is fast where its innermost loop is long. Rows of a late stage are 3 to 14 px long and R channels
share each weight, so in neither memory format do x, w and y run side by side for more than a few dozen elements.
A few samples at a time are therefore copied into planes (R, U, V, B, G). There, one tap for a row of all samples and
groups is one run of W * B * G elements, and all R channels use the same weights.

Letters are those of `model/ska.py`; U = H + 2P and V = W + 2P are the padded sides.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
from torch import Tensor

# Elements of x that the CPU works on at a time: few enough for planes, weights and result to stay in its caches, enough
# for many threads (torch gives each at least 1 << 15), and enough that these are not woken too often (2 cores, C = 128,
# 14 x 14 px, batch 32, bfloat16: 1.3 ms; with 1 << 17 1.6 ms. Where waiting threads sleep: 3.1 ms instead of 7.1).
CHUNK = 1 << 19


def windows(padded: Tensor, T: int, H: int, W: int, dim: int) -> Iterator[Tensor]:
    """T views of a padded image whose axes H and W start at `dim`: view t holds the t-th neighbour of each pixel."""
    k = isqrt(T)
    for t in range(T):
        yield padded.narrow(dim, t // k, H).narrow(dim + 1, t % k, W)


def _planes(x_BCHW: Tensor, G: int, P: int = 0) -> Tensor:
    """(B, C, H, W) -> (R, U, V, B, G), zero in the border, in float32 or wider."""
    B, C, H, W = x_BCHW.shape
    dtype = torch.promote_types(x_BCHW.dtype, torch.float32)
    planes_RUVBG = x_BCHW.new_zeros(C // G, H + 2 * P, W + 2 * P, B, G, dtype=dtype)
    planes_RUVBG[:, P : P + H, P : P + W] = x_BCHW.unflatten(1, (C // G, G)).permute(1, 3, 4, 0, 2)
    return planes_RUVBG


def _taps(w_BGTHW: Tensor) -> Tensor:
    """(B, G, T, H, W) -> (T, H, W, B, G) in float32 or wider, the order of planes."""
    w_THWBG = w_BGTHW.permute(2, 3, 4, 0, 1)
    dtype = torch.promote_types(w_BGTHW.dtype, torch.float32)
    return torch.empty(w_THWBG.shape, dtype=dtype, device=w_BGTHW.device).copy_(w_THWBG)


def _put(planes_RHWBG: Tensor, out_BCHW: Tensor) -> None:
    """Write planes back in the order of a batch."""
    R, _, _, _, G = planes_RHWBG.shape
    out_BCHW.unflatten(1, (R, G)).copy_(planes_RHWBG.permute(3, 0, 4, 1, 2))


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors, the first of them (B, C, H, W), a few samples at a time on the CPU, and all at once elsewhere."""
    first = tensors[0]
    count = min(max(1, len(first)), -(-first.numel() // CHUNK)) if first.device.type == "cpu" else 1
    return zip(*(tensor.tensor_split(count) for tensor in tensors), strict=True)


def aggregate(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA; needs memory for its result and for the planes of one chunk."""
    H, W = x_BCHW.shape[2:]
    G, T = w_BGTHW.shape[1:3]
    y_BCHW = torch.empty_like(x_BCHW)
    for x, w, y in _chunks(x_BCHW, w_BGTHW, y_BCHW):
        x_RUVBG = _planes(x, G, isqrt(T) // 2)
        w_THWBG = _taps(w)
        sum_RHWBG = x_RUVBG.new_zeros(len(x_RUVBG), *w_THWBG.shape[1:])
        for x_RHWBG, w_HWBG in zip(windows(x_RUVBG, T, H, W, 1), w_THWBG, strict=True):
            sum_RHWBG.addcmul_(x_RHWBG, w_HWBG)
        _put(sum_RHWBG, y)
    return y_BCHW


def gradients(g_BCHW: Tensor, x_BCHW: Tensor, w_BGTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of SKA at (x, w) for the gradient g of its output.

    grad-x: every pixel of g is added, weighted, to its neighbours. grad-w: g times the t-th neighbour in x, summed
    over the channels that share the weight.
    """
    H, W = x_BCHW.shape[2:]
    G, T = w_BGTHW.shape[1:3]
    P = isqrt(T) // 2
    grad_x_BCHW, grad_w_BGTHW = torch.empty_like(x_BCHW), torch.empty_like(w_BGTHW)
    for x, g, w, grad_x, grad_w in _chunks(x_BCHW, g_BCHW, w_BGTHW, grad_x_BCHW, grad_w_BGTHW):
        g_RHWBG, x_RUVBG = _planes(g, G), _planes(x, G, P)
        w_THWBG = _taps(w)
        grad_x_RUVBG, grad_w_THWBG = torch.zeros_like(x_RUVBG), torch.empty_like(w_THWBG)
        product_RHWBG = torch.empty_like(g_RHWBG)
        pairs = zip(windows(x_RUVBG, T, H, W, 1), windows(grad_x_RUVBG, T, H, W, 1), strict=True)
        for t, (x_RHWBG, grad_x_RHWBG) in enumerate(pairs):
            grad_x_RHWBG.addcmul_(g_RHWBG, w_THWBG[t])
            torch.mul(g_RHWBG, x_RHWBG, out=product_RHWBG)
            torch.sum(product_RHWBG, 0, out=grad_w_THWBG[t])
        _put(grad_x_RUVBG[:, P : P + H, P : P + W], grad_x)
        grad_w.copy_(grad_w_THWBG.permute(3, 4, 0, 1, 2))
    return grad_x_BCHW, grad_w_BGTHW
