"""Semantic FPN: a class for each pixel, as LSNet's published networks for ADE20K have it.

Letters: B batch, C channels, H W height and width in px, K classes.

Keys of published checkpoints, which must keep their names: `scale_heads`, `conv`, `bn`, `conv_seg`.

**Source:** Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, arXiv 1901.02446.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import transforms

from detection.pyramid import Colours, OnPyramid, PyramidBackbone
from detection.scenes import PADDING


class SemanticHead(nn.Module):
    """All levels brought to the first one's size and added, then a class for each pixel.

    Args:
        channels: of the levels.
        levels: their number.
        num_classes: K.
        width: channels of the sum.
    """

    def __init__(self, channels: int, levels: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.scale_heads = nn.ModuleList()
        for level in range(levels):
            layers: list[nn.Module] = []
            for number in range(max(1, level)):
                layers.append(_conv_norm_relu(width if number else channels, width))
                if level:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            self.scale_heads.append(nn.Sequential(*layers))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(width, num_classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=0.01)
        nn.init.zeros_(self.conv_seg.get_parameter("bias"))

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Levels (B, C, H, W), finest first -> logits (B, K, H, W) of the first one's size."""
        sums = [head(level) for head, level in zip(self.scale_heads, levels, strict=True)]
        size = sums[0].shape[2:]
        return self.conv_seg(self.dropout(sum(resize(each, size) for each in sums)))


def _conv_norm_relu(before: int, width: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(before, width, 3, padding=1, bias=False), bn=nn.BatchNorm2d(width), relu=nn.ReLU(inplace=True))
    return nn.Sequential(layers)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, H, W) of another height and width, bilinear between the centres of pixels."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)


class SemanticFPN(OnPyramid, nn.Module):
    """A backbone with its pyramid, and a `SemanticHead` of half the pyramid's width.

    Args:
        backbone: from pictures to levels.
        num_classes: K.
        colours: what the backbone's pictures are normalised by.
        crop: side of the squares of training, px. In evaluation, shorter sides are padded to it, as in training: the
            attention of the last stage depends on the size of its map, most where the map is small.
    """

    def __init__(self, backbone: PyramidBackbone, num_classes: int, colours: Colours, crop: int = 1) -> None:
        super().__init__()
        self.crop = crop
        self.backbone, self._normalise = backbone, transforms.Normalize(colours.mean, colours.std)
        self.head = SemanticHead(backbone.out_channels, len(backbone.strides), num_classes, backbone.out_channels // 2)

    def forward(self, images: Tensor) -> Tensor:
        """RGB pictures (B, 3, H, W) in [0, 1] -> logits (B, K, H, W) of their size."""
        height, width = images.shape[2:]
        if not self.training:
            images = pad(images, self.crop)
        levels = list(self.backbone(self._normalise(images)).values())
        return resize(self.head(levels).float(), images.shape[2:])[..., :height, :width]


def pad(images: Tensor, side: int) -> Tensor:
    """Pictures (B, 3, H, W) in [0, 1], padded right and below where they are smaller than `side` px."""
    height, width = images.shape[2:]
    if height >= side and width >= side:
        return images
    colour = (images.new_tensor(PADDING) / 255).view(3, 1, 1)
    padded = colour.repeat(len(images), 1, max(height, side), max(width, side))
    padded[..., :height, :width] = images
    return padded
