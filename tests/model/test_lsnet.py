"""What LSNet promises beyond its keys and outputs."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models._hub import save_for_hf

from model.lsnet import LSNet, checkpoint_filter_fn
from tests.model import golden
from utils import UserError

TINY = {"embed_dim": (16, 16, 24, 32), "depth": (2, 1, 2, 2), "num_heads": 2, "img_size": 64, "num_classes": 5}


def tiny(**kwargs) -> LSNet:
    torch.manual_seed(0)
    return LSNet(**{**TINY, **kwargs})


def pictures(size: int = 64, batch: int = 2) -> torch.Tensor:
    return golden.pictures(size, batch).float()



@pytest.mark.parametrize("size", [32, 64, 65, 97, 256])
def test_any_square_from_32_px(size):
    side = -(-size // 64)
    network = tiny(img_size=size).eval()
    assert network.forward_features(pictures(size)).shape[2:] == (side, side)
    assert network(pictures(64 * side)).shape == (2, 5)
    with pytest.raises(UserError, match="set_input_size"):
        network(pictures(64 * side + 1))
    network.set_input_size(64 * side + 1)
    assert network.img_size == 64 * side + 1
    assert network(pictures(64 * side + 1)).shape == (2, 5)


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 200), (97, 33), (200, 136)])
def test_features_only_takes_any_height_and_width(height, width):
    torch.manual_seed(0)
    stages = timm.create_model("lsnet_t", features_only=True, img_size=64, embed_dim=TINY["embed_dim"],
                               depth=TINY["depth"], num_heads=2).eval()
    golden.fill(stages).float()
    x = torch.randn(1, 3, height, width)
    found = stages(x)
    assert [y.shape[2:] for y in found] == [(-(-height // side), -(-width // side)) for side in (8, 16, 32, 64)]
    if height == width:
        strict = timm.create_model("lsnet_t", num_classes=0, img_size=64, embed_dim=TINY["embed_dim"],
                                   depth=TINY["depth"], num_heads=2).eval()
        state = {key.removeprefix("model."): value for key, value in stages.state_dict().items()}
        strict.load_state_dict(state)
        assert all(torch.equal(a, b) for a, b in zip(found, strict.forward_intermediates(x)[1], strict=True))
        with pytest.raises(UserError, match="set_input_size"):
            strict(torch.randn(1, 3, 64, 200))


@torch.no_grad()
def test_checkpoint_of_another_grid_is_resampled_as_a_picture_for_dynamic_sizes():
    small, large = golden.fill(tiny(img_size=224)), tiny(img_size=896, dynamic_img_size=True)
    state = checkpoint_filter_fn(small.state_dict(), large)
    key = "blocks4.3.mixer.m.attention_biases"
    planes = small.state_dict()[key].float().unflatten(1, (4, 4))[None]
    expected = torch.nn.functional.interpolate(planes, (14, 14), mode="bicubic", align_corners=False)[0].flatten(1)
    torch.testing.assert_close(state[key], expected.double())
    large.load_state_dict(state)


@pytest.mark.parametrize("size", [31, 0, (64, 96)])
def test_other_sizes_are_refused(size):
    with pytest.raises(UserError, match="32 px or more"):
        tiny(img_size=size)
    with pytest.raises(UserError, match="32 px or more"):
        tiny().set_input_size(size)


@pytest.mark.parametrize("name", ["lsnet_t", "lsnet_t_artist"])
def test_unknown_arguments_are_errors(name):
    with pytest.raises(TypeError, match="drop_paths"):
        timm.create_model(name, drop_paths=0.1)


@torch.no_grad()
def test_checkpoint_of_another_grid_is_resampled():
    small, large = golden.fill(tiny(img_size=224)), golden.fill(tiny(img_size=448))
    loaded = tiny(img_size=224).double().eval()
    loaded.load_state_dict(checkpoint_filter_fn({"model": large.state_dict()}, loaded))
    large.set_input_size(224)
    x = golden.pictures(224)
    torch.testing.assert_close(loaded(x), large(x))
    unchanged = checkpoint_filter_fn(small.state_dict(), loaded)
    assert all(torch.equal(unchanged[key], tensor) for key, tensor in small.state_dict().items())


@torch.no_grad()
def test_nothing_stale_after_loading_in_eval_mode_or_changing_dtype():
    network, other = tiny().eval(), golden.fill(tiny())
    x = golden.pictures(64)
    network(x.float())
    network.load_state_dict(other.state_dict())
    network.double().load_state_dict(other.state_dict())
    torch.testing.assert_close(network(x), other(x), atol=0, rtol=0)


def test_stochastic_depth_rises_linearly_with_depth():
    modules = dict(tiny(drop_path_rate=0.6).named_modules())
    rates = {name: module.drop_prob for name, module in modules.items() if isinstance(module, DropPath)}
    assert rates == pytest.approx({
        "blocks1.1.ffn.drop_path": 0.1, "blocks2.2.ffn.drop_path": 0.2,
        "blocks3.2.ffn.drop_path": 0.3, "blocks3.3.ffn.drop_path": 0.4, "blocks4.2.ffn.drop_path": 0.5,
        "blocks4.3.mixer.drop_path": 0.6, "blocks4.3.ffn.drop_path": 0.6,
    })  # fmt: skip


@pytest.mark.parametrize("rate", [0.0, 0.6])
def test_stochastic_depth_drops_in_training_only(rate):
    network, x = golden.fill(tiny(drop_path_rate=rate)).float(), pictures()
    assert torch.equal(network(x), network(x))
    network.train()
    assert torch.equal(network(x), network(x)) == (rate == 0)


def test_every_parameter_learns_with_checkpointing_or_without():
    plain = golden.fill(tiny(img_size=128)).train()
    saving = copy.deepcopy(plain)
    saving.set_grad_checkpointing()
    for network in (plain, saving):
        network(golden.pictures(128, 4)).square().sum().backward()
    for (name, a), b in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert a.grad.any(), name
        torch.testing.assert_close(a.grad, b.grad, msg=name)


def test_distillation_returns_both_in_training_and_their_mean_after():
    network, x = golden.fill(tiny(distillation=True)), golden.pictures(64)
    features = network.forward_head(network.forward_features(x), pre_logits=True)
    both = network.head(features), network.head_dist(features)
    torch.testing.assert_close(network(x), (both[0] + both[1]) / 2)
    torch.testing.assert_close(network.for_inference()(x), network(x))
    assert [y.shape for y in network.train()(x)] == [(2, 5), (2, 5)]
    assert network.get_classifier() == (network.head, network.head_dist)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision(dtype):
    network, x = golden.fill(tiny()).float(), pictures()
    expected = network(x)
    with torch.autocast("cpu", dtype=dtype):
        mixed = network(x)
    for y in (mixed, copy.deepcopy(network).to(dtype)(x.to(dtype))):
        assert (y.float() - expected).norm() <= 0.05 * expected.norm()


def test_trains_under_autocast():
    network = tiny(num_classes=2).train()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    x, target, losses = torch.randn(8, 3, 64, 64), torch.arange(8) % 2, []
    for _ in range(12):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(x), target)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(0.693, abs=0.1)
    assert losses[-1] < 0.2


@pytest.mark.exhaustive
def test_compiles_and_exports_without_a_break():
    network, x = golden.fill(tiny(depth=(0, 2, 0, 2))).float(), pictures()
    expected = network(x)
    exported = torch.export.export(network, (x,)).module()
    for other in (exported, torch.compile(network, backend="aot_eager", fullgraph=True)):
        torch.testing.assert_close(other(x), expected, rtol=1e-5, atol=1e-6)


def test_inference_copy_leaves_the_model_as_it_is():
    network = golden.fill(tiny(distillation=True)).train()
    before = copy.deepcopy(network.state_dict())
    folded = network.for_inference()
    assert (network.training, network.distillation, folded.training) == (True, True, False)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert sum(p.numel() for p in folded.parameters()) < sum(p.numel() for p in network.parameters())
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_saved_folder_in_hub_layout_remembers_a_new_input_size(tmp_path):
    network = golden.fill(timm.create_model("lsnet_t_artist", **TINY, feature_dim=12)).float()
    network.set_input_size(128)
    save_for_hf(network, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(loaded(pictures(128)), network(pictures(128)))
