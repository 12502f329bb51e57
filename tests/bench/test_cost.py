"""Counts against counts by hand."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from bench.cost import count_costs, count_parameters
from model.convolutions import Convolution
from model.layers import LSConv

SIDES = 5, 4


class Network(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)


def test_one_ls_convolution_by_hand() -> None:
    layer = LSConv(16)  # 2 groups
    whole = count_costs(layer, torch.randn(16, *SIDES))[-1]
    pixels = SIDES[0] * SIDES[1]
    assert whole.multiply_adds == pixels * (16 * 8 + 49 * 8 + 8 * 8 + 8 * 18 + 9 * 16)
    assert whole.activations == pixels * (8 + 8 + 8 + 18 + 16)
    assert whole.parameters == count_parameters(layer)


def test_parts_and_whole_by_hand() -> None:
    network = Network(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 7)).train()
    first, last, whole = count_costs(network, torch.randn(3, 8, 8))
    assert (first.name, first.shape, first.parameters) == ("0", (4, 4, 4), 3 * 4 * 9 + 4)
    assert (first.multiply_adds, first.activations) == (4 * 16 * 27, 64)
    assert (last.name, last.shape, last.multiply_adds, last.activations) == ("3", (7,), 64 * 7, 7)
    assert (whole.name, whole.multiply_adds, whole.activations) == ("", 4 * 16 * 27 + 64 * 7, 71)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_convolution_of_onednn_costs_what_the_plain_one_costs() -> None:
    conv = nn.Conv2d(8, 8, 3, 2, 1, groups=8).requires_grad_(False)
    (plain,), (ours,) = (count_costs(layer, torch.randn(8, 9, 9)) for layer in (conv, Convolution(conv, relu=True)))
    assert (ours.multiply_adds, ours.activations) == (plain.multiply_adds, plain.activations)
    assert ours.multiply_adds > 0


def test_attention_is_counted_as_its_two_products() -> None:
    network = timm.create_model("test_vit")
    block = next(part for part in count_costs(network, torch.randn(3, 160, 160)) if part.name == "blocks.0")
    tokens, width, hidden = 101, network.embed_dim, network.blocks[0].mlp.fc1.out_features
    assert block.multiply_adds == tokens * width * (4 * width + 2 * tokens + 2 * hidden)


def test_the_figure_known_for_resnet18() -> None:
    *parts, whole = count_costs(timm.create_model("resnet18"), torch.randn(3, 224, 224))
    assert whole.multiply_adds == pytest.approx(1.814e9, rel=1e-3)
    assert [part.name for part in parts] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert sum(part.multiply_adds for part in parts) == whole.multiply_adds
