"""From a batch of scenes to a loss in training, and to answers about the pictures on disk in evaluation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.scenes import IGNORED, Scene, Scenes
from detection.semantic_fpn import resize
from runtime.networks import DenseTask

MOST_LOGITS = 2**27  # numbers that are resized together


class DetectionLearner(nn.Module):
    """RetinaNet or Mask R-CNN on scenes; the losses are added."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, scenes: Scenes) -> Any:
        """Scenes -> in training the loss (); else for each its detections, boxes in px of the picture on disk."""
        images = [as_image(scene) for scene in scenes]
        if self.training:
            return torch.stack(list(self.network(images, [scene.target for scene in scenes]).values())).sum()
        return [_in_picture(found, scene) for found, scene in zip(self.network(images), scenes, strict=True)]


def _in_picture(found: dict[str, Tensor], scene: Scene) -> dict[str, Tensor]:
    (height, width), (own_height, own_width) = scene.size, scene.image.shape[1:]
    scale = found["boxes"].new_tensor([width / own_width, height / own_height]).repeat(2)
    return {**found, "boxes": found["boxes"] * scale}


class SegmentationLearner(nn.Module):
    """Semantic FPN on scenes; the loss is cross-entropy, over the pixels that are of a class."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, scenes: Scenes) -> Any:
        """Scenes -> in training, where they have one size, the loss (); else for each the classes (H, W) on disk."""
        if not self.training:
            return [name_pixels(self.network(as_image(scene)[None]), scene.size) for scene in scenes]
        logits = self.network(torch.stack([as_image(scene) for scene in scenes]))
        pixels = torch.stack([scene.target["pixels"] for scene in scenes]).long()
        loss = F.cross_entropy(logits, pixels, ignore_index=IGNORED, reduction="sum")
        return loss / (pixels != IGNORED).sum().clamp(min=1)


def name_pixels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits (1, K, H, W) of a picture, resized to height and width -> the class of each pixel, (height, width).

    A few classes at a time: all of a large picture would fill the memory.
    """
    best, named = None, torch.empty(0)
    together = max(1, MOST_LOGITS // (size[0] * size[1]))
    for start in range(0, logits.shape[1], together):
        values, numbers = resize(logits[:, start : start + together], size)[0].max(0)
        if best is None:
            best, named = values, numbers
            continue
        better = values > best
        best, named = torch.where(better, values, best), torch.where(better, numbers + start, named)
    return named


def as_image(scene: Scene) -> Tensor:
    """The picture as networks take it: (3, H, W) float32 in [0, 1]."""
    return scene.image.float() / 255


def wrap(network: nn.Module, task: DenseTask) -> nn.Module:
    """The learner of a network of this task."""
    return SegmentationLearner(network) if task == "semantic" else DetectionLearner(network)
