"""Keys and shapes of published detectors and segmenters, as figures: LSNet's downstream files, not our own map."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.model import golden

# The golden table of each backbone's keys; those of an artist preset without projection are the plain one's.
BACKBONES = {"lsnet_t": ("lsnet_t", {"num_classes": 1000}), "lsnet_s": ("lsnet_s", {"num_classes": 1000}),
             "lsnet_b": ("lsnet_b_artist", {"num_classes": 100})}
WIDTHS = {"lsnet_t": (64, 128, 256, 384), "lsnet_s": (96, 192, 320, 448), "lsnet_b": (128, 256, 384, 512)}
C = 256


def convolution(key: str, *shape: int) -> dict[str, tuple[int, ...]]:
    """Weight and bias; a transposed convolution of the table has as many inputs as outputs."""
    return {f"{key}.weight": shape, f"{key}.bias": shape[:1]}


def backbone(name: str) -> dict[str, tuple[int, ...]]:
    """`backbone.` and the published layout without a head, with tables for a grid of 14 x 14."""
    shapes = {f"backbone.{key}": tuple(shape) for key, shape in golden.shapes(*BACKBONES[name]).items()
              if not key.startswith("head")}
    for key, shape in shapes.items():
        if key.endswith("attention_biases"):
            shapes[key] = (shape[0], 196)
        elif key.endswith("attention_bias_idxs"):
            shapes[key] = (196, 196)
    return shapes


def pyramid(name: str, convs: int) -> dict[str, tuple[int, ...]]:
    """Four lateral convolutions, and `convs` behind them; the fifth stands on the last stage."""
    shapes: dict[str, tuple[int, ...]] = {}
    for level, width in enumerate(WIDTHS[name]):
        shapes |= convolution(f"neck.lateral_convs.{level}.conv", C, width, 1, 1)
    for level in range(convs):
        shapes |= convolution(f"neck.fpn_convs.{level}.conv", C, WIDTHS[name][-1] if level == 4 else C, 3, 3)
    return shapes


def boxes(name: str) -> dict[str, tuple[int, ...]]:
    """RetinaNet for the 80 classes of COCO."""
    shapes = backbone(name) | pyramid(name, 5)
    for number in range(4):
        shapes |= convolution(f"bbox_head.cls_convs.{number}.conv", C, C, 3, 3)
        shapes |= convolution(f"bbox_head.reg_convs.{number}.conv", C, C, 3, 3)
    return shapes | convolution("bbox_head.retina_cls", 720, C, 3, 3) | convolution("bbox_head.retina_reg", 36, C, 3, 3)


def instances(name: str) -> dict[str, tuple[int, ...]]:
    """Mask R-CNN for the 80 classes of COCO."""
    shapes = backbone(name) | pyramid(name, 4)
    shapes |= convolution("neck.extra_trans_convs.0.conv", C, C, 2, 2)
    shapes |= convolution("neck.extra_fpn_convs.0.conv", C, C, 3, 3)
    shapes |= convolution("rpn_head.rpn_conv", C, C, 3, 3) | convolution("rpn_head.rpn_cls", 3, C, 1, 1)
    shapes |= convolution("rpn_head.rpn_reg", 12, C, 1, 1)
    shapes |= convolution("roi_head.bbox_head.shared_fcs.0", 1024, 12544)
    shapes |= convolution("roi_head.bbox_head.shared_fcs.1", 1024, 1024)
    shapes |= convolution("roi_head.bbox_head.fc_cls", 81, 1024) | convolution("roi_head.bbox_head.fc_reg", 320, 1024)
    for number in range(4):
        shapes |= convolution(f"roi_head.mask_head.convs.{number}.conv", C, C, 3, 3)
    return (shapes | convolution("roi_head.mask_head.upsample", C, C, 2, 2)
            | convolution("roi_head.mask_head.conv_logits", 80, C, 1, 1))


def semantic(name: str) -> dict[str, tuple[int, ...]]:
    """Semantic FPN for the 150 classes of ADE20K."""
    shapes = backbone(name) | pyramid(name, 4)
    for key in ("0.0", "1.0", "2.0", "2.2", "3.0", "3.2", "3.4"):
        prefix = f"decode_head.scale_heads.{key}"
        shapes[f"{prefix}.conv.weight"] = (128, 128 if key in ("2.2", "3.2", "3.4") else C, 3, 3)
        shapes |= {f"{prefix}.bn.{leaf}": (128,) for leaf in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"{prefix}.bn.num_batches_tracked"] = ()
    return shapes | convolution("decode_head.conv_seg", 150, 128, 1, 1)


TABLES = {"boxes": boxes, "instances": instances, "semantic": semantic}
CLASSES = {"boxes": 80, "instances": 80, "semantic": 150}


def seeded(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict of these shapes, the same every time, with which networks answer finitely."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("attention_bias_idxs"):
            pixel = torch.arange(196)
            row, column = pixel // 14, pixel % 14
            state[key] = (row[:, None] - row).abs() * 14 + (column[:, None] - column).abs()
        elif key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        else:
            fan_in = max(1, torch.Size(shape[1:]).numel())
            value = torch.randn(shape, generator=generator) * (fan_in**-0.5 if len(shape) > 1 else 0.1)
            state[key] = value.abs() + 0.5 if key.endswith(("running_var", "bn.weight", "norm.weight")) else value
    return state
