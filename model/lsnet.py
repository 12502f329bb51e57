"""LSNet, a light vision backbone whose blocks see large and focus small, in timm's model contract.

Letters: B batch, C channels, H W height and width in px, D features, G weight channels of SKA (C / 8), T = 9 taps,
h attention heads, K key width, V value width, N = n * n pixels of the last stage's grid.

Attribute names that are keys of published checkpoints, and therefore not ours to choose: `patch_embed`, `blocks1..4`,
`mixer`, `se`, `ffn`, `m`, `c`, `bn`, `l`, `conv`, `conv1`, `pw1`, `pw2`, `lkp`, `cv1..4`, `norm`, `qkv`, `dw`, `proj`,
`attention_biases`, `attention_bias_idxs`, `head`, `head_dist`, `projection`.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import DropPath, SqueezeExcite, calculate_drop_path_rates, trunc_normal_
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.utils import reparameterize_model
from torch import Tensor, nn

from model.ska import ska
from utils import UserError

SMALLEST_INPUT = 32  # px
STRIDE = 64  # px of input per pixel of the last stage
KEY_DIM = 16
TAPS = 9
SHARED = 8  # channels that share one set of SKA weights


class ConvNorm(nn.Sequential):
    """Bias-free convolution with batch norm, padded to keep the side length divided by `stride` (rounded up)."""

    def __init__(self, in_dim: int, out_dim: int, kernel: int = 1, stride: int = 1, groups: int = 1, scale: float = 1.0):
        super().__init__()
        self.add_module("c", nn.Conv2d(in_dim, out_dim, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(out_dim))
        nn.init.constant_(self.bn.weight, scale)

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """One convolution with bias that equals this pair in evaluation."""
        scale, shift = _affine(self.bn)
        old = self.c
        new = nn.Conv2d(old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, groups=old.groups)
        new.to(old.weight)
        new.weight.copy_(old.weight * scale[:, None, None, None])
        new.bias.copy_(shift)
        return new


class NormLinear(nn.Sequential):
    """Batch norm, then a linear map: (B, in) -> (B, out)."""

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.add_module("bn", nn.BatchNorm1d(in_dim))
        self.add_module("l", nn.Linear(in_dim, out_dim))
        trunc_normal_(self.l.weight, std=0.02)
        nn.init.zeros_(self.l.bias)

    @torch.no_grad()
    def fuse(self) -> nn.Linear:
        """One linear map that equals this pair in evaluation."""
        scale, shift = _affine(self.bn)
        new = nn.Linear(self.l.in_features, self.l.out_features).to(self.l.weight)
        new.weight.copy_(self.l.weight * scale)
        new.bias.copy_(self.l.bias + self.l.weight.double() @ shift)
        return new


def _affine(bn: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift, float64, that `bn` applies in evaluation."""
    scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
    return scale, bn.bias.double() - bn.running_mean.double() * scale


class RepDepthwise(nn.Module):
    """Depthwise 3x3 + depthwise 1x1 + identity, one 3x3 after folding: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv = ConvNorm(dim, dim, 3, groups=dim)
        self.conv1 = ConvNorm(dim, dim, 1, groups=dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(x_BCHW) + self.conv1(x_BCHW) + x_BCHW

    @torch.no_grad()
    def fuse(self) -> nn.Conv2d:
        """The three branches as one depthwise convolution."""
        conv, conv1 = self.conv.fuse(), self.conv1.fuse()
        conv.weight[:, :, 1:2, 1:2] += conv1.weight + 1
        conv.bias += conv1.bias
        return conv


class Residual(nn.Module):
    """x + m(x), where m(x) is dropped for a sample with probability `drop_path` in training."""

    def __init__(self, m: nn.Module, drop_path: float):
        super().__init__()
        self.m = m
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.m(x))


class FFN(nn.Module):
    """Pointwise expansion to twice the width, ReLU, and back: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.pw1 = ConvNorm(dim, 2 * dim)
        self.act = nn.ReLU()
        self.pw2 = ConvNorm(2 * dim, dim, scale=0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.pw2(self.act(self.pw1(x_BCHW)))


class LargeKernelPerception(nn.Module):
    """Weights for each pixel's 3x3 neighbourhood, from a 7x7 one: (B, C, H, W) -> (B, G, T, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        half, self.groups = dim // 2, dim // SHARED
        self.cv1 = ConvNorm(dim, half)
        self.act = nn.ReLU()
        self.cv2 = ConvNorm(half, half, 7, groups=half)
        self.cv3 = ConvNorm(half, half)
        self.cv4 = nn.Conv2d(half, TAPS * self.groups, 1)
        self.norm = nn.GroupNorm(self.groups, TAPS * self.groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = self.act(self.cv3(self.cv2(self.act(self.cv1(x_BCHW)))))
        return self.norm(self.cv4(x)).unflatten(1, (self.groups, TAPS))


class LSConv(nn.Module):
    """Large-kernel perception, small-kernel aggregation: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, dim: int):
        super().__init__()
        self.lkp = LargeKernelPerception(dim)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.bn(ska(x_BCHW, self.lkp(x_BCHW))) + x_BCHW


class Attention(nn.Module):
    """Self-attention with a learned bias per head and distance, on a grid of n x n: (B, C, n, n) -> (B, C, n, n)."""

    def __init__(self, dim: int, heads: int, grid: int):
        super().__init__()
        self.heads = heads
        self.attention_biases = nn.Parameter(torch.zeros(heads, grid * grid))
        self.register_buffer("attention_bias_idxs", _distances(grid))
        self.qkv = ConvNorm(dim, 2 * KEY_DIM * heads + dim)
        self.proj = nn.Sequential(nn.ReLU(), ConvNorm(dim, dim, scale=0.0))
        self.dw = ConvNorm(KEY_DIM * heads, KEY_DIM * heads, 3, groups=KEY_DIM * heads)

    @property
    def grid(self) -> int:
        """Side length n of the grid, in px of the last stage."""
        return math.isqrt(self.attention_biases.shape[1])

    def set_grid(self, grid: int) -> None:
        """Re-sample the bias table for a grid of `grid` x `grid`."""
        if grid != self.grid:
            self.attention_biases = nn.Parameter(_resample(self.attention_biases.detach(), grid))
            self.attention_bias_idxs = _distances(grid).to(self.attention_bias_idxs.device)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        B, C, H, W = x_BCHW.shape
        n = self.grid
        if x_BCHW.shape[2:] != (n, n):
            raise UserError(f"an input whose last stage has {H} x {W} px (one per {STRIDE} px of input, rounded up)",
                            f"{n} x {n}, inputs of {STRIDE * (n - 1) + 1} to {STRIDE * n} px",
                            "call set_input_size or build the model with that img_size")
        keys = KEY_DIM * self.heads
        q, k, v = self.qkv(x_BCHW).split([keys, keys, C], dim=1)
        q_BhKN, k_BhKN, v_BhVN = (part.reshape(B, self.heads, -1, n * n) for part in (self.dw(q), k, v))
        bias_hNN = self.attention_biases[:, self.attention_bias_idxs]
        weights_BhNN = ((q_BhKN * KEY_DIM**-0.5).mT @ k_BhKN + bias_hNN).softmax(dim=-1)
        return self.proj((v_BhVN @ weights_BhNN.mT).reshape(B, C, n, n))


def _distances(grid: int) -> Tensor:
    """(N, N) indices |row difference| * n + |column difference| of every pair of pixels of an n x n grid."""
    row, column = torch.arange(grid * grid) // grid, torch.arange(grid * grid) % grid
    return (row[:, None] - row).abs() * grid + (column[:, None] - column).abs()


def _resample(table: Tensor, grid: int) -> Tensor:
    """A (heads, n²) bias table over distances, bilinearly re-sampled to (heads, grid²)."""
    n = math.isqrt(table.shape[1])
    planes = table.float().view(1, -1, n, n)
    return F.interpolate(planes, size=(grid, grid), mode="bilinear", align_corners=True).flatten(2)[0].to(table.dtype)


class Block(nn.Module):
    """FFN-residual(SE(mixer(x))): (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, mixer: nn.Module, se: nn.Module, ffn: nn.Module):
        super().__init__()
        self.mixer, self.se, self.ffn = mixer, se, ffn

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.ffn(self.se(self.mixer(x_BCHW)))


class LSNet(nn.Module):
    """The backbone with a classifier: pictures (B, in_chans, S, S) -> logits (B, num_classes).

    Args:
        num_classes: width of the logits; 0 = no classifier, `forward` answers with the pooled features.
        in_chans: channels of the input.
        global_pool: `avg`, or empty to leave features unpooled (only without a classifier).
        img_size: side of the square input in px, at least 32; sizes with equal ceil(size / 64) are interchangeable.
        embed_dim, depth: width (a multiple of 8) and number of blocks of each of the four stages.
        num_heads: attention heads of the last stage.
        distillation: add a second classifier; training returns both logits, evaluation their mean.
        drop_rate: dropout before the classifier, as a probability.
        drop_path_rate: stochastic depth of the last block, as a probability; it rises linearly from 0 with depth.

    Raises:
        UserError: `img_size` is not a square of at least 32 px, or an input does not fit the size built for.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        img_size: int | tuple[int, int] = 224,
        embed_dim: Sequence[int] = (64, 128, 256, 384),
        depth: Sequence[int] = (0, 2, 8, 10),
        num_heads: int = 4,
        distillation: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ):
        super().__init__()
        self.num_classes, self.in_chans, self.global_pool = num_classes, in_chans, global_pool
        self.distillation = distillation
        self.grad_checkpointing = False
        self.img_size = _square(img_size)
        self.num_features = self.head_hidden_size = embed_dim[-1]

        self.patch_embed = nn.Sequential(
            ConvNorm(in_chans, embed_dim[0] // 4, 3, 2),
            nn.ReLU(),
            ConvNorm(embed_dim[0] // 4, embed_dim[0] // 2, 3, 2),
            nn.ReLU(),
            ConvNorm(embed_dim[0] // 2, embed_dim[0], 3, 2),
        )
        rates = iter(calculate_drop_path_rates(drop_path_rate, sum(depth)))
        self.feature_info = []
        for stage, (dim, count) in enumerate(zip(embed_dim, depth, strict=True)):
            previous = embed_dim[stage - 1]
            layers = [ConvNorm(previous, previous, 3, 2, groups=previous), ConvNorm(previous, dim)] if stage else []
            layers += [self._block(stage, d, dim, num_heads, next(rates)) for d in range(count)]
            self.add_module(f"blocks{stage + 1}", nn.Sequential(*layers))
            self.feature_info.append({"num_chs": dim, "reduction": 8 << stage, "module": f"blocks{stage + 1}"})
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def _block(self, stage: int, d: int, dim: int, heads: int, drop_path: float) -> Block:
        if d % 2 == 0:
            mixer, se = RepDepthwise(dim), SqueezeExcite(dim, rd_ratio=0.25)
        elif stage < 3:
            mixer, se = LSConv(dim), nn.Identity()
        else:
            mixer, se = Residual(Attention(dim, heads, _grid(self.img_size)), drop_path), nn.Identity()
        return Block(mixer, se, Residual(FFN(dim), drop_path))

    @property
    def stages(self) -> list[nn.Sequential]:
        """The four stages, first to last."""
        return [self.blocks1, self.blocks2, self.blocks3, self.blocks4]

    # ---- forward -----------------------------------------------------------------------------------------------------

    def _run_stage(self, stage: nn.Sequential, x_BCHW: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training and len(stage):
            return checkpoint_seq(stage, x_BCHW)
        return stage(x_BCHW)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, C, h, w), the last stage's output, unpooled."""
        x_BCHW = self.patch_embed(x_BCHW)
        for stage in self.stages:
            x_BCHW = self._run_stage(stage, x_BCHW)
        return x_BCHW

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, C, h, w) -> logits, or with `pre_logits` the features (B, D) that the classifier reads."""
        x = self.head_drop(self._pool(x_BCHW))
        if pre_logits:
            return x
        if not self.distillation:
            return self.head(x)
        logits, logits_dist = self.head(x), self.head_dist(x)
        return (logits, logits_dist) if self.training else (logits + logits_dist) / 2

    def _pool(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((2, 3)) if self.global_pool else x_BCHW

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, in_chans, S, S) -> (B, num_classes); with distillation in training, the logits of both classifiers."""
        return self.forward_head(self.forward_features(x_BCHW))

    def forward_intermediates(
        self,
        x_BCHW: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The outputs of the stages in `indices` (int: the last so many; None: all), after the final one.

        Raises:
            ValueError: `output_fmt` is not NCHW. `norm` changes nothing: there is no final norm on feature maps.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, not {output_fmt}")
        taken, last = feature_take_indices(4, indices)
        intermediates = []
        x_BCHW = self.patch_embed(x_BCHW)
        for index, stage in enumerate(self.stages[: last + 1] if stop_early else self.stages):
            x_BCHW = self._run_stage(stage, x_BCHW)
            if index in taken:
                intermediates.append(x_BCHW)
        return intermediates if intermediates_only else (x_BCHW, intermediates)

    # ---- timm's contract ---------------------------------------------------------------------------------------------

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what the intermediates in `indices` do not need; returns the indices counted from the front."""
        taken, last = feature_take_indices(4, indices)
        for stage in self.stages[last + 1 :]:
            del stage[:]
        if prune_head or last < 3:
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """The classifier, or both with distillation."""
        return (self.head, self.head_dist) if self.distillation else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put new classifiers of `num_classes` outputs in place (0: none)."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        self.head = self._new_head()
        if self.distillation:
            self.head_dist = self._new_head()

    def _new_head(self) -> nn.Module:
        head = NormLinear(self.head_hidden_size, self.num_classes) if self.num_classes else nn.Identity()
        return head.to(self.patch_embed[0].c.weight).train(self.training)

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Make the model ready for square inputs of `img_size` px, re-sampling its position biases."""
        self.img_size = _square(img_size)
        for module in self.modules():
            if isinstance(module, Attention):
                module.set_grid(_grid(self.img_size))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, recompute each block in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that take no weight decay besides biases and norms."""
        return {name for name, _ in self.named_parameters() if name.endswith("attention_biases")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that order parameters by depth, for layer-wise learning rates."""
        fine = [(r"^blocks([234])\.[01]\.", (0,)), (r"^blocks(\d)\.(\d+)", None)]
        return {"stem": r"^patch_embed", "blocks": r"^blocks(\d)" if coarse else fine}

    @torch.no_grad()
    def for_inference(self) -> LSNet:
        """A copy in evaluation mode with batch norms and parallel branches folded; this model stays as it is."""
        model = reparameterize_model(copy.deepcopy(self).eval(), inplace=True)
        return model


def _square(img_size: int | tuple[int, int]) -> int:
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height != width or height < SMALLEST_INPUT:
        raise UserError(f"an input size of {height} x {width} px", f"a square of at least {SMALLEST_INPUT} px",
                        "choose another size")
    return height


def _grid(img_size: int) -> int:
    return -(-img_size // STRIDE)


# ---- presets ---------------------------------------------------------------------------------------------------------


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """`state_dict` (or its entry `model`) made to fit `model`: position biases of another input size are re-sampled."""
    state_dict = dict(state_dict.get("model", state_dict))
    for name, module in model.named_modules():
        table = state_dict.get(f"{name}.attention_biases")
        if isinstance(module, Attention) and table is not None and table.shape != module.attention_biases.shape:
            state_dict[f"{name}.attention_biases"] = _resample(table, module.grid)
            state_dict[f"{name}.attention_bias_idxs"] = module.attention_bias_idxs.clone()
    return state_dict


@dataclass(frozen=True)
class Preset:
    """One row of a table of models: width and blocks per stage, heads of the last, and what its name promises."""

    embed_dim: tuple[int, int, int, int]
    depth: tuple[int, int, int, int]
    num_heads: int
    img_size: int = 224
    distillation: bool = False
    hf_hub_id: str | None = None

    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm wants to know of a model besides its architecture."""
        return {
            "hf_hub_id": self.hf_hub_id, "num_classes": 1000, "fixed_input_size": True,
            "input_size": (3, self.img_size, self.img_size), "pool_size": (_grid(self.img_size),) * 2,
            "crop_pct": 0.875, "interpolation": "bicubic",
            "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "first_conv": "patch_embed.0.c",
            "classifier": ("head.l", "head_dist.l") if self.distillation else "head.l",
            "paper_ids": "arXiv:2503.23135", "paper_name": "LSNet: See Large, Focus Small",
        }  # fmt: skip

    def model_args(self) -> dict[str, Any]:
        """The arguments of the model class."""
        args = {"embed_dim": self.embed_dim, "depth": self.depth, "num_heads": self.num_heads}
        return {**args, "distillation": True} if self.distillation else args


def register_presets(model_cls: type[LSNet], presets: dict[str, Preset]) -> None:
    """Register every preset with timm under its name, as a model of `model_cls`."""
    module = sys.modules[model_cls.__module__]
    for name, preset in presets.items():
        module.default_cfgs.update(generate_default_cfgs({name: preset.pretrained_cfg()}))
        setattr(module, name, register_model(_entrypoint(model_cls, name, preset)))


def _entrypoint(model_cls: type[LSNet], name: str, preset: Preset):
    def create(pretrained: bool = False, **kwargs: Any) -> LSNet:
        return build_model_with_cfg(
            model_cls, name, pretrained, pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"}, **{**preset.model_args(), **kwargs},
        )  # fmt: skip

    create.__name__ = create.__qualname__ = name
    create.__module__ = model_cls.__module__
    create.__doc__ = f"{name}: widths {preset.embed_dim}, depths {preset.depth}, {preset.img_size} px."
    return create


PRESETS = {
    "lsnet_t": Preset((64, 128, 256, 384), (0, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_t"),
    "lsnet_s": Preset((96, 192, 320, 448), (1, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_s"),
    "lsnet_b": Preset((128, 256, 384, 512), (4, 6, 8, 10), 4, hf_hub_id="jameslahm/lsnet_b"),
}
PRESETS |= {
    f"{name}_distill": replace(row, distillation=True, hf_hub_id=f"{row.hf_hub_id}_distill") for name, row in PRESETS.items()
}
default_cfgs = {}
register_presets(LSNet, PRESETS)
