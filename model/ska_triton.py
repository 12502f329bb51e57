"""SKA on CUDA: Triton kernels, called by `model/ska.py` only.

SKA is bound by memory (9 multiply-adds for each output), so a kernel reads each tensor once and writes its result once:
x, w -> y; g, w -> grad-x; g, x -> grad-w. A program walks down a strip of ROWS rows, BLOCK_W columns and BLOCK_G groups
with all R channels of each. It loads a weight once for the R channels that share it, and a row of x once for each of
the k columns of the neighbourhood. Running sums combine the k rows (in grad-w: running rows of g).
No element needs a division, and programs share no sums.

Sums run in float32 (float64 for float64) whatever the dtypes of x and w, and these may differ: under autocast a norm
returns float32 weights for bfloat16 pixels. Kernels read any strides; no tensor is copied to another memory format.
In the kernels `x_H`, `w_T`, ... are strides in elements; other letters are those of `model/ska.py`.
"""

# Triton compiles the kernels: their parameters are pointers, numbers and constants, without Python types.
# pyrefly: ignore-errors[implicit-any-parameter, unannotated-return]
from __future__ import annotations

from math import isqrt, prod
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDE = 1 << 30  # elements in a sample from which offsets take 64 bits; far from overflow at any neighbour
Tile = dict[str, int | bool]


def _tiles(columns: int, channels_last: bool) -> list[Tile]:
    """The tiles to time where a row has `columns` px, rounded up to a power of two.

    Planes: one element per thread; neighbours in a vector are not aligned and would be loaded one by one anyway.
    Channels-last: also two, which stay aligned. The weights are in planes there too. With GATHER they are loaded in the
    order of x, scattered but all at once; otherwise in their own order, and reordered tap by tap in shared memory.
    """
    if channels_last:
        choices = ((16, 2, 8, False), (16, 2, 32, False), (16, 4, 8, False), (8, 1, 8, False), (16, 2, 8, True),
                   (16, 2, 32, True))
        return [{"BLOCK_G": groups, "BLOCK_W": 8, "ROWS": rows, "GATHER": gather, "num_warps": warps}
                for groups, warps, rows, gather in choices]
    columns = min(max(columns, 8), 32)
    return [{"BLOCK_G": 32 * warps // columns, "BLOCK_W": columns, "ROWS": rows, "GATHER": False, "num_warps": warps}
            for warps, rows in ((4, 8), (4, 32), (2, 8), (2, 32))]


def _autotune(kernel: Any) -> Any:
    """Time the tiles once for each kind of problem: k, groups, channels in each, width class, format and data types.

    Timing needs a driver. Triton's interpreter (TRITON_INTERPRET=1) has none and gets a single tile.
    """

    def configs(columns: int, channels_last: bool) -> list[triton.Config]:
        """The tiles, without options that this kernel does not take and without repetitions."""
        found = [triton.Config({name: tile[name] for name in tile if name in kernel.arg_names},
                               num_warps=tile["num_warps"]) for tile in _tiles(columns, channels_last)]
        return list(dict.fromkeys(found))

    def fitting(_: list[triton.Config], __: dict[str, Any], **constants: Any) -> list[triton.Config]:
        return configs(constants["WIDTH"], constants["CHANNELS_LAST"])

    listed = configs(8, False)[: 1 if triton.knobs.runtime.interpret else None]
    return triton.autotune(listed, key=["K", "G", "R", "WIDTH", "CHANNELS_LAST", "TRANSPOSED"], cache_results=True,
                           prune_configs_by={"early_config_prune": fitting})(kernel)


@triton.jit
def _strip(H, W, G: tl.constexpr, CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr, SUM: tl.constexpr,
           BLOCK_G: tl.constexpr, BLOCK_W: tl.constexpr, ROWS: tl.constexpr):  # fmt: skip
    """The part of a program: its sample, groups (BLOCK_G, 1), columns (1, BLOCK_W), rows first to last - 1, a zero."""
    g_blocks: tl.constexpr = (G + BLOCK_G - 1) // BLOCK_G
    w_blocks = (W + BLOCK_W - 1) // BLOCK_W
    h_blocks = (H + ROWS - 1) // ROWS
    strip = tl.program_id(0)
    g = strip % g_blocks * BLOCK_G + tl.arange(0, BLOCK_G)
    strip = strip // g_blocks
    v = strip % w_blocks * BLOCK_W + tl.arange(0, BLOCK_W)
    strip = strip // w_blocks
    if CHANNELS_LAST:
        g, v, zero = g[None, :], v[:, None], tl.full((BLOCK_W, BLOCK_G), 0, SUM)
    else:
        g, v, zero = g[:, None], v[None, :], tl.full((BLOCK_G, BLOCK_W), 0, SUM)
    first = strip % h_blocks * ROWS
    return (strip // h_blocks).to(tl.int64), g.to(OFFSET), v.to(OFFSET), first, tl.minimum(first + ROWS, H), zero


@triton.jit
def _near(live, row, v, H, W, K: tl.constexpr):
    """For each of the k columns around v: whether this pixel of the row is inside the image."""
    near = ()
    for n in tl.static_range(K):
        column = v + (n - K // 2)
        near += (live & (row >= 0) & (row < H) & (column >= 0) & (column < W),)
    return near


@triton.jit
def _neighbours(x, x_W, near, SUM: tl.constexpr, K: tl.constexpr):
    """The k pixels of a row around each pixel that x points to."""
    values = ()
    for n in tl.static_range(K):
        values += (tl.load(x + (n - K // 2) * x_W, mask=near[n], other=0).to(SUM),)
    return values


@triton.jit
def _weights(w, near, row, first, last, w_T, w_H, w_W, TRANSPOSED: tl.constexpr, SUM: tl.constexpr, K: tl.constexpr):
    """Weights of a row's neighbour in column n for row m of the k rows around it, at [m * K + n]."""
    weights = ()
    for m in tl.static_range(K):
        target = row + (m - K // 2)
        mine = (target >= first) & (target < last)
        for n in tl.static_range(K):
            if TRANSPOSED:  # the neighbour's own weights
                at = (m * K + K - 1 - n) * w_T + row * w_H + (n - K // 2) * w_W
            else:
                at = ((K - 1 - m) * K + n) * w_T + target * w_H
            weights += (tl.load(w + at, mask=near[n] & mine, other=0).to(SUM),)
    return weights


@_autotune
@triton.jit(do_not_specialize=["w_step"])  # equals w_W, but the compiler does not see that it is 1
def _aggregate_kernel(x, w, y, H, W, x_B, x_C, x_H, x_W, w_B, w_G, w_T, w_H, w_W, y_B, y_C, y_H, y_W, w_step,
                      K: tl.constexpr, G: tl.constexpr, R: tl.constexpr, WIDTH: tl.constexpr,
                      CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr, SUM: tl.constexpr, TRANSPOSED: tl.constexpr,
                      BLOCK_G: tl.constexpr, BLOCK_W: tl.constexpr, ROWS: tl.constexpr, GATHER: tl.constexpr):
    """SKA y of (x, w), or its transpose, in which a pixel sums its neighbours with the neighbours' weights for it.

    A row of x contributes to the k rows of y around it: sums number m belong to row + m - P.
    """
    P: tl.constexpr = K // 2
    b, g, v, first, last, zero = _strip(H, W, G, CHANNELS_LAST, OFFSET, SUM, BLOCK_G, BLOCK_W, ROWS)
    live = (g < G) & (v < W)
    one = tl.full((), 1, OFFSET)
    step = one * (w_step if GATHER else w_W)
    x += b * x_B + g * x_C + v * x_W
    w += b * w_B + g * w_G + v * step
    y += b * y_B + g * y_C + v * y_W
    x_R, y_R = one * G * x_C, one * G * y_C
    sums = (zero,) * (K * R)
    for row in range(first - P, last + P):
        near = _near(live, row, v, H, W, K)
        weights = _weights(w, near, row, first, last, one * w_T, one * w_H, step, TRANSPOSED, SUM, K)
        more = ()
        for r in tl.static_range(R):
            values = _neighbours(x + (one * row * x_H + r * x_R), one * x_W, near, SUM, K)
            for m in tl.static_range(K):
                total = sums[r * K + m]
                for n in tl.static_range(K):
                    total += weights[m * K + n] * values[n]
                more += (total,)
        if row - P >= first:
            for r in tl.static_range(R):
                tl.store(y + (one * (row - P) * y_H + r * y_R), more[r * K].to(y.dtype.element_ty), mask=live)
        sums = ()
        for r in tl.static_range(R):
            for m in tl.static_range(1, K):
                sums += (more[r * K + m],)
            sums += (zero,)


@_autotune
@triton.jit
def _weight_gradient_kernel(g_y, x, g_w, H, W, y_B, y_C, y_H, y_W, x_B, x_C, x_H, x_W, w_B, w_G, w_T, w_H, w_W,
                            K: tl.constexpr, G: tl.constexpr, R: tl.constexpr, WIDTH: tl.constexpr,
                            CHANNELS_LAST: tl.constexpr, OFFSET: tl.constexpr, SUM: tl.constexpr,
                            BLOCK_G: tl.constexpr, BLOCK_W: tl.constexpr, ROWS: tl.constexpr):
    """Gradient g_w: for every tap, g_y times the neighbour in x, summed over the channels that share the weight.

    A row of x is a neighbour of the k rows of g_y around it: of these, number m is row + m - P.
    """
    P: tl.constexpr = K // 2
    b, g, v, first, last, zero = _strip(H, W, G, CHANNELS_LAST, OFFSET, SUM, BLOCK_G, BLOCK_W, ROWS)
    live = (g < G) & (v < W)
    one = tl.full((), 1, OFFSET)
    g_y += b * y_B + g * y_C + v * y_W
    x += b * x_B + g * x_C + v * x_W
    g_w += b * w_B + g * w_G + v * w_W
    x_R, y_R = one * G * x_C, one * G * y_C
    received = (zero,) * (K * R)
    for row in range(first - P, last + P):
        more = ()
        for i in tl.static_range(R, K * R):
            more += (received[i],)
        for r in tl.static_range(R):
            newest = tl.load(g_y + (one * (row + P) * y_H + r * y_R), mask=live & (row + P < last), other=0)
            more += (newest.to(SUM),)
        received = more
        near = _near(live, row, v, H, W, K)
        values = ()
        for r in tl.static_range(R):
            values += _neighbours(x + (one * row * x_H + r * x_R), one * x_W, near, SUM, K)
        for m in tl.static_range(K):
            target = row + (m - P)
            for n in tl.static_range(K):
                total = zero
                for r in tl.static_range(R):
                    total += received[m * R + r] * values[r * K + n]
                tl.store(g_w + (one * ((K - 1 - m) * K + n) * w_T + one * target * w_H),
                         total.to(g_w.dtype.element_ty), mask=live & (target >= first) & (target < last))


def _launch(kernel: Any, tensors: tuple[Tensor, Tensor, Tensor], x_BCHW: Tensor, w_BGTHW: Tensor,
            **options: int) -> None:  # fmt: skip
    """Run `kernel` on `tensors`, of which it fills the last; the sizes are those of x and w."""
    (B, C, H, W), (G, T) = x_BCHW.shape, w_BGTHW.shape[1:3]
    if x_BCHW.numel() == 0:
        return
    reach = max(sum(side * stride for side, stride in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
                for tensor in tensors)  # elements from the start of a sample
    double = torch.float64 in (x_BCHW.dtype, w_BGTHW.dtype)

    def programs(tile: Tile) -> tuple[int]:
        blocks = ((G, "BLOCK_G"), (W, "BLOCK_W"), (H, "ROWS"))
        return (prod((B, *(triton.cdiv(side, tile[name]) for side, name in blocks))),)

    with torch.cuda.device_of(x_BCHW):  # Triton launches on the current device
        kernel[programs](*tensors, H, W, *(stride for tensor in tensors for stride in tensor.stride()), K=isqrt(T),
                         G=G, R=C // G, WIDTH=triton.next_power_of_2(W), CHANNELS_LAST=x_BCHW.stride(1) == 1 < C,
                         OFFSET=tl.int32 if reach < WIDE else tl.int64, SUM=tl.float64 if double else tl.float32,
                         **options)


def aggregate(x_BCHW: Tensor, w_BGTHW: Tensor) -> Tensor:
    """SKA, (B, C, H, W) x (B, G, T, H, W) -> (B, C, H, W), like x in data type and memory format."""
    y_BCHW = torch.empty_like(x_BCHW)
    _launch(_aggregate_kernel, (x_BCHW, w_BGTHW, y_BCHW), x_BCHW, w_BGTHW, TRANSPOSED=False,
            w_step=w_BGTHW.stride(4))
    return y_BCHW


def gradients(g_BCHW: Tensor, x_BCHW: Tensor, w_BGTHW: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of SKA at (x, w), like these in data type and memory format, for the gradient g of its output."""
    grad_x_BCHW, grad_w_BGTHW = torch.empty_like(x_BCHW), torch.empty_like(w_BGTHW)
    _launch(_aggregate_kernel, (g_BCHW, w_BGTHW, grad_x_BCHW), x_BCHW, w_BGTHW, TRANSPOSED=True,
            w_step=w_BGTHW.stride(4))
    _launch(_weight_gradient_kernel, (g_BCHW, x_BCHW, grad_w_BGTHW), x_BCHW, w_BGTHW)
    return grad_x_BCHW, grad_w_BGTHW
