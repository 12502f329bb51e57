"""Small-kernel aggregation (SKA): every pixel sums its k x k neighbourhood with weights of its own.

    y[b, c, h, w] = sum over taps t of  w[b, c mod G, t, h, w] * x[b, c, h + dy(t), w + dx(t)]

Taps run in row order over the neighbourhood (t = 0 is its upper left corner); x is zero outside the image.
The channels c, c + G, c + 2G, ... share their weights.

Letters: B batch, C channels, H W height and width in px, G groups of channels that share weights, R = C / G channels
in each, T = k * k taps with k odd, P = k // 2 px of padding; U = H + 2P and V = W + 2P, the padded sides.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor

# Elements of x that the CPU works on at a time: with its weights and its result they stay in the second-level cache
# (measured on 1 MiB per core, C = 128, 28 x 28 px: 9 ms per batch of 32 instead of 20).
CHUNK = 1 << 17


def ska_reference(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """The contract in its shortest form, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W).

    Every faster path answers to it. It holds T copies of x; autograd differentiates it to any order.
    """
    B, C, H, W = x_BCHW.shape
    G, T = w_BGTHW.shape[1:3]
    k = isqrt(T)
    neighbours_BRGTHW = F.unfold(x_BCHW, k, padding=k // 2).view(B, C // G, G, T, H, W)
    return (neighbours_BRGTHW * w_BGTHW[:, None]).sum(3).view(B, C, H, W)


def ska(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """Small-kernel aggregation, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W), like x in dtype and memory format.

    Differentiable in both to any order. Sums run in float32 or wider.

    Raises:
        ValueError: the shapes do not fit, or T is not the square of an odd number.
    """
    (B, C, H, W), (G, T) = x_BCHW.shape, w_BGTHW.shape[1:3]
    if w_BGTHW.shape != (B, G, T, H, W) or C % G or isqrt(T) ** 2 != T or T % 2 == 0:
        raise ValueError(f"ska needs x (B, C, H, W) and w (B, G, k*k, H, W) with k odd and C a multiple of G, "
                         f"not {tuple(x_BCHW.shape)} and {tuple(w_BGTHW.shape)}")
    w_BGTHW = w_BGTHW.to(x_BCHW.dtype)  # under autocast a norm may answer in a wider dtype than the convolutions
    if torch.compiler.is_compiling():
        return ska_products(x_BCHW, w_BGTHW)
    return _Aggregate.apply(x_BCHW, w_BGTHW)


def _windows(padded: Tensor, T: int, H: int, W: int, dim: int) -> Iterator[Tensor]:
    """The T views of a padded picture that hold for each of its H x W pixels (from `dim` on) its t-th neighbour."""
    k = isqrt(T)
    for t in range(T):
        yield padded.narrow(dim, t // k, H).narrow(dim + 1, t % k, W)


def ska_products(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA in functional operations only, which a compiler fuses into one loop (and differentiates into two)."""
    B, C, H, W = x_BCHW.shape
    G, T = w_BGTHW.shape[1:3]
    padded_BRGUV = F.pad(x_BCHW, [isqrt(T) // 2] * 4).unflatten(1, (C // G, G))
    products = [x * w for x, w in zip(_windows(padded_BRGUV, T, H, W, 3), w_BGTHW[:, None].unbind(3), strict=True)]
    return sum(products[1:], start=products[0]).flatten(1, 2)


# ---- eager path ------------------------------------------------------------------------------------------------------
#
# A tensor operation is fast where its innermost loop is long. Rows of a late stage are 3 to 14 px long and R channels
# share each weight, so in neither memory format do x, w and y run side by side for more than a few dozen elements.
# Both are therefore brought, a few samples at a time, into planes (R, U, V, B, G): there a tap of all pixels of a row,
# samples and groups is one run of W * B * G elements, and R repeats it with the same weights.


def _planes(x_BCHW: Tensor, G: int, P: int = 0) -> Tensor:
    """(B, C, H, W) -> (R, U, V, B, G), zero in the border, in float32 or wider."""
    B, C, H, W = x_BCHW.shape
    dtype = torch.promote_types(x_BCHW.dtype, torch.float32)
    planes_RUVBG = x_BCHW.new_zeros(C // G, H + 2 * P, W + 2 * P, B, G, dtype=dtype)
    planes_RUVBG[:, P : P + H, P : P + W] = x_BCHW.unflatten(1, (C // G, G)).permute(1, 3, 4, 0, 2)
    return planes_RUVBG


def _taps(w_BGTHW: Tensor) -> Tensor:
    """(B, G, T, H, W) -> (T, H, W, B, G) in float32 or wider, to run beside planes."""
    w_THWBG = w_BGTHW.permute(2, 3, 4, 0, 1)
    dtype = torch.promote_types(w_BGTHW.dtype, torch.float32)
    return torch.empty(w_THWBG.shape, dtype=dtype, device=w_BGTHW.device).copy_(w_THWBG)


def _put(planes_RHWBG: Tensor, out_BCHW: Tensor) -> None:
    """Write planes back where they came from."""
    R, _, _, _, G = planes_RHWBG.shape
    out_BCHW.unflatten(1, (R, G)).copy_(planes_RHWBG.permute(3, 0, 4, 1, 2))


def _chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The tensors, the first of them (B, C, H, W), a few samples at a time; all at once where there is no CPU cache."""
    first = tensors[0]
    count = min(max(1, len(first)), -(-first.numel() // CHUNK)) if first.device.type == "cpu" else 1
    return zip(*(tensor.tensor_split(count) for tensor in tensors), strict=True)


def _aggregate(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA; holds no more than planes of a chunk besides its result."""
    H, W = x_BCHW.shape[2:]
    G, T = w_BGTHW.shape[1:3]
    y_BCHW = torch.empty_like(x_BCHW)
    for x, w, y in _chunks(x_BCHW, w_BGTHW, y_BCHW):
        x_RUVBG = _planes(x, G, isqrt(T) // 2)
        w_THWBG = _taps(w)
        sum_RHWBG = x_RUVBG.new_zeros(len(x_RUVBG), *w_THWBG.shape[1:])
        for x_RHWBG, w_HWBG in zip(_windows(x_RUVBG, T, H, W, 1), w_THWBG, strict=True):
            sum_RHWBG.addcmul_(x_RHWBG, w_HWBG)
        _put(sum_RHWBG, y)
    return y_BCHW


def _gradients(g_BCHW: Tensor, x_BCHW: Tensor, w_BGTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of SKA at (x, w) for the gradient g of its output.

    grad-x: every pixel of g goes, weighted, to its neighbours. grad-w: g times the t-th neighbour in x, summed over
    the channels that share the weight.
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
        windows = zip(_windows(x_RUVBG, T, H, W, 1), _windows(grad_x_RUVBG, T, H, W, 1), strict=True)
        for t, (x_RHWBG, grad_x_RHWBG) in enumerate(windows):
            grad_x_RHWBG.addcmul_(g_RHWBG, w_THWBG[t])
            torch.mul(g_RHWBG, x_RHWBG, out=product_RHWBG)
            torch.sum(product_RHWBG, 0, out=grad_w_THWBG[t])
        _put(grad_x_RUVBG[:, P : P + H, P : P + W], grad_x)
        grad_w.copy_(grad_w_THWBG.permute(3, 4, 0, 1, 2))
    return grad_x_BCHW, grad_w_BGTHW


class _Aggregate(torch.autograd.Function):
    """SKA of (x, w), which keeps nothing but x and w for the way back."""

    @staticmethod
    def forward(ctx, x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, w_BGTHW)
        return _aggregate(x_BCHW, w_BGTHW)

    @staticmethod
    def backward(ctx, g_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        return _Gradients.apply(g_BCHW, *ctx.saved_tensors)


class _Gradients(torch.autograd.Function):
    """Gradients of SKA, whose own gradients are SKA and its gradients again: it is linear in x and in w."""

    @staticmethod
    def forward(ctx, g_BCHW: Tensor, x_BCHW: Tensor, w_BGTHW: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(g_BCHW, x_BCHW, w_BGTHW)
        return _gradients(g_BCHW, x_BCHW, w_BGTHW)

    @staticmethod
    def backward(ctx, u_BCHW: Tensor, v_BGTHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        g_BCHW, x_BCHW, w_BGTHW = ctx.saved_tensors
        grad_x_BCHW, _ = _Gradients.apply(g_BCHW, x_BCHW, v_BGTHW)
        _, grad_w_BGTHW = _Gradients.apply(g_BCHW, u_BCHW, w_BGTHW)
        return ska(u_BCHW, w_BGTHW) + ska(x_BCHW, v_BGTHW), grad_x_BCHW, grad_w_BGTHW
