"""What builds a network for a dense task, as checkpoints say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import timm
from msgspec import Meta
from torch import nn

from detection.detectors import MaskRCNN, Resizing, retinanet
from detection.pyramid import PyramidBackbone
from detection.semantic_fpn import SemanticFPN

DenseTask = Literal["boxes", "instances", "semantic"]
LEVELS: dict[str, tuple[int, int | None]] = {  # finest and coarsest stride, px, see `PyramidBackbone`
    "boxes": (8, 128), "instances": (4, 64), "semantic": (4, None)}


@dataclass(frozen=True, kw_only=True)
class DenseArchitecture:
    """A detector or segmenter.

    Attributes:
        task: `boxes` is RetinaNet, `instances` Mask R-CNN, `semantic` Semantic FPN.
        backbone: timm's name of the backbone.
        num_classes: without the background.
        channels: of the pyramid and of the heads.
        rois: boxes of each picture that train the heads of Mask R-CNN.
        shortest: side of the picture in the network, px, see `Resizing`; Semantic FPN takes pictures as they come.
        longest: likewise.
        backbone_args: further arguments of the backbone.
    """

    task: DenseTask
    backbone: str
    num_classes: Annotated[int, Meta(ge=1, le=10_000)]
    channels: Annotated[int, Meta(ge=8, le=1024, multiple_of=8)] = 256
    rois: Annotated[int, Meta(ge=4, le=4096)] = 512
    shortest: Annotated[int, Meta(ge=32, le=8192)] = 800
    longest: Annotated[int, Meta(ge=32, le=16384)] = 1333
    backbone_args: dict[str, Any] = field(default_factory=dict)

    def create(self) -> nn.Module:
        """The network with random weights, on the CPU.

        Raises:
            UserError: the backbone is unknown, or gives no stages for a pyramid.
        """
        finest, coarsest = LEVELS[self.task]
        backbone = PyramidBackbone(self.backbone, self.channels, finest=finest, coarsest=coarsest, **self.backbone_args)
        if self.task == "semantic":
            return SemanticFPN(backbone, self.num_classes)
        if self.task == "boxes":
            return retinanet(backbone, self.num_classes, self.resizing())
        return MaskRCNN(backbone, self.num_classes, self.resizing(), rois=self.rois)

    def resizing(self) -> Resizing:
        """The sizes, and the colours that timm's weights of the backbone are published for."""
        cfg = timm.get_pretrained_cfg(self.backbone)
        colours: dict[str, Any] = {"mean": tuple(cfg.mean), "std": tuple(cfg.std)} if cfg else {}
        return Resizing(shortest=self.shortest, longest=self.longest, **colours)
