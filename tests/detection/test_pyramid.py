"""The necks against plain torch.nn.functional, and the backbones they stand on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detection.pyramid import Pyramid, PyramidBackbone
from tests.model import golden
from utils import UserError

WIDTHS, SIZES = (6, 8, 10, 12), ((11, 9), (6, 5), (3, 3), (2, 2))


def filled(**kwargs):
    neck = golden.fill(Pyramid(WIDTHS, 16, **kwargs))
    stages = [torch.randn(2, width, *size, dtype=torch.float64) for width, size in zip(WIDTHS, SIZES, strict=True)]
    return neck, neck.state_dict(), stages


def plain_sums(state, stages):
    """The lateral convolutions, and each enlarged to the nearest pixel of the finer one and added to it."""
    sums = [F.conv2d(x, state[f"lateral_convs.{n}.conv.weight"], state[f"lateral_convs.{n}.conv.bias"])
            for n, x in enumerate(stages)]
    for n in (3, 2, 1):
        height, width = sums[n - 1].shape[2:]
        rows = torch.arange(height) * sums[n].shape[2] // height
        columns = torch.arange(width) * sums[n].shape[3] // width
        sums[n - 1] = sums[n - 1] + sums[n][:, :, rows][..., columns]
    return sums


def conv3(state, key, x, stride=1):
    return F.conv2d(x, state[f"{key}.conv.weight"], state[f"{key}.conv.bias"], stride, 1)


@torch.no_grad()
def test_semantic_neck():
    neck, state, stages = filled()
    expected = [conv3(state, f"fpn_convs.{n}", x) for n, x in enumerate(plain_sums(state, stages))]
    torch.testing.assert_close(neck(stages), expected)


@torch.no_grad()
def test_retinanet_neck_takes_its_fifth_level_from_the_last_stage():
    neck, state, stages = filled(coarser=1)
    expected = [conv3(state, f"fpn_convs.{n}", x) for n, x in enumerate(plain_sums(state, stages))]
    expected.append(conv3(state, "fpn_convs.4", stages[3], 2))
    assert state["fpn_convs.4.conv.weight"].shape == (16, WIDTHS[3], 3, 3)
    torch.testing.assert_close(neck(stages), expected)


@torch.no_grad()
def test_mask_rcnn_neck_makes_its_first_level_from_the_finest_sum():
    neck, state, stages = filled(finer=1)
    sums = plain_sums(state, stages)
    up = F.conv_transpose2d(sums[0], state["extra_trans_convs.0.conv.weight"], state["extra_trans_convs.0.conv.bias"],
                            stride=2)
    expected = [conv3(state, "extra_fpn_convs.0", up)]
    expected += [conv3(state, f"fpn_convs.{n}", x) for n, x in enumerate(sums)]
    torch.testing.assert_close(neck(stages), expected)


@torch.no_grad()
@pytest.mark.parametrize(("name", "finest", "coarsest", "strides"), [
    ("lsnet_t", 8, 128, [8, 16, 32, 64, 128]), ("lsnet_t", 4, 64, [4, 8, 16, 32, 64]),
    ("lsnet_t", 4, None, [8, 16, 32, 64]), ("test_resnet", 8, 128, [8, 16, 32, 64, 128]),
    ("test_resnet", 4, 64, [4, 8, 16, 32, 64]), ("test_resnet", 4, None, [4, 8, 16, 32])])
def test_levels_have_their_strides(name, finest, coarsest, strides):
    backbone = PyramidBackbone(name, 16, finest=finest, coarsest=coarsest).eval()
    assert backbone.strides == strides
    levels = backbone(torch.randn(1, 3, 160, 256))
    assert list(levels) == [str(number) for number in range(len(strides))]
    shapes = [(1, 16, -(-160 // stride), -(-256 // stride)) for stride in strides]
    assert [tuple(level.shape) for level in levels.values()] == shapes


@pytest.mark.parametrize(("name", "arguments", "message"), [
    ("vit_tiny_patch16_224", {}, "one size"), ("no_such_model", {}, "unknown model"),
    ("convmixer_768_32", {}, "strides of 7, 7, 7 px"), ("test_resnet", {"nothing": 1}, "test_resnet as a backbone")])
def test_other_backbones_are_refused(name, arguments, message):
    with pytest.raises(UserError, match=message):
        PyramidBackbone(name, 16, finest=8, coarsest=128, **arguments)


@torch.no_grad()
def test_a_folded_backbone_gives_the_same_levels():
    backbone = golden.fill(PyramidBackbone("lsnet_t", 16, finest=8, coarsest=128))
    images = torch.rand(1, 3, 96, 130, dtype=torch.float64)
    before, count = backbone(images), sum(each.numel() for each in backbone.parameters())
    backbone.fold()
    for key, level in backbone(images).items():
        torch.testing.assert_close(level, before[key])
    assert sum(each.numel() for each in backbone.parameters()) < count
