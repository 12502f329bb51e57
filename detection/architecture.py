"""Networks for dense tasks as models of timm: `timm.create_model("dense_network", backbone=…, dense_task=…)`.

Importing this module registers them, so that `Architecture` builds them from flags and checkpoints.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from detection.detectors import MaskRCNN, Retina
from detection.pyramid import Colours, PyramidBackbone
from detection.semantic_fpn import SemanticFPN
from runtime.networks import DENSE_NETWORK, DenseTask

LEVELS: dict[str, tuple[int, int | None]] = {  # finest and coarsest stride, px, see `PyramidBackbone`
    "boxes": (8, 128), "instances": (4, 64), "semantic": (4, None)}


def build(*, backbone: str, dense_task: DenseTask, num_classes: int, channels: int = 256, rois: int = 512,
          anchor_scale: float = 1.0, crop: int = 1, pretrained_backbone: bool = False, **_: Any) -> nn.Module:
    """A network with random weights, or with the backbone's published ones.

    Args:
        backbone: timm's name of the backbone.
        dense_task: `boxes` is RetinaNet, `instances` Mask R-CNN, `semantic` Semantic FPN.
        num_classes: without the background.
        channels: of the pyramid and of the heads.
        rois: boxes of each picture that train the heads of Mask R-CNN.
        anchor_scale: size of anchors as a multiple of the published ones'.
        crop: side of the squares that train Semantic FPN, px.
        pretrained_backbone: begin with the weights that timm has for the backbone.
        _: what timm gives to every model, such as the channels of its input.

    Raises:
        UserError: the backbone is unknown, or gives no stages for a pyramid.
    """
    finest, coarsest = LEVELS[dense_task]
    body = PyramidBackbone(backbone, channels, finest=finest, coarsest=coarsest, pretrained=pretrained_backbone)
    colours = Colours.of(backbone)
    if dense_task == "semantic":
        return SemanticFPN(body, num_classes, colours, crop)
    if dense_task == "boxes":
        return Retina(body, num_classes, colours, anchor_scale=anchor_scale)
    return MaskRCNN(body, num_classes, colours, rois=rois, anchor_scale=anchor_scale)


def dense_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """`build` for `timm.create_model("dense_network", backbone=NAME, dense_task=…)` and hub folders."""
    return build_model_with_cfg(build, DENSE_NETWORK, pretrained, **kwargs)


default_cfgs = generate_default_cfgs({DENSE_NETWORK: {"classifier": None}})
register_model(dense_network)
