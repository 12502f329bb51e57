"""Class maps add up to what they explain, are class activation maps where they should be, and find what differs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from evaluation import class_maps
from evaluation.class_maps import check_maps, class_target, explain, similarity_target
from model.style_network import style_stages
from runtime.networks import Architecture, features_and_logits
from utils import UserError

MODEL = "test_efficientnet"
Make = Callable[..., Any]


@pytest.fixture
def make() -> Make:
    """Makes a network in evaluation, whose statistics are those of noise: after one pass, nothing is near zero."""
    def create(name: str = MODEL, **arguments: Any) -> Any:
        torch.manual_seed(0)
        network: Any = Architecture(name=name, num_classes=5, model_args=arguments).create()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d):
                module.momentum = 1.0
        with torch.no_grad():
            network(torch.randn(8, 3, 64, 64))
        return network.eval().requires_grad_(False)
    return create


@pytest.fixture
def images() -> torch.Tensor:
    """Two pictures of noise, each with a flat half."""
    found = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found[0, :, :, 32:] = 0.5
    return found


def of(ids: torch.Tensor, *, softmax: bool = False) -> Any:
    return class_target(lambda logits: ids, softmax=softmax)


IDS = torch.tensor([[0, 3], [4, 1]])


def test_under_a_linear_head_maps_of_pooled_features_are_class_activation_maps(
        make: Make, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_maps, "FEWEST", 1)
    network = make()
    maps, logits = explain(network, images, of(IDS))
    with torch.no_grad():
        expected = torch.einsum("bkc,bchw->bkhw", network.classifier.weight[IDS], network.forward_features(images))
        torch.testing.assert_close(logits, network(images))
    torch.testing.assert_close(maps, expected)


@pytest.mark.parametrize("kind", ["style", "both"])
def test_maps_of_style_features_add_up_to_the_logit_without_its_bias(
        make: Make, images: torch.Tensor, kind: str) -> None:
    network = make(style_head=kind).for_inference()
    maps, logits = explain(network, images, of(IDS))
    assert maps.shape[-1] == 16  # stride 4, the finest stage
    torch.testing.assert_close(maps.mean((2, 3)), logits.gather(1, IDS) - network.head.bias[IDS], rtol=1e-3, atol=1e-3)


def test_with_softmax_the_mean_of_all_logits_is_left_out(make: Make, images: torch.Tensor) -> None:
    network = make()
    every = torch.arange(5).expand(2, 5)
    plain, centred = (explain(network, images, of(every, softmax=softmax))[0] for softmax in (False, True))
    torch.testing.assert_close(centred, plain - plain.mean(1, keepdim=True), rtol=1e-3, atol=1e-4)


def test_one_picture_at_a_time_or_several_give_the_same_maps(make: Make, images: torch.Tensor) -> None:
    network = make(style_head="both")
    both, _ = explain(network, images, of(IDS))
    single = [explain(network, images[row:row + 1], of(IDS[row:row + 1]))[0] for row in range(2)]
    torch.testing.assert_close(both, torch.cat(single), rtol=1e-4, atol=1e-4)


def test_gradients_through_a_projection_agree_with_small_changes(make: Make, images: torch.Tensor) -> None:
    network = make(style_head="both", feature_dim=16).double()
    images = images.double()
    maps, _ = explain(network, images, of(IDS[:, :1]))

    def scaled(factor: float) -> torch.Tensor:  # all that the head reads times `factor`: the derivative is what adds up
        with torch.no_grad():
            return network.forward_head(network.forward_features(images) * factor).gather(1, IDS[:, :1])

    slope = (scaled(1 + 1e-6) - scaled(1 - 1e-6)) / 2e-6
    torch.testing.assert_close(maps.double().mean((2, 3)), slope, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("name", "arguments", "side"), [
    ("test_vit", {"global_pool": "avg", "img_size": 224}, 14), ("test_vit", {"img_size": 64}, 4),
    ("lsnet_t_artist", {"img_size": 64}, 8)])
def test_other_layouts_and_stages_of_coarse_networks_are_maps_too(
        make: Make, images: torch.Tensor, name: str, arguments: dict[str, Any], side: int) -> None:
    network, size = make(name, **arguments), arguments["img_size"]
    maps, logits = explain(network, F.interpolate(images, (size, size)), of(IDS))
    assert maps.shape == (2, 2, side, side)
    assert (maps.isfinite() & (maps != 0)).any()
    torch.testing.assert_close(logits, network(F.interpolate(images, (size, size))))
    assert not any(module._forward_hooks for module in network.modules())


def test_where_few_places_are_read_maps_are_grad_cam_of_the_middle_stages(make: Make, images: torch.Tensor) -> None:
    network = make()  # its last map has 2 x 2 places, its middle stages 16, 8 and 4 per side
    maps, _ = explain(network, images, of(IDS[:, :1]))
    expected = torch.zeros(2, 16, 16)
    for stage in style_stages(network):  # each by itself, by the definition
        kept: list[torch.Tensor] = []
        module = network.get_submodule(network.feature_info[stage]["module"])
        with torch.enable_grad():
            handle = module.register_forward_hook(
                lambda _, inputs, output, kept=kept: kept.append(output.requires_grad_()))
            network(images).gather(1, IDS[:, :1]).sum().backward(inputs=kept)
            handle.remove()
        cam = (kept[0].grad.mean((2, 3), keepdim=True) * kept[0]).sum(1) * kept[0][0, 0].numel()
        expected += F.interpolate(cam[:, None], (16, 16), mode="bilinear")[:, 0].detach()
    torch.testing.assert_close(maps[:, 0], expected, rtol=1e-3, atol=1e-3)


def test_what_other_threads_run_meanwhile_is_neither_kept_nor_changed(make: Make, images: torch.Tensor) -> None:
    network = make()
    with torch.no_grad():
        expected = network(images)

    @torch.inference_mode()  # of which no output could be differentiated
    def run() -> torch.Tensor:
        return network(images)

    with class_maps._keep_stages(network) as stages, ThreadPoolExecutor(1) as other:
        assert torch.equal(other.submit(run).result(), expected)
        assert not stages
        network(images)
        assert len(stages) == len(style_stages(network))


def test_a_classifier_that_reads_no_place_is_told(make: Make) -> None:
    network = make()
    network.classifier.weight.zero_()
    with pytest.raises(UserError, match=r"this.pth, whose classifier reads no place"):
        check_maps(network, 64, "this.pth")
    check_maps(make(), 64, "this.pth")


def test_maps_of_two_pictures_add_up_to_their_similarity(make: Make, images: torch.Tensor) -> None:
    network = make(style_head="both")
    maps, _ = explain(network, images, similarity_target(lambda features: features), "both")
    assert maps.shape[:2] == (2, 1)
    features = features_and_logits(network, images, "both")[0]
    expected = F.cosine_similarity(*features, dim=0) * features.norm(dim=1)
    torch.testing.assert_close(maps.mean((2, 3))[:, 0], expected, rtol=1e-3, atol=1e-3)
