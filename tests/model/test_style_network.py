"""Style features are what their formula says, for every kind of network; a StyleNetwork is a timm model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from model.style_network import statistics, style_and_maps, style_stages
from utils import UserError

NETWORKS = {"test_efficientnet": [1, 2, 3], "test_convnext": [0, 1, 2], "test_vit": [0, 2, 3],
            "lsnet_t_artist": [0, 1]}


def make(name: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(name, **arguments).eval()


def images_for(network: Any) -> torch.Tensor:
    return torch.randn(2, *network.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(1))


def test_statistics_are_mean_and_standard_deviation() -> None:
    maps = torch.randn(3, 4, 5, 6)
    flat = maps.flatten(2)
    torch.testing.assert_close(statistics(maps), torch.cat([flat.mean(2), flat.std(2, correction=0)], 1),
                               rtol=1e-4, atol=1e-5)


def test_one_pixel_has_statistics_with_a_gradient() -> None:
    maps = torch.randn(2, 3, 1, 1, requires_grad=True)
    statistics(maps).sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_style_network_reads_the_statistics_of_its_stages(name: str) -> None:
    network = make("style_network", backbone=name, num_classes=3)
    images = images_for(network)
    assert style_stages(network.backbone) == NETWORKS[name]
    with torch.inference_mode():
        stages = network.backbone.forward_intermediates(images, intermediates_only=True)
        pooled = network.backbone.forward_head(network.backbone.forward_features(images), pre_logits=True)
        expected = torch.cat([*(statistics(stages[number]) for number in NETWORKS[name]), pooled], 1)
        raw = network.forward_features(images)
        torch.testing.assert_close(raw, expected, rtol=1e-4, atol=1e-5)
        assert raw.shape[1] == network.num_features
        torch.testing.assert_close(style_and_maps(network.backbone, images)[0], raw[:, :-pooled.shape[1]])
        logits = network(images)
        assert logits.shape == (2, 3)
        torch.testing.assert_close(network.for_inference()(images), logits, rtol=1e-4, atol=1e-5)
    cfg = network.backbone.pretrained_cfg
    assert {key: network.pretrained_cfg[key] for key in ("mean", "std", "input_size")} == {
        key: cfg[key] for key in ("mean", "std", "input_size")}


def test_the_projection_makes_the_features() -> None:
    network = make("style_network", backbone="test_efficientnet", num_classes=3, kind="style", feature_dim=7)
    raw = network.forward_features(images_for(network))
    features = network.forward_head(raw, pre_logits=True)
    assert features.shape == (2, 7)
    torch.testing.assert_close(network.get_classifier()(features), network.forward_head(raw))
    assert network.num_features == 7


def test_timm_loads_a_hub_folder(tmp_path: Path) -> None:
    arguments = {"backbone": "test_efficientnet", "kind": "style", "feature_dim": 5}
    network = make("style_network", num_classes=4, **arguments)
    save_for_hf(network, str(tmp_path), model_args=arguments, safe_serialization=True)
    found: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = images_for(network)
    with torch.inference_mode():
        torch.testing.assert_close(found(images), network(images))


def test_a_network_without_intermediates_is_named() -> None:
    with pytest.raises(UserError, match="forward_intermediates"):
        style_stages(torch.nn.Linear(1, 1))
