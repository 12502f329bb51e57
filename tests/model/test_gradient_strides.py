"""Gradients have the strides of their weights: DistributedDataParallel warns where they differ."""

from __future__ import annotations

import copy

import pytest
import torch

from model.convolutions import DepthwisePointwise, Pointwise


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("layer", [Pointwise(6, 4, 1), DepthwisePointwise(6, 6, 1, groups=6, bias=False)])
def test_a_pointwise_gradient_is_laid_out_as_its_weight(
        layer: Pointwise | DepthwisePointwise, memory_format: torch.memory_format, size: int) -> None:
    layer = copy.deepcopy(layer).to(memory_format=memory_format)
    image = torch.randn(3, 6, size, size).to(memory_format=memory_format)
    layer(image).square().sum().backward()
    assert layer.weight.grad.stride() == layer.weight.stride()
