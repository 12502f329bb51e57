"""Counts against counts by hand, and the same whichever way SKA is computed."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from bench.cost import costs, parameters
from bench.workload import FORMULATIONS
from model.layers import LSConv

SIDES = 5, 4


class Network(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)


@torch.library.custom_op("lsnet::known_to_torch", mutates_args=())
def known_to_torch(x: Tensor, w: Tensor) -> Tensor:
    return x + w.sum()


@register_flop_formula(torch.ops.lsnet.known_to_torch)
def formula(x_shape, w_shape, **kwargs):
    return 10**9


@pytest.mark.parametrize("aggregate", [LSConv.aggregate, *FORMULATIONS.values(), known_to_torch])
def test_one_ls_convolution_by_hand(aggregate) -> None:
    layer = LSConv(16)  # 2 groups
    layer.aggregate = aggregate
    whole = costs(layer, torch.randn(16, *SIDES))[-1]
    pixels = SIDES[0] * SIDES[1]
    assert whole.multiply_adds == pixels * (16 * 8 + 49 * 8 + 8 * 8 + 8 * 18 + 9 * 16)
    assert whole.activations == pixels * (8 + 8 + 8 + 18 + 16)
    assert whole.parameters == parameters(layer)


def test_parts_and_whole_by_hand() -> None:
    network = Network(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 7)).train()
    first, last, whole = costs(network, torch.randn(3, 8, 8))
    assert (first.name, first.shape, first.parameters) == ("0", (4, 4, 4), 3 * 4 * 9 + 4)
    assert (first.multiply_adds, first.activations) == (4 * 16 * 27, 64)
    assert (last.name, last.shape, last.multiply_adds, last.activations) == ("3", (7,), 64 * 7, 7)
    assert (whole.name, whole.multiply_adds, whole.activations) == ("", 4 * 16 * 27 + 64 * 7, 71)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_attention_is_counted_as_its_two_products() -> None:
    network = timm.create_model("test_vit")
    block = next(part for part in costs(network, torch.randn(3, 160, 160)) if part.name == "blocks.0")
    tokens, width, hidden = 101, network.embed_dim, network.blocks[0].mlp.fc1.out_features
    assert block.multiply_adds == tokens * width * (4 * width + 2 * tokens + 2 * hidden)


def test_the_figure_known_for_resnet18() -> None:
    *parts, whole = costs(timm.create_model("resnet18"), torch.randn(3, 224, 224))
    assert whole.multiply_adds == pytest.approx(1.814e9, rel=1e-3)
    assert [part.name for part in parts] == ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4", "fc"]
    assert sum(part.multiply_adds for part in parts) == whole.multiply_adds
