"""RetinaNet and Mask R-CNN on any pyramid, as LSNet's published detectors have them.

Both are torchvision's; what the published ones compute otherwise is replaced here and in `detection.boxes`. They take a
list of RGB pictures (3, H, W) in [0, 1] of any sizes, which they pad, and count classes from 0, without the background.

Letters: B batch, C channels, H W height and width in px, M detections in a picture, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, paste_masks_in_image
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import roi_align

from detection.boxes import RATIOS, Anchors, IouMatcher, LevelRoIAlign
from detection.pyramid import Colours, OnPyramid, PyramidBackbone

OCTAVE = tuple(4 * 2 ** (third / 3) for third in range(3))  # RetinaNet's squares, in strides
RPN_SCALE = (8.0,)
MASK_THRESHOLD = 0.5
USUAL_WIDTH = 256  # channels, for which torchvision's first weights of RetinaNet's head are chosen
Target = Mapping[str, Tensor]


class Padding(GeneralizedRCNNTransform):
    """torchvision's normalisation and padding with the mean colour, without its resizing.

    Masks of detections stay as the head answers them, too: whole ones can fill the memory.
    """

    def __init__(self, colours: Colours) -> None:
        super().__init__(0, 0, list(colours.mean), list(colours.std))

    def resize(self, image: Tensor, target: Any = None) -> Any:
        """Both as they are: data sets bring pictures to their size, and boxes and masks with them."""
        return image, target

    def postprocess(self, result: list[dict[str, Tensor]], image_shapes: Any, original_image_sizes: Any) -> Any:
        """The detections as they are; masks (M, 1, side, side) of the boxes."""
        return result


def whole_masks(found: Target, size: tuple[int, int]) -> Iterator[Tensor]:
    """For each detection of one picture its pixels in a picture of this height and width, (H, W) bool."""
    for mask, box in zip(found["masks"], found["boxes"], strict=True):
        yield paste_masks_in_image(mask[None], box[None], size)[0, 0] >= MASK_THRESHOLD


# ---- RetinaNet -------------------------------------------------------------------------------------------------------


class FloatRetinaNetHead(RetinaNetHead):
    """torchvision's head, whose answers are float32 under autocast, too: boxes need it.

    Weights begin so that a narrow head passes on as much as one of `USUAL_WIDTH` channels: through four layers of 64
    channels little more than nothing would come.
    """

    def __init__(self, channels: int, num_anchors: int, num_classes: int) -> None:
        super().__init__(channels, num_anchors, num_classes)
        with torch.no_grad():
            for layer in self.modules():
                if isinstance(layer, torch.nn.Conv2d):
                    layer.weight *= (USUAL_WIDTH / channels) ** 0.5

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Levels -> logits (B, N, K) and box deltas (B, N, 4)."""
        return {name: answer.float() for name, answer in super().forward(x).items()}


class Retina(OnPyramid, RetinaNet):
    """A RetinaNet; in training it returns its losses, else for each picture `boxes`, `scores` and `labels`.

    `anchor_scale` is the size of anchors as a multiple of the published ones'.
    """

    def __init__(self, backbone: PyramidBackbone, num_classes: int, colours: Colours, *,
                 anchor_scale: float = 1.0) -> None:
        anchors = Anchors(backbone.strides, [anchor_scale * scale for scale in OCTAVE])
        head = FloatRetinaNetHead(backbone.out_channels, len(RATIOS) * len(OCTAVE), num_classes)
        super().__init__(backbone, num_classes, anchor_generator=anchors, head=head,
                         proposal_matcher=IouMatcher(0.5, 0.4, 0.0), detections_per_img=100)
        self.transform = Padding(colours)


# ---- Mask R-CNN ------------------------------------------------------------------------------------------------------


class FloatRPNHead(RPNHead):
    """torchvision's head, whose answers are float32 under autocast, too."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Levels -> objectness (B, anchors, H, W) and box deltas (B, 4 anchors, H, W) of each."""
        objectness, deltas = super().forward(x)
        return [each.float() for each in objectness], [each.float() for each in deltas]


class Proposals(RegionProposalNetwork):
    """torchvision's region proposals, with L1 for the box deltas."""

    def compute_loss(self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor],
                     regression_targets: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy of the sampled anchors, and L1 of the positive ones over their number."""
        positive, negative = (torch.cat(each).nonzero()[:, 0] for each in self.fg_bg_sampler(labels))
        sampled = torch.cat([positive, negative])
        box_loss = F.l1_loss(pred_bbox_deltas[positive], torch.cat(regression_targets)[positive], reduction="sum")
        return (F.binary_cross_entropy_with_logits(objectness.flatten()[sampled], torch.cat(labels)[sampled]),
                box_loss / sampled.numel())


class InstanceHeads(RoIHeads):
    """torchvision's heads for boxes and masks, with L1 for the box deltas, and masks pooled at half-pixel alignment."""

    def forward(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: list[tuple[int, int]],
                targets: Any = None) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Levels, boxes and picture sizes -> detections and, in training, losses; label 0 is the background."""
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets)
        logits, deltas = self._answer(features, proposals, image_shapes)
        found = self.postprocess_detections(logits, deltas, proposals, image_shapes)
        boxes, _, labels = found
        masks = maskrcnn_inference(self._mask_logits(features, boxes, image_shapes), labels)
        return [dict(zip(("boxes", "scores", "labels", "masks"), picture, strict=True))
                for picture in zip(*found, masks, strict=True)], {}

    def _answer(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: Any) -> tuple[Tensor, Tensor]:
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        return logits.float(), deltas.float()

    def _mask_logits(self, features: dict[str, Tensor], boxes: list[Tensor], image_shapes: Any) -> Tensor:
        pool, head, predictor = self._masks
        return predictor(head(pool(features, boxes, image_shapes))).float()

    @property
    def _masks(self) -> Any:
        return self.mask_roi_pool, self.mask_head, self.mask_predictor

    def _losses(self, features: dict[str, Tensor], proposals: list[Tensor], image_shapes: Any,
                targets: Any) -> dict[str, Tensor]:
        proposals, matches, labels, wanted = self.select_training_samples(proposals, targets)
        logits, deltas = self._answer(features, proposals, image_shapes)
        every_label = torch.cat(labels)
        positive = (every_label > 0).nonzero()[:, 0]
        chosen = deltas.unflatten(1, (-1, 4))[positive, every_label[positive]]
        kept = [each > 0 for each in labels]
        boxes = [each[keep] for each, keep in zip(proposals, kept, strict=True)]
        masks = self._mask_logits(features, boxes, image_shapes)
        masks = masks[torch.arange(len(masks), device=masks.device), every_label[positive]]
        wanted_masks = torch.cat([wanted_mask(target["masks"], each, match[keep], masks.shape[-1]) for
                                  target, each, match, keep in zip(targets, boxes, matches, kept, strict=True)])
        return {"loss_classifier": F.cross_entropy(logits, every_label),
                "loss_box_reg": F.l1_loss(chosen, torch.cat(list(wanted))[positive], reduction="sum") / len(logits),
                "loss_mask": F.binary_cross_entropy_with_logits(masks, wanted_masks) if len(masks) else masks.sum()}


def wanted_mask(masks: Tensor, boxes: Tensor, numbers: Tensor, side: int) -> Tensor:
    """What the mask head is to answer, 0 or 1, in boxes on masks of these numbers: (M, H, W) -> (boxes, side, side)."""
    rows = torch.cat([numbers[:, None].to(boxes), boxes], 1)
    return (roi_align(masks[:, None].to(boxes), rows, side, 1.0, 0, aligned=True)[:, 0] >= MASK_THRESHOLD).to(boxes)


class MaskRCNN(OnPyramid, GeneralizedRCNN):
    """Mask R-CNN; in training it returns its losses, else for each picture `boxes`, `scores`, `labels` and `masks`.

    Masks are probabilities in the boxes, (M, 1, side, side); see `whole_masks`. `rois` boxes of each picture train the
    heads; `anchor_scale` is the size of anchors as a multiple of the published ones'.
    """

    def __init__(self, backbone: PyramidBackbone, num_classes: int, colours: Colours, *, rois: int = 512,
                 anchor_scale: float = 1.0) -> None:
        channels, strides = backbone.out_channels, backbone.strides
        matching, kept = IouMatcher(0.7, 0.3, 0.3), {"training": 1000, "testing": 1000}
        anchors = Anchors(strides, [anchor_scale * scale for scale in RPN_SCALE])
        rpn = Proposals(anchors, FloatRPNHead(channels, len(RATIOS)), 0.7, 0.3, 256, 0.5,
                        {"training": 2000, "testing": 1000}, kept, 0.7)
        rpn.proposal_matcher = matching
        hidden, outputs, pooled = 4 * channels, num_classes + 1, strides[:4]
        heads = InstanceHeads(
            LevelRoIAlign(7, pooled), TwoMLPHead(channels * 49, hidden), FastRCNNPredictor(hidden, outputs), 0.5, 0.5,
            rois, 0.25, None, 0.05, 0.5, 100, mask_roi_pool=LevelRoIAlign(14, pooled),
            mask_head=MaskRCNNHeads(channels, [channels] * 4, 1),
            mask_predictor=MaskRCNNPredictor(channels, channels, outputs))
        heads.proposal_matcher = IouMatcher(0.5, 0.5, 0.5)
        super().__init__(backbone, rpn, heads, Padding(colours))

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Pictures, and in training for each the `boxes`, `labels` and `masks` (M, H, W) -> losses or detections."""
        if targets is not None:
            targets = [{**target, "labels": target["labels"] + 1} for target in targets]
        answer: Any = super().forward(list(images), targets)  # type: ignore[arg-type]  # mappings are copied first
        if self.training:
            return answer
        return [{**found, "labels": found["labels"] - 1} for found in answer]
