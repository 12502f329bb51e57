"""SKA kernels as one would write them first, and the time that ours take beside them.

Every program computes a run of elements, in the order they have in memory: it divides to find out where each of them
is, and loads the weights for every channel that shares them. Contiguous tensors only. Letters: `model/ska.py`.

On a machine with a CUDA device: python -m tests.model.ska_naive
"""

from __future__ import annotations

import itertools
from math import isqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
BATCH = 1024
STAGES = ((128, 28), (128, 14), (256, 7))  # channels, side in px
AIMS = "aims: forward 70 % of the copy's bytes/s, backward 50 %, both twice as fast as naive"


@triton.jit
def _locate(C, H, W, BLOCK: tl.constexpr):
    """Numbers of the elements that a program computes, and their places along four axes, the last three C, H, W."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return i, i // (C * H * W), i // (H * W) % C, i // W % H, i % W


@triton.jit
def _sums_kernel(x, w, y, N, C, H, W, G, K: tl.constexpr, TRANSPOSED: tl.constexpr, BLOCK: tl.constexpr):
    """SKA y of (x, w), or its transpose, which leads gradients back to x."""
    i, b, c, h, v = _locate(C, H, W, BLOCK)
    total = tl.full((BLOCK,), 0, tl.float32)
    for t in tl.static_range(K * K):
        row, column = h + (t // K - K // 2), v + (t % K - K // 2)
        inside = (i < N) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
        if TRANSPOSED:
            at = (((b * G + c % G) * K * K + (K * K - 1 - t)) * H + row) * W + column
        else:
            at = (((b * G + c % G) * K * K + t) * H + h) * W + v
        neighbour = tl.load(x + ((b * C + c) * H + row) * W + column, mask=inside, other=0).to(tl.float32)
        total += neighbour * tl.load(w + at, mask=inside, other=0).to(tl.float32)
    tl.store(y + i, total.to(y.dtype.element_ty), mask=i < N)


@triton.jit
def _weight_gradient_kernel(g_y, x, g_w, N, C, H, W, G, K: tl.constexpr, BLOCK: tl.constexpr):
    """Gradient of the weights for the gradient g_y of the result."""
    i, bg, t, h, v = _locate(K * K, H, W, BLOCK)
    row, column = h + (t // K - K // 2), v + (t % K - K // 2)
    inside = (i < N) & (row >= 0) & (row < H) & (column >= 0) & (column < W)
    total = tl.full((BLOCK,), 0, tl.float32)
    for r in range(C // G):
        plane = (bg // G * C + r * G + bg % G) * H
        neighbour = tl.load(x + (plane + row) * W + column, mask=inside, other=0).to(tl.float32)
        total += neighbour * tl.load(g_y + (plane + h) * W + v, mask=inside, other=0).to(tl.float32)
    tl.store(g_w + i, total.to(g_w.dtype.element_ty), mask=i < N)


def _launch(kernel: object, tensors: tuple[Tensor, Tensor, Tensor], x: Tensor, w: Tensor, **options: bool) -> Tensor:
    """Fill the last of `tensors`, element by element."""
    N, (C, H, W), (G, T) = tensors[2].numel(), x.shape[1:], w.shape[1:3]
    kernel[(triton.cdiv(N, BLOCK),)](*tensors, N, C, H, W, G, K=isqrt(T), BLOCK=BLOCK, **options)
    return tensors[2]


def aggregate(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA."""
    tensors = x_BCHW, w_BGTHW, torch.empty_like(x_BCHW)
    return _launch(_sums_kernel, tensors, x_BCHW, w_BGTHW, TRANSPOSED=False)


def gradients(g_BCHW: Tensor, x_BCHW: Tensor, w_BGTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of SKA at (x, w) for the gradient g of its output."""
    to_x, to_w = (g_BCHW, w_BGTHW, torch.empty_like(x_BCHW)), (g_BCHW, x_BCHW, torch.empty_like(w_BGTHW))
    return (_launch(_sums_kernel, to_x, x_BCHW, w_BGTHW, TRANSPOSED=True),
            _launch(_weight_gradient_kernel, to_w, x_BCHW, w_BGTHW))


def times(x_BCHW: Tensor, w_BGTHW: Tensor, g_BCHW: Tensor, layout: torch.memory_format) -> dict[str, list[float]]:
    """For each direction: ms that ours take, ms that these take, bytes that cannot be avoided."""
    from triton.testing import do_bench

    from model import ska_triton

    x, w, g = x_BCHW.contiguous(memory_format=layout), w_BGTHW, g_BCHW.contiguous(memory_format=layout)
    forward = [do_bench(lambda: ska_triton.aggregate(x, w)), do_bench(lambda: aggregate(x_BCHW, w))]
    backward = [do_bench(lambda: ska_triton.gradients(g, x, w)), do_bench(lambda: gradients(g_BCHW, x_BCHW, w))]
    return {"forward": [*forward, 2 * x.nbytes + w.nbytes], "backward": [*backward, 4 * x.nbytes + 2 * w.nbytes]}


def main() -> None:
    """Print how fast both are at the sizes of lsnet_t and lsnet_b, and how near ours come to a copy."""
    from triton.testing import do_bench

    source = torch.empty(1 << 29, dtype=torch.uint8, device="cuda")
    copied = 2 * source.nbytes / do_bench(source.clone)
    print(f"{torch.cuda.get_device_name()}: a copy moves {copied / 1e6:.0f} GB/s; {AIMS}")
    formats = torch.contiguous_format, torch.channels_last
    for (C, side), dtype, layout in itertools.product(STAGES, (torch.float32, torch.bfloat16), formats):
        x, g = (torch.randn(BATCH, C, side, side, device="cuda", dtype=dtype) for _ in range(2))
        w = torch.randn(BATCH, C // 8, 9, side, side, device="cuda", dtype=dtype)
        for name, (ours, naive, moved) in times(x, w, g, layout).items():
            print(f"{C:3} x {side} px, {str(dtype)[6:]:8}, {str(layout)[6:]:17}: {name:8} {ours:7.3f} ms, "
                  f"{moved / ours / 1e6:5.0f} GB/s ({moved / ours / copied:.0%} of a copy), {naive / ours:.2f} x naive")


if __name__ == "__main__":
    main()
