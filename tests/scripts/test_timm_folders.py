"""Folders that timm's save_for_hf wrote, and our own: inference, teacher, finetuning and --eval answer as timm does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.models import save_for_hf

import train_artist_style
from inference.predictor import Prediction, Predictor
from runtime.checkpoint import read_checkpoint
from runtime.options import DistillationOptions, ModelOptions, RunOptions
from runtime.placement import Placement
from training.start import adapt_network, create_network, load_pretrained
from training.teacher import open_teacher

CLASSES = [f"artist_{number}" for number in range(3)]
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module", params=[
    "test_resnet", "lsnet_t", "run of ours", pytest.param("saved by timm", marks=pytest.mark.exhaustive)])
def folder(request: pytest.FixtureRequest, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with config.json and weights."""
    if request.param == "run of ours":
        return trained
    torch.manual_seed(0)
    if request.param == "saved by timm":
        network = timm.create_model(f"local-dir:{trained}", pretrained=True)
    else:
        cfg = {"num_classes": 3, "label_names": CLASSES}
        if request.param == "test_resnet":
            cfg |= {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 192, 192)}
        network = timm.create_model(request.param, num_classes=3, pretrained_cfg_overlay=cfg)
    path = tmp_path_factory.mktemp("folder")
    save_for_hf(network, str(path), safe_serialization=True)
    return path


def test_every_use_agrees_with_timm(folder: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    theirs: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = create_transform(**resolve_model_data_config(theirs))
    paths = sorted((data_set / "val").glob("*/*.png"))
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    with torch.inference_mode():
        features = theirs.forward_head(theirs.forward_features(images), pre_logits=True)
        logits = theirs(images)
    # Inference.
    predictor = Predictor.from_checkpoint(folder, device="cpu")
    found = [answer for answer in predictor.predict(paths) if isinstance(answer, Prediction)]
    torch.testing.assert_close(torch.stack([answer.features for answer in found]), features, **CLOSE)
    torch.testing.assert_close(torch.stack([answer.logits for answer in found]), logits, **CLOSE)
    assert found[0].classes == CLASSES
    # A teacher.
    cpu = Placement.resolve("cpu")
    teacher = open_teacher(DistillationOptions(teacher_path=str(folder)), CLASSES, predictor.preprocessing, cpu)
    torch.testing.assert_close(teacher(images), logits, **CLOSE)
    # The beginning of finetuning.
    source = read_checkpoint(folder)
    architecture, preprocessing = adapt_network(source, ModelOptions(), None, 3, has_teacher=False)
    network = create_network(architecture, RunOptions())
    assert "head included" in load_pretrained(network, source, CLASSES)
    assert preprocessing == predictor.preprocessing
    with torch.inference_mode():
        torch.testing.assert_close(network.eval()(images), logits, **CLOSE)
    # Evaluation.
    assert train_artist_style.main(["--eval", "--resume", str(folder), "--data-path", str(data_set), "--output-dir",
                                    str(tmp_path), "--device", "cpu", "--num-workers", "0"]) == 0
    loss = re.search(r"loss (\d+\.\d+)", capsys.readouterr().out)
    targets = torch.tensor([CLASSES.index(path.parent.name) for path in paths])
    assert loss is not None
    assert float(loss[1]) == pytest.approx(torch.nn.functional.cross_entropy(logits, targets).item(), abs=1e-4)
