"""LSNet ("see large, focus small"), a light vision backbone with the interface of a timm model.

Letters: B batch, C channels, H W height and width in px (h w: of the last stage), S input side in px, D features.

Keys of published checkpoints, which must keep their names: `patch_embed`, `blocks1..4`, `head`, `head_dist`.

**Source:** Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from timm.utils import reparameterize_model
from torch import Tensor, nn

from model.convolutions import absorb
from model.layers import STRIDE, Attention, Block, ConvNorm, NormLinear, resample_biases
from utils import UserError

SMALLEST_INPUT = 32  # px


class LSNet(nn.Module):
    """Four stages of stride 8, 16, 32 and 64, average pooling and a classifier.

    Args:
        num_classes: width of the logits; with 0 there is no classifier, and `forward` returns the features.
        in_chans: channels of the input.
        global_pool: `avg`, or empty for none (only without a classifier).
        img_size: side of the square input in px, 32 or more; sizes of equal ceil(size / 64) are interchangeable.
        dynamic_img_size: take inputs of any height and width, too; see `Attention`. With timm's `features_only`, the
            default.
        embed_dim: width of each stage, multiples of 8.
        depth: blocks of each stage.
        num_heads: attention heads of the last stage; they divide its width.
        distillation: a second classifier; training returns the logits of both, evaluation their mean.
        drop_rate: dropout before the classifier, a probability.
        drop_path_rate: stochastic depth of the last block, a probability; rises linearly from 0 at the first.

    Raises:
        UserError: `img_size` is not a square of at least 32 px; in `forward`, the input is of another grid, unless
            sizes are dynamic.
    """

    head: nn.Module
    head_dist: nn.Module

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
        dynamic_img_size: bool = False,
    ) -> None:
        super().__init__()
        self.in_chans, self.global_pool, self.distillation = in_chans, global_pool, distillation
        self.img_size = _square(img_size)
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = embed_dim[-1]
        self.feature_info = []

        half, quarter = embed_dim[0] // 2, embed_dim[0] // 4
        self.patch_embed = nn.Sequential(
            ConvNorm(in_chans, quarter, 3, 2), nn.ReLU(inplace=True),
            ConvNorm(quarter, half, 3, 2), nn.ReLU(inplace=True),
            ConvNorm(half, embed_dim[0], 3, 2),
        )  # fmt: skip
        drop_paths = iter(torch.linspace(0, drop_path_rate, sum(depth), device="cpu").tolist())
        for stage, (dim, blocks) in enumerate(zip(embed_dim, depth, strict=True)):
            before, grid = embed_dim[stage - 1], _grid(self.img_size) if stage == 3 else None
            down = [ConvNorm(before, before, 3, 2, groups=before), ConvNorm(before, dim)] if stage else []
            layers = [Block(dim, index, next(drop_paths), num_heads, grid, dynamic_img_size) for index in range(blocks)]
            self.add_module(f"blocks{stage + 1}", nn.Sequential(*down, *layers))
            self.feature_info.append({"num_chs": dim, "reduction": 8 << stage, "module": f"blocks{stage + 1}"})
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def _stages(self) -> list[Any]:
        return [self.blocks1, self.blocks2, self.blocks3, self.blocks4]

    def forward_intermediates(
        self,
        x_BCHW: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The output of the last stage and those of the stages in `indices` (a number n: the last n; None: all).

        `norm` only completes timm's signature; LSNet has no norm after its stages.

        Raises:
            ValueError: `output_fmt` is not NCHW.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be NCHW, not {output_fmt}")
        taken, last = feature_take_indices(4, indices)
        intermediates = []
        if x_BCHW.device.type == "cpu":  # there, convolutions of this network are up to a third faster channels-last
            x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        x_BCHW = self.patch_embed(x_BCHW)
        for index, stage in enumerate(self._stages()[: last + 1 if stop_early else 4]):
            checkpointing = self.grad_checkpointing and self.training and len(stage)
            x_BCHW = checkpoint_seq(stage, x_BCHW) if checkpointing else stage(x_BCHW)
            if index in taken:
                intermediates.append(x_BCHW)
        return intermediates if intermediates_only else (x_BCHW, intermediates)

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, S, S) -> (B, C, h, w), the output of the last stage."""
        return self.forward_intermediates(x_BCHW, indices=1)[0]

    def forward_head(self, x_BCHW: Tensor, pre_logits: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """(B, C, h, w) -> logits as in `forward`, or with `pre_logits` the features (B, D) before the classifier."""
        features = self.head_drop(self._pool(x_BCHW))
        if pre_logits or not self.distillation:
            return features if pre_logits else self.head(features)
        logits, logits_dist = self.head(features), self.head_dist(features)
        return (logits, logits_dist) if self.training else (logits + logits_dist) / 2

    def _pool(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW.mean((2, 3)) if self.global_pool else x_BCHW

    def forward(self, x_BCHW: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, in_chans, S, S) -> logits (B, num_classes); with distillation, in training those of both classifiers."""
        return self.forward_head(self.forward_features(x_BCHW))

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove all that the intermediates in `indices` do not need; returns their numbers from the first stage."""
        taken, last = feature_take_indices(4, indices)
        for stage in self._stages()[last + 1 :]:
            del stage[:]
        if last < 3:
            self.num_features = self.head_hidden_size = self.feature_info[last]["num_chs"]
        if prune_head or last < 3:
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module | tuple[nn.Module, nn.Module]:
        """The classifier; with distillation both."""
        return (self.head, self.head_dist) if self.distillation else self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one for `num_classes` (0: none); with distillation both."""
        self.num_classes = num_classes
        self.global_pool = self.global_pool if global_pool is None else global_pool
        for name in ("head", "head_dist") if self.distillation else ("head",):
            head = NormLinear(self.head_hidden_size, num_classes) if num_classes else nn.Identity()
            self.add_module(name, head.to(next(self.patch_embed.parameters())).train(self.training))

    def set_input_size(self, img_size: int | tuple[int, int]) -> None:
        """Prepare for square inputs of another size in px: re-sampled position biases become new parameters."""
        self.img_size = _square(img_size)
        self._traits = {**getattr(self, "_traits", {}), "img_size": (self.img_size, self.img_size)}  # timm saves these
        for module in self.modules():
            if isinstance(module, Attention):
                module.set_grid(_grid(self.img_size))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, recompute the activations of each block in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and norms."""
        return {name for name, _ in self.named_parameters() if name.endswith("attention_biases")}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Patterns that sort parameters by depth; projection and classifiers, which match none, are the last layer."""
        blocks = [(r"^blocks([234])\.[01]\.", (0,)), (r"^blocks(\d)\.(\d+)\.", None)]
        return {"stem": r"^patch_embed", "blocks": r"^blocks(\d)" if coarse else blocks}

    @torch.no_grad()
    def for_inference(self) -> LSNet:
        """A copy in evaluation mode, its norms and parallel branches folded; this model stays as it is."""
        model = copy.deepcopy(self).eval()
        reparameterize_model(model, inplace=True)
        model.requires_grad_(False)
        if model.distillation and model.num_classes:
            for mean, other in zip(model.head.parameters(), model.head_dist.parameters(), strict=True):
                mean.lerp_(other, 0.5)
            model.distillation = False
            del model.head_dist
        absorb(model)
        return model


def _square(img_size: int | tuple[int, int]) -> int:
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if height != width or height < SMALLEST_INPUT:
        raise UserError(f"an input size of {height} x {width} px", f"a square of {SMALLEST_INPUT} px or more",
                        "choose another size")
    return height


def _grid(img_size: int) -> int:
    return -(-img_size // STRIDE)


# ---- presets ---------------------------------------------------------------------------------------------------------


def checkpoint_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """A state dict, or a checkpoint's entry `model`, with position biases re-sampled to the grid of the network."""
    state_dict = dict(state_dict.get("model", state_dict))
    for name, module in model.named_modules():
        table = state_dict.get(f"{name}.attention_biases")
        if isinstance(module, Attention) and table is not None and table.shape != module.attention_biases.shape:
            state_dict[f"{name}.attention_biases"] = resample_biases(table, module.grid, as_picture=module.dynamic)
            state_dict[f"{name}.attention_bias_idxs"] = module.attention_bias_idxs.clone()
    return state_dict


def pretrained_filter_fn(state_dict: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """Published weights for a network that may have another head, or a projection, which then stay as they are."""
    state, own = checkpoint_filter_fn(state_dict, model), model.state_dict()
    for part in ("projection.", "head.", "head_dist."):
        keys = [key for key in own if key.startswith(part)]
        if any(key not in state or state[key].shape != own[key].shape for key in keys):
            state |= {key: own[key] for key in keys}
    return {key: value for key, value in state.items() if key in own or not key.startswith(("head.", "head_dist."))}


@dataclass(frozen=True)
class Preset:
    """A row of the table of models: width and depth of the stages, heads of the last, input side in px, hub id."""

    embed_dim: tuple[int, int, int, int]
    depth: tuple[int, int, int, int]
    num_heads: int
    img_size: int = 224
    distillation: bool = False
    hf_hub_id: str | None = None


def register_presets(model_cls: type[LSNet], presets: dict[str, Preset]) -> None:
    """Register every row with timm, so that `timm.create_model(name)` builds a `model_cls`."""
    module: Any = sys.modules[model_cls.__module__]  # where timm looks for `default_cfgs`, and hub for the functions
    for name, preset in presets.items():
        side, grid = preset.img_size, _grid(preset.img_size)
        module.default_cfgs |= generate_default_cfgs({name: {
            "hf_hub_id": preset.hf_hub_id, "num_classes": 1000,
            "input_size": (3, side, side), "fixed_input_size": True, "pool_size": (grid, grid),
            "crop_pct": 0.875, "interpolation": "bicubic", "mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD,
            "classifier": ("head.l", "head_dist.l") if preset.distillation else "head.l",
            "first_conv": "patch_embed.0.c",
            "paper_name": "LSNet: See Large, Focus Small", "paper_ids": "arXiv:2503.23135",
        }})  # fmt: skip
        setattr(module, name, register_model(_entrypoint(model_cls, name, preset)))


def _entrypoint(model_cls: type[LSNet], name: str, preset: Preset) -> Callable[..., LSNet]:
    def entrypoint(pretrained: bool = False, **kwargs: Any) -> LSNet:
        arguments: dict[str, Any] = {"embed_dim": preset.embed_dim, "depth": preset.depth,
                                     "num_heads": preset.num_heads, "distillation": preset.distillation, **kwargs}
        if kwargs.get("features_only"):
            arguments.setdefault("dynamic_img_size", True)
        return build_model_with_cfg(model_cls, name, pretrained, pretrained_filter_fn=pretrained_filter_fn,
                                    feature_cfg={"out_indices": (0, 1, 2, 3), "feature_cls": "getter"}, **arguments)

    entrypoint.__name__, entrypoint.__module__ = name, model_cls.__module__
    entrypoint.__doc__ = f"{model_cls.__name__} of widths {preset.embed_dim} and depths {preset.depth}."
    return entrypoint


PRESETS = {
    "lsnet_t": Preset((64, 128, 256, 384), (0, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_t"),
    "lsnet_s": Preset((96, 192, 320, 448), (1, 2, 8, 10), 4, hf_hub_id="jameslahm/lsnet_s"),
    "lsnet_b": Preset((128, 256, 384, 512), (4, 6, 8, 10), 4, hf_hub_id="jameslahm/lsnet_b"),
}
PRESETS |= {f"{name}_distill": replace(row, distillation=True, hf_hub_id=f"{row.hf_hub_id}_distill")
            for name, row in PRESETS.items()}
default_cfgs = {}
register_presets(LSNet, PRESETS)
