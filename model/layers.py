"""The layers of LSNet.

Letters: B batch, C channels, H W height and width in px, G groups of SKA weights, T = 9 taps, h attention heads, K key
width, V value width, N pixels of a map that attention sees: n * n of a square grid.

Keys of published checkpoints, which must keep their names: `c`, `bn`, `l`, `m`, `conv`, `conv1`, `pw1`, `pw2`,
`mixer`, `lkp`, `cv1..4`, `norm`, `se`, `ffn`, `qkv`, `dw`, `proj`, `attention_biases`, `attention_bias_idxs`.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, SqueezeExcite, trunc_normal_
from torch import Tensor, nn

from model.convolutions import DepthwisePointwise, Pointwise
from model.ska import in_loops, ska
from utils import UserError

STRIDE = 64  # px of input per pixel of the attention grid
KEY_DIM = 16
TAPS = 9
SHARED = 8  # channels that share one set of SKA weights


class ConvNorm(nn.Sequential):
    """Bias-free convolution and batch norm: (B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride))."""

    c: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, in_dim: int, out_dim: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                 gain: float = 1.0) -> None:
        super().__init__()
        pointwise = Pointwise if groups == 1 else DepthwisePointwise if groups == in_dim == out_dim else nn.Conv2d
        layer = pointwise if kernel == stride == 1 else nn.Conv2d
        self.add_module("c", layer(in_dim, out_dim, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(out_dim))
        nn.init.constant_(self.bn.weight, gain)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The same map in evaluation as one convolution with bias."""
        (scale, shift), c, w = _affine(self.bn), self.c, self.c.weight
        fused: Any = nn.utils.skip_init(nn.Conv2d, c.in_channels, c.out_channels, c.kernel_size, c.stride, c.padding,
                                        groups=c.groups, device=w.device, dtype=w.dtype)
        fused.weight.copy_(w * scale[:, None, None, None])
        fused.bias.copy_(shift)
        return fused


class NormLinear(nn.Sequential):
    """Batch norm and linear map: (B, in) -> (B, out)."""

    bn: nn.BatchNorm1d
    l: nn.Linear  # noqa: E741 - a key of published checkpoints

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.add_module("bn", nn.BatchNorm1d(in_dim))
        self.add_module("l", nn.Linear(in_dim, out_dim))
        trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)

    @torch.no_grad()
    def fuse(self) -> nn.Linear:
        """The same map in evaluation as one linear layer."""
        (scale, shift), w = _affine(self.bn), self.l.weight
        fused: Any = nn.utils.skip_init(nn.Linear, self.l.in_features, self.l.out_features, device=w.device,
                                        dtype=w.dtype)
        fused.weight.copy_(w * scale)
        fused.bias.copy_(self.l.bias + w.to(shift.dtype) @ shift)
        return fused


def _affine(bn: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift that `bn`, which has running statistics, applies in evaluation, in float64."""
    mean, variance = bn.get_buffer("running_mean").double(), bn.get_buffer("running_var").double()
    scale = bn.weight.double() / (variance + bn.eps).sqrt()
    return scale, bn.bias.double() - mean * scale


class RepDepthwise(nn.Module):
    """Depthwise 3x3 + depthwise 1x1 + identity, which fold into one depthwise 3x3."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = ConvNorm(dim, dim, 3, groups=dim)
        self.conv1 = ConvNorm(dim, dim, 1, groups=dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.conv(x_BCHW) + self.conv1(x_BCHW) + x_BCHW

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The three branches as one convolution."""
        fused, conv1 = self.conv.fuse(), self.conv1.fuse()
        fused.weight[:, :, 1:2, 1:2] += conv1.weight + 1
        fused.get_parameter("bias").add_(conv1.get_parameter("bias"))
        return fused


class Residual(nn.Module):
    """x + m(x); in training m(x) is dropped with probability `drop_path`, sample by sample."""

    def __init__(self, m: nn.Module, drop_path: float) -> None:
        super().__init__()
        self.m = m
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        return x + self.drop_path(self.m(x))


class FFN(nn.Module):
    """Two pointwise convolutions, twice as wide in between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pw1 = ConvNorm(dim, 2 * dim)
        self.act = nn.ReLU(inplace=True)
        self.pw2 = ConvNorm(2 * dim, dim, gain=0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.pw2(self.act(self.pw1(x_BCHW)))


class LargeKernelPerception(nn.Module):
    """Weights for each pixel's 3x3 neighbourhood, computed from its 7x7 neighbourhood."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half, self.groups = dim // 2, dim // SHARED
        self.cv1 = ConvNorm(dim, half)
        self.act1 = nn.ReLU(inplace=True)
        self.cv2 = ConvNorm(half, half, 7, groups=half)
        self.cv3 = ConvNorm(half, half)
        self.act3 = nn.ReLU(inplace=True)
        self.cv4 = nn.Conv2d(half, TAPS * self.groups, 1)
        self.norm = nn.GroupNorm(self.groups, TAPS * self.groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> weights (B, G, T, H, W)."""
        x = self.act3(self.cv3(self.cv2(self.act1(self.cv1(x_BCHW)))))
        if in_loops(x):
            return self._weights_in_loops(x)
        # Not channels-last: torch's group norm is several times slower there in bfloat16, and no faster in float32.
        return self.norm(self.cv4(x).contiguous()).unflatten(1, (self.groups, TAPS))

    def _weights_in_loops(self, x_BCHW: Tensor) -> Tensor:
        """`norm` of `cv4` for a compiler: G is innermost in memory, so that its loops run over adjacent weights."""
        cv4: Any = self.cv4  # with a bias
        kernel, bias, scale, shift = (each.unflatten(0, (-1, TAPS)).transpose(0, 1).flatten(0, 1) for each in (
            cv4.weight, cv4.bias, self.norm.weight, self.norm.bias))  # fmt: skip
        w_BTGHW = F.conv2d(x_BCHW, kernel, bias).unflatten(1, (TAPS, -1))
        w_BTGHW = w_BTGHW - w_BTGHW.mean((1, 3, 4), True, dtype=torch.promote_types(w_BTGHW.dtype, torch.float32))
        w_BTGHW = w_BTGHW * (w_BTGHW.square().mean((1, 3, 4), True) + self.norm.eps).rsqrt()
        return (w_BTGHW * scale.view(TAPS, -1, 1, 1) + shift.view(TAPS, -1, 1, 1)).transpose(1, 2)


class LSConv(nn.Module):
    """LS convolution: small-kernel aggregation with the weights that large-kernel perception computes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lkp = LargeKernelPerception(dim)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.bn(ska(x_BCHW, self.lkp(x_BCHW))) + x_BCHW


class Attention(nn.Module):
    """Self-attention on a grid of n x n px, with a learned bias for each head and each (row, column) distance.

    If `dynamic`, a map of another height and width is taken, too: the biases of all pairs of pixels are resized as one
    picture, (n n, n n) -> (N, N). LSNet's published detectors have learned so, though it mixes distances.
    """

    def __init__(self, dim: int, heads: int, grid: int, dynamic: bool = False) -> None:
        super().__init__()
        self.heads, self.dynamic = heads, dynamic
        self.attention_biases = nn.Parameter(torch.zeros(heads, grid * grid))
        self.register_buffer("attention_bias_idxs", _distances(grid))
        self.qkv = ConvNorm(dim, 2 * KEY_DIM * heads + dim)
        self.proj = nn.Sequential(nn.ReLU(inplace=True), ConvNorm(dim, dim, gain=0.0))
        self.dw = ConvNorm(KEY_DIM * heads, KEY_DIM * heads, 3, groups=KEY_DIM * heads)

    @property
    def grid(self) -> int:
        """Side n of the grid in px of the last stage."""
        return math.isqrt(self.attention_biases.shape[1])

    def set_grid(self, grid: int) -> None:
        """Re-sample the biases for a grid of another side."""
        if grid != self.grid:
            table = self.attention_biases
            resampled = resample_biases(table.detach(), grid, as_picture=self.dynamic)
            self.attention_biases = nn.Parameter(resampled, table.requires_grad)
            self.attention_bias_idxs = _distances(grid).to(self.attention_bias_idxs.device)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, n, n) -> (B, C, n, n); (B, C, H, W) -> (B, C, H, W) if `dynamic`."""
        (B, C, H, W), n = x_BCHW.shape, self.grid
        if not (self.dynamic or H == W == n):
            raise UserError(f"an input with {H} x {W} px in the last stage (one for each {STRIDE} px, rounded up)",
                            f"{n} x {n}, which is an input of {STRIDE * (n - 1) + 1} to {STRIDE * n} px",
                            "call set_input_size or create the model with this img_size")
        keys = KEY_DIM * self.heads
        q, k, v = self.qkv(x_BCHW).split([keys, keys, C], dim=1)
        q_BhKN, k_BhKN, v_BhVN = (part.reshape(B, self.heads, -1, H * W) for part in (self.dw(q), k, v))
        bias_hNN = self.attention_biases[:, self.attention_bias_idxs]  # never cached: it would outlive new weights
        if bias_hNN.shape[1] != H * W:
            bias_hNN = F.interpolate(bias_hNN[None], size=(H * W, H * W), mode="bicubic")[0]
        attention_BhNN = ((q_BhKN * KEY_DIM**-0.5).mT @ k_BhKN + bias_hNN).softmax(dim=-1)
        return self.proj((v_BhVN @ attention_BhNN.mT).reshape(B, C, H, W))


def _distances(grid: int) -> Tensor:
    """(N, N): |row distance| * n + |column distance| of every two pixels of a grid of side n."""
    pixel = torch.arange(grid * grid)
    row, column = pixel // grid, pixel % grid
    return (row[:, None] - row).abs() * grid + (column[:, None] - column).abs()


def resample_biases(table_hN: Tensor, grid: int, *, as_picture: bool = False) -> Tensor:
    """A table of attention biases for another grid, (h, n * n) -> (h, grid * grid).

    It is bilinear over the distances; with `as_picture`, as LSNet's published detectors begin, bicubic over pixels.
    """
    n = math.isqrt(table_hN.shape[1])
    planes = table_hN.float().unflatten(1, (n, n))[None]
    if as_picture:
        resampled = F.interpolate(planes, size=(grid, grid), mode="bicubic")
    else:
        resampled = F.interpolate(planes, size=(grid, grid), mode="bilinear", align_corners=True)
    return resampled[0].flatten(1).to(table_hN.dtype)


class Block(nn.Module):
    """Block number `index` of a stage: token mixer, squeeze-and-excitation, feed-forward.

    The mixer of an even block is a re-parameterisable depthwise convolution. That of an odd block is an LS convolution
    or, if `grid` (its side in px) is given, attention with `heads` heads, `dynamic` or not.
    """

    def __init__(self, dim: int, index: int, drop_path: float, heads: int, grid: int | None,
                 dynamic: bool = False) -> None:
        super().__init__()
        if index % 2 == 0:
            self.mixer = RepDepthwise(dim)
        elif grid is None:
            self.mixer = LSConv(dim)
        else:
            self.mixer = Residual(Attention(dim, heads, grid, dynamic), drop_path)
        self.se = SqueezeExcite(dim, rd_ratio=0.25) if index % 2 == 0 else nn.Identity()
        self.ffn = Residual(FFN(dim), drop_path)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.ffn(self.se(self.mixer(x_BCHW)))
