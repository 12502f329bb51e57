"""Anchors, matching and pooling against loops and small cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou, roi_align

from detection.boxes import Anchors, IouMatcher, LevelRoIAlign
from detection.detectors import OCTAVE, RPN_SCALE


@pytest.mark.parametrize(("strides", "scales", "base"), [((8, 16, 32, 64, 128), OCTAVE, 4), ((4, 8), RPN_SCALE, 8)])
def test_anchors_are_exact_and_start_at_zero(strides, scales, base):
    sizes = [(3, 2)] * len(strides)
    levels = [torch.zeros(2, 1, *size, dtype=torch.bfloat16) for size in sizes]
    images = ImageList(torch.zeros(2, 3, 20, 20), [(20, 20), (18, 12)])
    expected = []
    for stride, (height, width) in zip(strides, sizes, strict=True):
        for row in range(height):
            for column in range(width):
                for ratio in (0.5, 1.0, 2.0):
                    for octave in range(len(scales)):
                        side = base * stride * 2 ** (octave / 3)
                        w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
                        x, y = column * stride, row * stride
                        expected.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    found = Anchors(strides, scales)(images, levels)
    assert len(found) == 2
    assert found[0].dtype == torch.float32
    torch.testing.assert_close(found[1], torch.tensor(expected))


def plain_match(iou, positive, negative, least):
    """The rule in loops: the best box of each anchor, then the best anchors of each box."""
    matches = []
    for column in iou.T.tolist():
        best = max(column)
        matches.append(column.index(best) if best >= positive else -1 if best < negative else -2)
    for number, row in enumerate(iou.tolist()):
        if max(row) >= least:
            matches = [number if value == max(row) else match for value, match in zip(row, matches, strict=True)]
    return matches


@pytest.mark.parametrize(("positive", "negative", "least"), [(0.5, 0.4, 0.0), (0.7, 0.3, 0.3), (0.5, 0.5, 0.5)])
def test_matching_equals_loops(positive, negative, least):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        corner = torch.rand(60, 2, generator=generator) * 40
        boxes = torch.cat([corner, corner + 4 + torch.rand(60, 2, generator=generator) * 30], 1)
        iou = box_iou(boxes[:5], boxes[5:])
        assert IouMatcher(positive, negative, least)(iou).tolist() == plain_match(iou, positive, negative, least)


def test_a_box_below_the_least_overlap_gets_no_anchor_and_one_without_overlap_never():
    iou = torch.tensor([[0.2, 0.1, 0.0], [0.0, 0.35, 0.1]])
    assert IouMatcher(0.7, 0.3, 0.3)(iou).tolist() == [-1, 1, -1]
    assert IouMatcher(0.5, 0.4, 0.0)(iou).tolist() == [0, 1, -1]
    assert IouMatcher(0.5, 0.4, 0.0)(torch.zeros(1, 3)).tolist() == [-1, -1, -1]


def test_boxes_are_pooled_from_the_level_of_their_size():
    strides, sides = (4, 8, 16, 32), [10, 55.9, 56, 111.9, 112, 223.9, 224, 447.9, 448, 5000]
    levels = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3]
    features = {str(n): torch.randn(2, 3, 512 // stride, 512 // stride) for n, stride in enumerate((*strides, 64))}
    boxes = [torch.tensor([[3.3, 5.1, 3.3 + side, 5.1 + side] for side in sides]),
             torch.tensor([[9.0, 8.0, 30.5, 50.2]])]
    pooled = LevelRoIAlign(7, strides)(features, boxes)
    for number, (box, level) in enumerate(zip([*boxes[0], boxes[1][0]], [*levels, 0], strict=True)):
        picture = float(number >= len(sides))
        expected = roi_align(features[str(level)], torch.tensor([[picture, *box.tolist()]]), 7, 1 / strides[level], 0,
                             aligned=True)
        torch.testing.assert_close(pooled[number : number + 1], expected)


def test_pooling_keeps_half_pixels_under_autocast_and_takes_no_boxes():
    features = {"0": torch.randn(1, 2, 64, 64)}
    box = [torch.tensor([[100.3, 201.7, 130.9, 222.2]])]
    exact = LevelRoIAlign(7, (4,))(features, box)
    rounded = {"0": features["0"].bfloat16()}
    torch.testing.assert_close(LevelRoIAlign(7, (4,))(rounded, box), exact, atol=0.02, rtol=0.02)
    assert LevelRoIAlign(7, (4,))(features, [torch.zeros(0, 4)]).shape == (0, 2, 7, 7)
