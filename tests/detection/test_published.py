"""Published files load completely, or are refused key by key."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from detection.architecture import dense_network
from detection.published import load_published, published_classes
from runtime.checkpoint import read_checkpoint
from tests.detection.published_keys import BACKBONES, CLASSES, TABLES, seeded
from utils import UserError

CASES = [(task, name) for task in TABLES for name in BACKBONES]


def build(task: str, name: str) -> torch.nn.Module:
    return dense_network(dense_task=task, backbone=name, num_classes=CLASSES[task])


@pytest.fixture(scope="module")
def retina():
    state = seeded(TABLES["boxes"]("lsnet_t"))
    network = build("boxes", "lsnet_t").eval()
    load_published(network, "boxes", state, "file.pth")
    return network, state


@pytest.mark.parametrize(("task", "name"), CASES)
def test_every_published_layout_loads_completely(task, name):
    shapes = TABLES[task](name)
    with torch.device("meta"):
        network = build(task, name)
    network = network.to_empty(device="cpu")  # whatever is not loaded stays as it lay in memory
    state = seeded(shapes)
    load_published(network, task, state, "file.pth")
    own = network.state_dict()
    added = {"roi_heads.box_predictor.bbox_pred": 4, "roi_heads.mask_predictor.mask_fcn_logits": 1}
    rows = sum(rows * own[f"{key}.{leaf}"][0].numel() for key, rows in added.items() for leaf in ("weight", "bias")
               if f"{key}.{leaf}" in own)
    assert len(own) == len(state)
    assert sum(value.numel() for value in own.values()) == sum(value.numel() for value in state.values()) + rows
    # The sum of squares tells that every number went somewhere, once: published shapes repeat, so counts would not.
    total, expected = (sum(value.double().square().sum() for value in each.values()) for each in (own, state))
    torch.testing.assert_close(total, expected)


@torch.no_grad()
def test_a_loaded_retinanet_answers_with_the_published_weights(retina):
    network, state = retina
    network.float()
    levels = [torch.randn(1, 256, 3, 4), torch.randn(1, 256, 2, 2)]
    answers = network.head(levels)
    for branch, last, key, width in (("cls_convs", "retina_cls", "cls_logits", 80),
                                     ("reg_convs", "retina_reg", "bbox_regression", 4)):
        expected = []
        for x in levels:
            for number in range(4):
                prefix = f"bbox_head.{branch}.{number}.conv"
                x = F.relu(F.conv2d(x, state[f"{prefix}.weight"], state[f"{prefix}.bias"], padding=1))
            x = F.conv2d(x, state[f"bbox_head.{last}.weight"], state[f"bbox_head.{last}.bias"], padding=1)
            expected.append(x.permute(0, 2, 3, 1).reshape(1, -1, width))
        torch.testing.assert_close(answers[key], torch.cat(expected, 1), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_loaded_mask_rcnn_puts_the_background_first():
    state = seeded(TABLES["instances"]("lsnet_t"))
    network = build("instances", "lsnet_t").eval()
    load_published(network, "instances", state, "file.pth")
    pooled, heads, prefix = torch.randn(3, 256, 7, 7), network.roi_heads, "roi_head.bbox_head"
    hidden = pooled.flatten(1)
    for number in range(2):
        hidden = F.relu(F.linear(hidden, state[f"{prefix}.shared_fcs.{number}.weight"],
                                 state[f"{prefix}.shared_fcs.{number}.bias"]))
    published = F.linear(hidden, state[f"{prefix}.fc_cls.weight"], state[f"{prefix}.fc_cls.bias"])
    deltas = F.linear(hidden, state[f"{prefix}.fc_reg.weight"], state[f"{prefix}.fc_reg.bias"])
    logits, found = heads.box_predictor(heads.box_head(pooled))
    torch.testing.assert_close(logits[:, 1:], published[:, :80], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits[:, 0], published[:, 80], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[:, 4:], deltas, rtol=1e-4, atol=1e-5)
    x = masks = torch.randn(2, 256, 14, 14)
    prefix = "roi_head.mask_head"
    for number in range(4):
        x = F.relu(F.conv2d(x, state[f"{prefix}.convs.{number}.conv.weight"],
                            state[f"{prefix}.convs.{number}.conv.bias"], padding=1))
    x = F.relu(F.conv_transpose2d(x, state[f"{prefix}.upsample.weight"], state[f"{prefix}.upsample.bias"], 2))
    x = F.conv2d(x, state[f"{prefix}.conv_logits.weight"], state[f"{prefix}.conv_logits.bias"])
    torch.testing.assert_close(heads.mask_predictor(heads.mask_head(masks))[:, 1:], x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("change", "message"), [
    (lambda state: state.pop("bbox_head.retina_reg.bias"), "lacks bbox_head.retina_reg.bias"),
    (lambda state: state.update({"bbox_head.scales.0": torch.ones(1)}), "has the unknown bbox_head.scales.0"),
    (lambda state: state.update({"neck.fpn_convs.4.conv.weight": torch.ones(256, 256, 3, 3)}),
     r"neck.fpn_convs.4.conv.weight of shape \(256, 256, 3, 3\)"),
    (lambda state: state.update({"neck.fpn_convs.0.conv.bias": torch.full((256,), torch.nan)}),
     "numbers in neck.fpn_convs.0.conv.bias that are not finite"),
    (lambda state: state.update({"backbone.blocks4.3.mixer.m.attention_biases": torch.zeros(4, 16)}),
     r"attention_biases of shape \(4, 16\)"),
])
def test_a_file_that_differs_in_a_key_is_refused_and_the_network_stays(retina, change, message):
    network, state = retina
    before, changed = {key: value.clone() for key, value in network.state_dict().items()}, dict(state)
    change(changed)
    with pytest.raises(UserError, match=message):
        load_published(network, "boxes", changed, "file.pth")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_file_of_another_task_is_refused_with_its_keys(retina):
    network, _ = retina
    with pytest.raises(UserError, match=r"file.pth, which lacks .* and \d+ more; expected every key .* for boxes"):
        load_published(network, "boxes", seeded(TABLES["semantic"]("lsnet_t")), "file.pth")


def test_a_file_is_read_without_running_code_and_names_its_classes(retina, tmp_path):
    network, state = retina
    torch.save({"state_dict": state, "meta": {"CLASSES": ("person", "car"), "mmdet_version": "2.28.2"}},
               tmp_path / "epoch_12.pth")
    checkpoint = read_checkpoint(tmp_path / "epoch_12.pth")
    load_published(network, "boxes", checkpoint.model, checkpoint.path)
    assert published_classes(checkpoint.content) == ["person", "car"]


@pytest.mark.parametrize(("content", "classes"), [
    ({"meta": {"CLASSES": ("person", "car")}}, ["person", "car"]), ({"meta": {"CLASSES": []}}, None),
    ({"meta": {"CLASSES": [1]}}, None), ({"meta": "x"}, None), ({}, None)])
def test_classes_of_a_published_file(content, classes):
    assert published_classes(content) == classes
