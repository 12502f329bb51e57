"""Detectors against losses written out, and what they answer for pictures of any sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou, sigmoid_focal_loss

from detection.architecture import dense_network
from detection.detectors import wanted_mask, whole_masks
from tests.model import golden

SIZES = ((96, 64), (40, 70))


def build(task, **kwargs):
    torch.manual_seed(0)
    return dense_network(dense_task=task, backbone="test_resnet", num_classes=3, channels=16, rois=16,
                             **kwargs)


def samples():
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, *size, generator=generator) for size in SIZES]
    masks = torch.zeros(2, *SIZES[0])
    masks[0, 10:60, 8:40], masks[1, 50:90, 30:60] = 1, 1
    targets = [{"boxes": torch.tensor([[8.0, 10, 40, 60], [30, 50, 60, 90]]), "labels": torch.tensor([0, 2]),
                "masks": masks},
               {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64),
                "masks": torch.zeros(0, *SIZES[1])}]
    return images, targets


def encode(boxes, anchors):
    """The published deltas: centres in sides of the anchor, logarithms of sides."""
    sides, own = boxes[:, 2:] - boxes[:, :2], anchors[:, 2:] - anchors[:, :2]
    return torch.cat([((boxes[:, :2] + sides / 2) - (anchors[:, :2] + own / 2)) / own, (sides / own).log()], 1)


@torch.no_grad()
def test_retinanet_loss_is_focal_and_l1_of_the_matched_anchors():
    network = build("boxes").train()
    images, targets = samples()
    losses = network(images[:1], targets[:1])
    batch, wanted = network.transform(images[:1], targets[:1])
    levels = list(network.backbone(batch.tensors).values())
    answers, anchors = network.head(levels), network.anchor_generator(batch, levels)[0]
    overlap, match = box_iou(wanted[0]["boxes"], anchors).max(0)
    positive = overlap >= 0.5
    for box in box_iou(wanted[0]["boxes"], anchors):
        positive |= box == box.max()
    one_hot = torch.zeros(len(anchors), 3)
    one_hot[positive, wanted[0]["labels"][match[positive]]] = 1
    counts = positive | (overlap < 0.4)
    focal = sigmoid_focal_loss(answers["cls_logits"][0][counts], one_hot[counts], 0.25, 2, "sum") / positive.sum()
    deltas = encode(wanted[0]["boxes"][match[positive]], anchors[positive])
    l1 = (answers["bbox_regression"][0][positive] - deltas).abs().sum() / positive.sum()
    torch.testing.assert_close(losses["classification"], focal)
    torch.testing.assert_close(losses["bbox_regression"], l1)


@torch.no_grad()
def test_rpn_loss_is_binary_cross_entropy_and_l1():
    rpn = build("instances").rpn
    torch.manual_seed(0)
    objectness, deltas, wanted = torch.randn(10, 1), torch.randn(10, 4), torch.randn(10, 4)
    labels = torch.tensor([1.0, 0, -1, 1, 0, 0, -1, 0, 0, 0])  # fewer than are sampled, so all are
    counted, positive = labels >= 0, labels == 1
    found = rpn.compute_loss(objectness, deltas, [labels], [wanted])
    torch.testing.assert_close(found[0], F.binary_cross_entropy_with_logits(objectness[counted, 0], labels[counted]))
    torch.testing.assert_close(found[1], (deltas - wanted)[positive].abs().sum() / 8)


@torch.no_grad()
def test_roi_losses_are_cross_entropy_l1_and_binary_masks():
    network = build("instances").train()
    heads, target = network.roi_heads, samples()[1][0]
    target = {**target, "labels": target["labels"] + 1}
    features = {str(n): torch.randn(1, 16, 96 // stride, 64 // stride) for n, stride in enumerate((4, 8, 16, 32, 64))}
    # Two overlap the first box by at least a half, one none; with the ground truth five rows, all of which are sampled.
    proposals = torch.tensor([[8.0, 12, 40, 60], [6, 10, 40, 50], [0, 70, 20, 90]])
    losses = heads(features, [proposals], [(96, 64)], [target])[1]
    rows = torch.cat([proposals, target["boxes"]])
    match, labels = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([1, 1, 0, 1, 3])
    logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [rows])))
    positive = labels > 0
    wanted = encode(target["boxes"][match], rows) / torch.tensor([0.1, 0.1, 0.2, 0.2])
    chosen = deltas.reshape(5, 4, 4)[torch.arange(5), labels]
    torch.testing.assert_close(losses["loss_classifier"], F.cross_entropy(logits, labels))
    torch.testing.assert_close(losses["loss_box_reg"], (chosen - wanted)[positive].abs().sum() / 5)
    masks = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, [rows[positive]])))
    masks = masks[torch.arange(4), labels[positive]]
    wanted = wanted_mask(target["masks"], rows[positive], match[positive], 28)
    torch.testing.assert_close(losses["loss_mask"], F.binary_cross_entropy_with_logits(masks, wanted))


def test_the_wanted_mask_is_what_the_box_sees_of_the_right_object():
    masks = samples()[1][0]["masks"]
    found = wanted_mask(masks, torch.tensor([[8.0, 10, 40, 60], [30, 50, 90, 90]]), torch.tensor([0, 1]), 4)
    assert found[0].eq(1).all()
    assert found[1].tolist() == [[1, 1, 0, 0]] * 4


@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_every_parameter_of_a_detector_learns(task):
    network = build(task).train()
    images, targets = samples()
    losses = network(images, targets)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert [name for name, each in network.named_parameters() if each.grad is None] == []
    assert targets[0]["labels"].tolist() == [0, 2]


@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_pictures_without_objects_train(task):
    network = build(task).train()
    images, targets = samples()
    sum(network(images[1:], targets[1:]).values()).backward()


@torch.no_grad()
@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_detections_lie_in_their_pictures(task):
    network = build(task).eval()
    if task == "boxes":
        torch.nn.init.constant_(network.head.classification_head.cls_logits.bias, 0.0)  # else no score reaches 0.05
    images, _ = samples()
    for found, (height, width) in zip(network(images), SIZES, strict=True):
        assert 0 < len(found["boxes"]) <= 100
        assert found["boxes"].min() >= 0
        assert found["boxes"][:, 2].max() <= width
        assert found["boxes"][:, 3].max() <= height
        assert set(found["labels"].tolist()) <= {0, 1, 2}
        assert (found["scores"] >= 0.05).all()
        assert (found["scores"].diff() <= 0).all()
        if task == "instances":
            masks = list(whole_masks(found, (height, width)))
            assert len(masks) == len(found["boxes"])
            assert masks[0].shape == (height, width)
            assert masks[0].dtype == torch.bool


@torch.no_grad()
@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_a_picture_is_answered_the_same_beside_others_of_its_size(task):
    network = golden.fill(build(task)).float()
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(n)) for n in range(2)]
    alone, together = network(images[:1])[0], network(images)[0]
    torch.testing.assert_close(alone["boxes"], together["boxes"], rtol=1e-3, atol=1e-2)
    assert torch.equal(alone["labels"], together["labels"])


def test_boxes_stay_exact_under_autocast():
    network = build("instances").train()
    images, targets = samples()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network(images, targets)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


@pytest.mark.parametrize(("task", "side"), [("boxes", 32), ("instances", 32)])
def test_anchors_have_the_published_size_times_the_scale(task, side):
    for scale in (1.0, 0.5):
        network = build(task, anchor_scale=scale)
        generator = network.anchor_generator if task == "boxes" else network.rpn.anchor_generator
        cells = torch.cat(generator.cell_anchors)
        areas = (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])
        assert areas.min().sqrt().item() == pytest.approx(scale * side)
        assert areas.max().sqrt().item() >= scale * 500
