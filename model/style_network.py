"""Style features: statistics of the outputs of a network's middle stages, and a network whose head reads them.

Letters: B batch, C channels, H W height and width in px, R raw features, D features of the head.

Keys of checkpoints of a `StyleNetwork`, which must keep their names: `backbone`, `projection`, `head`.

**Source:** Huang and Belongie, "Arbitrary Style Transfer in Real-Time with Adaptive Instance Normalization", ICCV 2017,
arXiv 1703.06868, take mean and standard deviation of each channel over the picture as its style.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Callable
from typing import Any, Literal

import timm
import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, group_parameters, register_model
from timm.utils import reparameterize_model
from torch import Tensor, nn

from model.layers import NormLinear
from model.lsnet import LSNet
from utils import UserError

NAME = "style_network"  # timm's name of `StyleNetwork`
SMALLEST_VARIANCE = 1e-5  # added: the gradient of the root is infinite at 0


# Chosen over five networks, on other splits and books than those reported: see BENCHMARKS.md.
def style_stages(network: Any) -> list[int]:
    """The numbers, for `forward_intermediates`, of the stages whose statistics are style features.

    They are those of stride 4 to 16; of a plain transformer the blocks after each quarter but the last.

    Raises:
        UserError: the network has no `forward_intermediates`.
    """
    if not hasattr(network, "forward_intermediates"):
        raise UserError(f"style features of {type(network).__name__}, which has no forward_intermediates",
                        "a network of timm that has it, as most have",
                        "take --feature-kind pooled, or another --model")
    reductions = [stage["reduction"] for stage in network.feature_info]
    if len(set(reductions)) == 1:  # a plain transformer: all blocks have one stride
        return [len(reductions) * quarter // 4 - 1 for quarter in (1, 2, 3)]
    return [number for number, reduction in enumerate(reductions) if 4 <= reduction <= 16]


def style_widths(network: Any) -> list[int]:
    """How many style features each stage of `style_stages` gives."""
    return [2 * network.feature_info[stage]["num_chs"] for stage in style_stages(network)]


def statistics(maps_BCHW: Tensor) -> Tensor:
    """Mean and standard deviation of each channel over the picture: (B, C, H, W) -> (B, 2 C)."""
    variance, mean = torch.var_mean(maps_BCHW, (2, 3), correction=0)
    return torch.cat([mean, (variance + SMALLEST_VARIANCE).sqrt()], 1)


def style_and_maps(network: Any, images_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Style features (B, D), and the output of `forward_features`, of one pass through `network`, any timm model."""
    maps, stages = network.forward_intermediates(images_BCHW, indices=style_stages(network))
    return torch.cat([statistics(stage) for stage in stages], 1), maps


class StyleNetwork(nn.Module):
    """A network whose head reads style features, with the interface of a timm model.

    `forward_features` returns raw features: style features, and with the kind `both` also the backbone's pooled ones.
    `forward_head(..., pre_logits=True)` returns them, or what the projection makes of them.

    Args:
        backbone: timm's name of the network.
        num_classes: width of the logits; with 0 there is no classifier, and `forward` returns the features.
        kind: of the raw features.
        feature_dim: width of the projection; None for none.
        pretrained_backbone: begin with the weights that timm has for the backbone.
        drop_rate: dropout before the classifier, a probability.
        kwargs: further arguments of the backbone.

    Raises:
        UserError: the backbone has no `forward_intermediates`.
    """

    backbone: Any
    num_features: int
    head_hidden_size: int

    def __init__(self, backbone: str, num_classes: int = 1000, kind: Literal["style", "both"] = "both",
                 feature_dim: int | None = None, pretrained_backbone: bool = False, drop_rate: float = 0.0,
                 **kwargs: Any) -> None:
        super().__init__()
        self.kind = kind
        network: Any = timm.create_model(backbone, pretrained=pretrained_backbone, num_classes=0, **kwargs)
        self.backbone = network
        raw_width = sum(style_widths(network)) + (network.head_hidden_size if kind == "both" else 0)
        self.projection = nn.Identity()
        self.num_features = self.head_hidden_size = feature_dim or raw_width
        if feature_dim is not None:
            self.projection = nn.Sequential(NormLinear(raw_width, feature_dim), nn.ReLU(inplace=True))
        self.head_drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    @property
    def reads_raw(self) -> bool:
        """Whether the classifier reads the raw features, without a projection."""
        return isinstance(self.projection, nn.Identity)

    @property
    def feature_info(self) -> Any:
        """The backbone's."""
        return self.backbone.feature_info

    def forward_features(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> raw features (B, R)."""
        style, maps = style_and_maps(self.backbone, x_BCHW)
        if self.kind == "style":
            return style
        return torch.cat([style, self.backbone.forward_head(maps, pre_logits=True)], 1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Raw features -> logits (B, num_classes), or with `pre_logits` the features (B, D) before the classifier."""
        features = self.head_drop(self.projection(x))
        return features if pre_logits else self.head(features)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x_BCHW))

    def forward_intermediates(self, x_BCHW: Tensor, **kwargs: Any) -> Any:
        """The backbone's."""
        return self.backbone.forward_intermediates(x_BCHW, **kwargs)

    def get_classifier(self) -> nn.Module:
        """The classifier."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one for `num_classes` (0: none)."""
        self.num_classes = num_classes
        self.head = NormLinear(self.num_features, num_classes) if num_classes else nn.Identity()
        self.head.to(next(self.backbone.parameters())).train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, recompute the backbone's blocks in the backward pass instead of keeping their outputs."""
        self.backbone.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> Callable[[str], float]:
        """The depth of a parameter: the backbone's own, or 0 where that names none; of projection and head infinite."""
        own: Any = getattr(self.backbone, "group_matcher", lambda coarse: {"all": ""})(coarse=coarse)
        found: Any = group_parameters(self.backbone, own, reverse=True)
        depths = {f"backbone.{name}": float(depth) for name, depth in found.items()}
        return lambda name: depths.get(name, math.inf)

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and norms."""
        own = getattr(self.backbone, "no_weight_decay", set)
        return {f"backbone.{name}" for name in own()}

    @torch.no_grad()
    def for_inference(self) -> StyleNetwork:
        """A copy in evaluation mode, its norms folded where they can be; this network stays as it is."""
        network = copy.deepcopy(self).eval()
        if isinstance(network.backbone, LSNet):
            network.backbone = network.backbone.for_inference()
        reparameterize_model(network, inplace=True)
        return network.requires_grad_(False)


def style_network(pretrained: bool = False, **kwargs: Any) -> StyleNetwork:
    """`StyleNetwork` for `timm.create_model("style_network", backbone=NAME, …)` and hub folders."""
    network: Any = build_model_with_cfg(StyleNetwork, NAME, pretrained, **kwargs)
    cfg, backbone = network.pretrained_cfg, network.backbone.pretrained_cfg
    seen = ("input_size", "fixed_input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std")
    network.pretrained_cfg = network.default_cfg = {**cfg, **{key: backbone[key] for key in seen if key in backbone}}
    return network


default_cfgs = generate_default_cfgs({NAME: {"classifier": "head.l", "num_classes": 1000}})
register_model(style_network)
setattr(sys.modules[__name__], NAME, style_network)
