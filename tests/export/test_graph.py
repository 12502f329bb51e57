"""Exported graphs against torch: every form, batches of other sizes than the one that was traced, and every preset."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from data.transforms import Preprocessing
from export.graph import Form, PixelNetwork, write_onnx
from export.options import PACKAGES
from inference.exported import ExportedNetwork
from model.lsnet import PRESETS
from model.lsnet_artist import PRESETS as ARTISTS
from model.lsnet_artist import LSNetArtist
from runtime.networks import features_and_logits
from tests.model.golden import fill
from utils import UserError

for package in PACKAGES["onnx"]:
    pytest.importorskip(package, reason="the packages of requirements-export.txt are not installed")
CLASSES = 5
TIMES = 4  # of torch's own error in float32, where the network magnifies rounding
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def preprocessing(size: int) -> Preprocessing:
    return Preprocessing(input_size=size, crop_pct=0.875, interpolation="bicubic", mean=MEAN, std=STD)


def waves(batch: int, size: int) -> np.ndarray:
    """Pictures (batch, size, size, 3) uint8, each of other waves."""
    y, x = np.mgrid[:size, :size] / size
    waves = [[np.sin(5 * (b + 1) * x + 2 * c) * np.cos(3 * (c + 1) * y + b) for c in range(3)] for b in range(batch)]
    noise = np.random.default_rng(0).normal(0, 20, (batch, size, size, 3))
    return (127 + 100 * np.array(waves).transpose(0, 2, 3, 1) + noise).clip(0, 255).astype(np.uint8)


def expected(network: torch.nn.Module, pixels: np.ndarray, form: Form) -> tuple[np.ndarray, ...]:
    """Probabilities, logits and features in torch, from the definition and not through `PixelNetwork`."""
    images = (torch.from_numpy(pixels).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        images = images.permute(0, 3, 1, 2).to(next(network.parameters()).dtype)
        features, logits = features_and_logits(network, images, *form.kinds)
    scaled = logits / form.temperature
    return tuple(each.numpy() for each in (scaled.sigmoid() if form.sigmoid else scaled.softmax(1), logits, features))


def errors(answers: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each picture, how far its features (B, D) are from true ones, as a share of their length."""
    return np.asarray(np.linalg.norm(answers - truth, axis=1) / np.linalg.norm(truth, axis=1))


def check_answers(found: tuple[np.ndarray, ...], own: tuple[np.ndarray, ...], truth: tuple[np.ndarray, ...]) -> None:
    """Probabilities within 1e-4 of torch in float64 and features within 1e-3, or `TIMES` the error of torch in float32.

    A network whose weights are no training's may magnify rounding, so that torch's own float32 answers to a picture are
    wrong. Few may be such.
    """
    wrong, usual = (np.abs(each[0] - truth[0]).max(1) for each in (found, own))
    assert (wrong < np.maximum(1e-4, TIMES * usual)).all()
    features, usual_features = errors(found[2], truth[2]), errors(own[2], truth[2])
    assert (features < np.maximum(1e-3, TIMES * usual_features)).all()
    steady = (usual < 1e-4) & (usual_features < 1e-3)
    assert steady.mean() > 0.95
    first, second = np.sort(truth[0], axis=1)[:, :-3:-1].T
    clear = steady & (first - second > 2e-4)
    assert clear.any()
    assert (found[0].argmax(1) == truth[0].argmax(1))[clear].all()
    print(f"{len(wrong)} pictures, {steady.sum()} steady: probabilities {wrong[steady].max():.1e} (torch float32 "
          f"{usual[steady].max():.1e}), features {features[steady].max():.1e} ({usual_features[steady].max():.1e}); "
          f"all: {wrong.max():.1e} ({usual.max():.1e}), {features.max():.1e} ({usual_features.max():.1e})")


def check(network: Any, size: int, form: Form, path: Path, batches: tuple[int, ...] = (1, 3, 64)) -> ExportedNetwork:
    """Export `network` and compare it with torch on pictures, in batches of these sizes."""
    exact = copy.deepcopy(network).double()
    folded = network.for_inference() if hasattr(network, "for_inference") else network
    write_onnx(PixelNetwork(copy.deepcopy(folded), preprocessing(size), form), size, path)
    exported = ExportedNetwork(path, "onnx", threads=1)
    for batch in batches:
        pixels = waves(batch, size)
        own, truth = expected(network, pixels, form), expected(exact, pixels, form)
        found = exported.run(pixels)
        assert found["logits"].shape == own[1].shape
        check_answers((found["probabilities"], found["logits"], found["features"]), own, truth)
    return exported


def calm(network: torch.nn.Module) -> None:
    """Scale what batch norms pass on, so that residual branches add little: xl magnifies rounding."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.mul_(0.3)


@pytest.fixture(scope="module")
def lsnet() -> LSNetArtist:
    """All kinds of blocks, as narrow as can be, with a projection."""
    torch.manual_seed(0)
    network = LSNetArtist(CLASSES, feature_dim=24, img_size=64, embed_dim=(16, 16, 32, 32), depth=(0, 2, 1, 2),
                          num_heads=2)
    fill(network).float()
    return network.eval()


def test_lsnet_answers_as_in_torch_in_batches_of_any_size(lsnet: LSNetArtist, tmp_path: Path) -> None:
    form = Form(kinds=["pooled"], width=24, sigmoid=False, temperature=0.7)
    exported = check(lsnet, 64, form, tmp_path / "model.onnx")
    assert exported.outputs == ["probabilities", "logits", "features"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [*ARTISTS, *PRESETS, "resnet18", "vit_tiny_patch16_224"])
def test_every_preset_answers_as_in_torch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: Any = timm.create_model(name, num_classes=CLASSES)
    fill(network).float()
    if "_xl_" in name:
        calm(network)
    size = network.pretrained_cfg["input_size"][-1]
    form = Form(kinds=["pooled"], width=network.head_hidden_size, sigmoid=False)
    check(network, size, form, tmp_path / "model.onnx", (1, 3, 64) if size < 448 else (1, 3))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("backbone", "kind", "feature_dim"), [
    ("lsnet_t_artist", "both", None), ("lsnet_t_artist", "style", 64), ("resnet18", "both", None)])
def test_style_heads_answer_as_in_torch(backbone: str, kind: str, feature_dim: int | None, tmp_path: Path) -> None:
    network: Any = timm.create_model("style_network", backbone=backbone, num_classes=CLASSES, kind=kind,
                                     feature_dim=feature_dim)
    fill(network).float()
    form = Form(kinds=["pooled", "both"], width=network.head_hidden_size, sigmoid=True)
    write_onnx(PixelNetwork(network.for_inference(), preprocessing(224), form), 224, tmp_path / "model.onnx")
    exported = ExportedNetwork(tmp_path / "model.onnx", "onnx", threads=1)
    pixels = waves(3, 224)
    probabilities, _, features = expected(network, pixels, form)
    found = exported.run(pixels)
    assert np.abs(found["probabilities"] - probabilities).max() < 1e-4
    both = np.concatenate([found["features"], found["score_features"]], 1)
    np.testing.assert_allclose(both, features, rtol=1e-3, atol=1e-3 * np.abs(features).max())


class Fourier(torch.nn.Module):
    """A network with an operator that ONNX has in no form that the exporter knows."""

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svdvals(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        return maps.mean(1)[:, :CLASSES]


def test_the_comparison_fails_on_one_wrong_answer_and_on_many_unsteady_ones() -> None:
    truth = np.full((40, 5), 0.2), np.zeros((40, 5)), np.ones((40, 7))
    close = truth[0] + 1e-6, truth[1], truth[2] * (1 + 1e-5)
    truth[0][:, 0] += 0.01
    close[0][:, 0] += 0.01
    check_answers(close, close, truth)
    for place in (0, 2):
        wrong = [each.copy() for each in close]
        wrong[place][3] += 0.01
        with pytest.raises(AssertionError):
            check_answers(tuple(wrong), close, truth)
        check_answers(tuple(wrong), tuple(wrong), truth)  # one picture of which torch itself is unsure
        wrong[place][:3] += 0.01
        with pytest.raises(AssertionError):
            check_answers(tuple(wrong), tuple(wrong), truth)


def test_an_operator_that_onnx_lacks_is_a_line(tmp_path: Path) -> None:
    form = Form(kinds=["pooled"], width=CLASSES, sigmoid=False)
    with pytest.raises(UserError, match=r"Fourier, which does not export \(.*svd"):
        write_onnx(PixelNetwork(Fourier(), preprocessing(32), form), 32, tmp_path / "model.onnx")
    assert not any(tmp_path.iterdir())


def test_a_file_that_is_no_network_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match=r"model\.onnx, which is damaged or no network"):
        ExportedNetwork(tmp_path / "model.onnx", "onnx")
