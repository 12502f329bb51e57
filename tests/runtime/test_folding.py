"""Folded networks answer the same, with fewer layers; the original stays as it is."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from model.lsnet import LSNet
from runtime.folding import fold
from utils import UserError

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def with_history(network: nn.Module) -> nn.Module:
    """Norms as after some training: nothing is 0 or 1."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value, 0.5, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@torch.no_grad()
@pytest.mark.parametrize(("name", "left"), [("test_resnet", 0), ("test_efficientnet", 0), ("repvit_m0_9", 0),
                                            ("shvit_s1", 0), ("test_convnext", 0)])
def test_outputs_are_the_same(name: str, left: int) -> None:
    network = with_history(timm.create_model(name, num_classes=5)).train()
    before = copy.deepcopy(network.state_dict())
    fewer = fold(network, IMAGES)
    assert norms(fewer) == left
    assert network.training
    assert not fewer.training
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    torch.testing.assert_close(fewer(IMAGES), network.eval()(IMAGES), rtol=1e-3, atol=1e-4)


def test_lsnet_folds_itself() -> None:
    network = LSNet(embed_dim=(16, 16, 24, 32), depth=(1, 2, 0, 2), num_heads=2, img_size=64).eval()
    assert fold(network, IMAGES).state_dict().keys() == network.for_inference().state_dict().keys()


class TwoReaders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


def test_a_convolution_with_two_readers_is_refused() -> None:
    with pytest.raises(UserError, match=r"TwoReaders, whose batch norms do not fold.*--no-fuse"):
        fold(with_history(TwoReaders()), IMAGES)
