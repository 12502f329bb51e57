"""Small-kernel aggregation (SKA): every pixel mixes its k x k neighbourhood with weights of its own.

    y[b, c, h, w] = sum over taps t of  w[b, c mod G, t, h, w] * x[b, c, h + dy(t), w + dx(t)]

Taps run in row order over the k x k neighbourhood (t = 0 is its upper left corner); x is zero outside the image.
Channels c, c + G, c + 2G, ... share one set of weights.

Letters: B batch, C channels, G weight channels (C is a multiple of G), R = C / G channels that share a weight,
T = k * k taps (k odd), H W height and width in px.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135, equation 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

import torch
import torch.nn.functional as F
from torch import Tensor


def ska_reference(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """The contract in its shortest form, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W); every faster path answers to it.

    It holds the k*k-fold unfolded input in memory and is differentiable by autograd to any order.
    """
    B, C, H, W = x_BCHW.shape
    G, T = w_BGTHW.shape[1:3]
    k = isqrt(T)
    taps_BRGTHW = F.unfold(x_BCHW, k, padding=k // 2).view(B, C // G, G, T, H, W)
    return (taps_BRGTHW * w_BGTHW[:, None]).sum(3).view(B, C, H, W)


def ska(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """Small-kernel aggregation, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W) in the dtype of `x_BCHW`.

    Raises:
        ValueError: the shapes do not fit, or T is not the square of an odd number.
    """
    (B, C, H, W), (_, G, T, _, _) = x_BCHW.shape, w_BGTHW.shape
    if w_BGTHW.shape != (B, G, T, H, W) or C % G or isqrt(T) ** 2 != T or T % 2 == 0:
        raise ValueError(f"ska needs x (B, C, H, W) and w (B, G, k*k, H, W) with k odd and C a multiple of G, "
                         f"not {tuple(x_BCHW.shape)} and {tuple(w_BGTHW.shape)}")
    w_BGTHW = w_BGTHW.to(x_BCHW.dtype)  # under autocast a normalisation may answer in another dtype than convolutions
    if torch.compiler.is_compiling():
        return _shifted_products(x_BCHW, w_BGTHW)
    return _Aggregate.apply(x_BCHW, w_BGTHW)


def _windows(x_BCHW: Tensor, k: int) -> Iterator[Tensor]:
    """The k*k views of x, padded with k // 2 zeros, that hold for each pixel its t-th neighbour."""
    H, W = x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, [k // 2] * 4)
    for dy in range(k):
        for dx in range(k):
            yield padded[..., dy : dy + H, dx : dx + W]


def _shifted_products(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA as T shifted products in plain, functional operations, which a compiler fuses into one loop."""
    B, C, H, W = x_BCHW.shape
    G, T = w_BGTHW.shape[1:3]
    x_BRGHW = x_BCHW.reshape(B, C // G, G, H, W)
    products = (window * w_BGTHW[:, None, :, t] for t, window in enumerate(_windows(x_BRGHW, isqrt(T))))
    return sum(products, start=torch.zeros_like(x_BRGHW)).reshape(B, C, H, W)


# SKA is linear in x and in w, and so are its two gradients in what they take. Each of the three maps has the others as
# its derivatives, so that three functions close under differentiation of any order.


class _Aggregate(torch.autograd.Function):
    """y of x and w."""

    @staticmethod
    def forward(ctx, x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
        ctx.save_for_backward(x_BCHW, w_BGTHW)
        B, C, H, W = x_BCHW.shape
        G, T = w_BGTHW.shape[1:3]
        x_BRGHW = x_BCHW.reshape(B, C // G, G, H, W)
        y_BRGHW = torch.zeros_like(x_BRGHW)
        for t, window in enumerate(_windows(x_BRGHW, isqrt(T))):
            y_BRGHW.addcmul_(window, w_BGTHW[:, None, :, t])
        return y_BRGHW.view(B, C, H, W)

    @staticmethod
    def backward(ctx, g_BCHW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x_BCHW, w_BGTHW = ctx.saved_tensors
        grad_x = _Scatter.apply(g_BCHW, w_BGTHW) if ctx.needs_input_grad[0] else None
        grad_w = _Correlate.apply(g_BCHW, x_BCHW, *w_BGTHW.shape[1:3]) if ctx.needs_input_grad[1] else None
        return grad_x, grad_w


class _Scatter(torch.autograd.Function):
    """Gradient with respect to x: every pixel of g hands itself, weighted, to its neighbourhood."""

    @staticmethod
    def forward(ctx, g_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
        ctx.save_for_backward(g_BCHW, w_BGTHW)
        B, C, H, W = g_BCHW.shape
        G, T = w_BGTHW.shape[1:3]
        k = isqrt(T)
        g_BRGHW = g_BCHW.reshape(B, C // G, G, H, W)
        padded = g_BCHW.new_zeros(B, C // G, G, H + k - 1, W + k - 1)
        for t in range(T):
            dy, dx = divmod(t, k)
            padded[..., dy : dy + H, dx : dx + W].addcmul_(g_BRGHW, w_BGTHW[:, None, :, t])
        return padded[..., k // 2 : k // 2 + H, k // 2 : k // 2 + W].reshape(B, C, H, W)

    @staticmethod
    def backward(ctx, v_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        g_BCHW, w_BGTHW = ctx.saved_tensors
        return _Aggregate.apply(v_BCHW, w_BGTHW), _Correlate.apply(g_BCHW, v_BCHW, *w_BGTHW.shape[1:3])


class _Correlate(torch.autograd.Function):
    """Gradient with respect to w: g times the t-th neighbour of x, summed over the channels that share a weight."""

    @staticmethod
    def forward(ctx, g_BCHW: Tensor, x_BCHW: Tensor, G: int, T: int) -> Tensor:
        ctx.save_for_backward(g_BCHW, x_BCHW)
        B, C, H, W = x_BCHW.shape
        g_BRGHW, x_BRGHW = (v.reshape(B, C // G, G, H, W) for v in (g_BCHW, x_BCHW))
        grad_BGTHW = x_BCHW.new_empty(B, G, T, H, W)
        for t, window in enumerate(_windows(x_BRGHW, isqrt(T))):
            torch.sum(g_BRGHW * window, 1, out=grad_BGTHW[:, :, t])
        return grad_BGTHW

    @staticmethod
    def backward(ctx, u_BGTHW: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g_BCHW, x_BCHW = ctx.saved_tensors
        return _Aggregate.apply(x_BCHW, u_BGTHW), _Scatter.apply(g_BCHW, u_BGTHW), None, None
