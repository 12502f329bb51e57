"""Every preset through timm's model contract."""

from __future__ import annotations

import copy
import itertools

import pytest
import timm
import torch
from timm.models import group_parameters

from model import lsnet, lsnet_artist
from model.lsnet import LSNet, Preset, register_presets
from tests.model import golden

USUAL = ("lsnet_t_distill", "lsnet_t_artist")  # one of each class; the rest is exhaustive
PRESETS = lsnet.PRESETS | lsnet_artist.PRESETS


def logits(answer: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return sum(answer) if isinstance(answer, tuple) else answer


@pytest.fixture(scope="module", params=[
    name if name in USUAL else pytest.param(name, marks=pytest.mark.exhaustive) for name in PRESETS
])
def preset(request):
    """A preset's name and a small-picture model of it, under weights that hide nothing."""
    return request.param, golden.fill(timm.create_model(request.param, num_classes=7, img_size=64)).float()


@pytest.fixture
def network(preset):
    return copy.deepcopy(preset[1])


@torch.no_grad()
def test_forward_folded_and_intermediates(network, record_property):
    x = golden.pictures(64).float()
    final = network.forward_features(x)
    assert final.shape == (2, network.num_features, 1, 1)
    assert network.forward_head(final, pre_logits=True).shape == (2, network.head_hidden_size)
    y = network(x)
    assert y.shape == (2, 7)
    error = float((network.for_inference()(x) - y).norm() / y.norm())
    record_property("error", error)
    assert error <= 1e-5
    last, stages = network.forward_intermediates(x)
    torch.testing.assert_close(last, final)
    assert [stage.shape[1] for stage in stages] == [info["num_chs"] for info in network.feature_info]
    assert [64 // stage.shape[2] for stage in stages] == [8, 16, 32, 64]
    second = network.forward_intermediates(x, [1], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(second, [stages[1]])


def test_every_parameter_has_a_finite_gradient(network):
    torch.manual_seed(0)
    x = torch.randn(4, 3, 64, 64).double()  # a batch norm over four values has gradients too steep for float32
    logits(network.double().train()(x)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_reset_classifier(network):
    x = golden.pictures(64).float()
    network.train().reset_classifier(3)
    assert logits(network(x)).shape == (2, 3)
    heads = network.get_classifier()
    assert all(head.training for head in (heads if network.distillation else [heads]))
    network.eval().reset_classifier(0)
    torch.testing.assert_close(network(x), network.forward_head(network.forward_features(x), pre_logits=True))
    network.reset_classifier(0, "")
    torch.testing.assert_close(network(x), network.forward_features(x))


def test_groups_of_parameters(network):
    names = dict(network.named_parameters())
    assert network.no_weight_decay() == {name for name in names if name.endswith("attention_biases")}
    for coarse, depth in ((True, 4), (False, sum(PRESETS[network.pretrained_cfg["architecture"]].depth))):
        groups = group_parameters(network, network.group_matcher(coarse=coarse))
        assert sorted(itertools.chain(*groups.values())) == sorted(names)
        assert all(name.startswith("patch_embed") for name in groups[0])
        assert len(groups) >= depth


def test_pretrained_cfg_tells_the_truth(preset):
    name, network = preset
    cfg, row, keys = network.pretrained_cfg, PRESETS[name], network.state_dict()
    assert cfg["input_size"] == (3, row.img_size, row.img_size)
    assert (cfg["crop_pct"], cfg["interpolation"], cfg["num_classes"]) == (0.875, "bicubic", 1000)
    assert cfg["pool_size"] == (7, 7) if row.img_size == 448 else (4, 4)
    classifiers = [cfg["classifier"]] if isinstance(cfg["classifier"], str) else cfg["classifier"]
    assert len(classifiers) == 1 + name.endswith("_distill")
    assert all(f"{layer}.weight" in keys for layer in (*classifiers, cfg["first_conv"]))
    published = f"jameslahm/{name.removesuffix('_artist')}"
    assert cfg.get("hf_hub_id") == (None if name.startswith(("lsnet_l_", "lsnet_xl_")) else published)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("program", [
    lambda network, x: torch.export.export(network, (x,)).module(),
    lambda network, x: torch.compile(network, fullgraph=True),
    lambda network, x: torch.compile(network.for_inference(), fullgraph=True),
], ids=["exported", "compiled", "folded and compiled"])
def test_programs_answer_like_the_network(network, program, record_property):
    torch.compiler.reset()
    x = golden.pictures(64).float()
    y = network(x)
    error = float((program(network, x)(x) - y).norm() / y.norm())
    record_property("error", error)  # --junit-xml lists them
    assert error <= 1e-5


@torch.no_grad()
def test_features_only(preset):
    name, network = preset
    stages = timm.create_model(name, features_only=True, img_size=64)
    assert stages.feature_info.reduction() == [8, 16, 32, 64]
    x = golden.pictures(64).float()
    assert [y.shape for y in stages(x)] == [(2, dim, side, side) for dim, side in zip(PRESETS[name].embed_dim,
                                                                                     (8, 4, 2, 1), strict=True)]
    stages = timm.create_model(name, features_only=True, img_size=64, out_indices=(0, 2))
    assert stages.feature_info.reduction() == [8, 32]
    assert [y.shape[1] for y in stages(golden.pictures(64).float())] == stages.feature_info.channels()
    assert not any(key.startswith(("model.blocks4", "model.head")) for key in stages.state_dict())


def test_a_preset_is_one_row(monkeypatch):
    monkeypatch.setitem(lsnet.PRESETS, "lsnet_one_row", Preset((16, 16, 24, 32), (1, 2, 2, 2), 2, img_size=64))
    register_presets(LSNet, {"lsnet_one_row": lsnet.PRESETS["lsnet_one_row"]})
    torch.manual_seed(0)
    network = timm.create_model("lsnet_one_row", num_classes=2, drop_path_rate=0.1).train()
    assert network.pretrained_cfg["input_size"] == (3, 64, 64)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    x, target = torch.randn(8, 3, 64, 64), torch.arange(8) % 2
    losses = []
    for _ in range(12):
        loss = torch.nn.functional.cross_entropy(network(x), target)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(0.693, abs=0.1)
    assert losses[-1] < 0.2
