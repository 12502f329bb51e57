"""What learns in an epoch: all of the network, or its classifier alone."""

from __future__ import annotations

import pytest
import timm
import torch

import model  # noqa: F401  (registers the presets)
from training.optim import set_training_mode

NETWORKS = [("lsnet_t_artist", {"embed_dim": (16, 16, 24, 32), "depth": (0, 1, 1, 1), "num_heads": 2, "img_size": 64,
                                "feature_dim": 20, "distillation": True, "drop_path_rate": 0.2}),
            ("repvit_m0_9", {}), ("convnext_atto", {}), ("mobilenetv4_conv_small", {})]


@pytest.mark.parametrize(("name", "arguments"), NETWORKS)
def test_a_frozen_backbone_stays_as_it_is(name: str, arguments: dict) -> None:
    network = timm.create_model(name, num_classes=3, **arguments)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    set_training_mode(network, frozen=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    outputs = network(torch.randn(4, 3, 64, 64))
    sum(output.square().sum() for output in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    optimizer.step()
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    heads = network.pretrained_cfg["classifier"]
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    weights = {key for key in moved if key.endswith(("weight", "bias"))}
    assert {f"{head}.weight" for head in heads} <= weights
    # The classifier's own norm may follow its inputs; nothing before it does.
    assert {key.partition(".")[0] for key in moved} <= {head.partition(".")[0] for head in heads}

    set_training_mode(network, frozen=False)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())
