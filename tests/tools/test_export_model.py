"""tools/export_model.py: what each format's clients read, and what is refused in one line with nothing left."""

from __future__ import annotations

import argparse
import csv
import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from data.transforms import Preprocessing, Views
from export import folder as writers
from export.folder import describe_preprocessing, write_example
from export.options import PACKAGES
from inference.exported import ExportedNetwork
from inference.predictor import Prediction, Predictor
from runtime.checkpoint import publish_best
from runtime.export_folder import read_export_folder
from runtime.networks import make_architecture
from runtime.next_step import PICTURES
from tests.conftest import Completed
from tests.model.golden import fill
from tools.export_model import main

for package in PACKAGES["openvino"]:
    pytest.importorskip(package, reason="the packages of requirements-export.txt are not installed")
Export = Callable[..., Path]
ARTISTS = ["artist_0", "artist_1", "artist_2"]
NO_TORCH = ("import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; "
            "runpy.run_path(sys.argv[0], run_name='__main__')")


@pytest.fixture(scope="module")
def exported(trained: Path, data_set: Path, run_script: Callable[..., Completed],
             tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ONNX folder of `trained`, which is calibrated: probabilities are then other than those of the logits."""
    place = tmp_path_factory.mktemp("export")
    run, output = place / "run", place / "onnx"
    shutil.copytree(trained, run)
    predictor = Predictor.from_checkpoint(run / "model_best.pth", device="cpu")
    calibration = {"fingerprint": predictor.fingerprint, "view": "default", "temperature": 0.25, "confident": 0.9,
                   "possible": 0.1, "error_rate": 0.05}
    (run / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    done = run_script("tools/export_model.py", "--checkpoint", run / "model_best.pth", "--output", output,
                      "--data-path", data_set)
    assert done.returncode == 0, done.stderr
    assert "12 pictures of" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(f"inference_artist.py --checkpoint {output} --input {PICTURES}")
    return output


def validation(data_set: Path) -> list[Path]:
    return sorted((data_set / "val").rglob("*.png"))


def test_the_folder_answers_as_inference_does(exported: Path, data_set: Path) -> None:
    folder = read_export_folder(exported)
    predictor = Predictor.from_checkpoint(exported.parent / "run" / "model_best.pth", device="cpu")
    assert folder.classes == ARTISTS
    assert folder.export.fingerprint == predictor.fingerprint
    assert sum(folder.export.feature_blocks) == predictor.width
    assert {path.name for path in exported.iterdir()} == {
        "model.onnx", "config.json", "preprocess.json", "class_mapping.csv", "calibration.json", "example.py",
        ".lsnet_output.json"}
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    found = ExportedNetwork(folder.network, "onnx").run(pixels)
    features, logits = predictor.run(torch.from_numpy(pixels))
    np.testing.assert_allclose(found["features"], features.numpy(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["logits"], logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["probabilities"], (logits / 0.25).softmax(1).numpy(), atol=1e-4)


def test_the_example_names_the_same_artists_without_torch(exported: Path, data_set: Path, tmp_path: Path) -> None:
    transparent = tmp_path / "wide and transparent.png"
    Image.effect_noise((150, 60), 90).convert("RGBA").save(transparent)
    pictures = [*validation(data_set), transparent]
    done = subprocess.run([sys.executable, "-c", NO_TORCH, exported / "example.py", *pictures], cwd=tmp_path,
                          capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("    ")]
    predictor = Predictor.from_checkpoint(exported.parent / "run" / "model_best.pth", device="cpu")
    for number, answer in enumerate(predictor.predict(pictures)):
        assert isinstance(answer, Prediction)
        probabilities = (answer.logits / 0.25).softmax(0)
        told = {name: float(value) for name, value in lines[3 * number : 3 * number + 3]}
        assert told == pytest.approx(dict(zip(ARTISTS, probabilities.tolist(), strict=True)), abs=2e-3)
        assert lines[3 * number][0] == ARTISTS[int(probabilities.argmax())]


@pytest.mark.parametrize("fit", ["crop", "pad", "squash", "squash_crop"])
def test_the_example_sees_what_inference_sees(fit: Any, tmp_path: Path) -> None:
    seen = Preprocessing(input_size=48, crop_pct=0.875, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1), fit=fit)
    (tmp_path / "preprocess.json").write_text(json.dumps(describe_preprocessing(seen)), encoding="utf-8")
    write_example(tmp_path / "example.py", "onnx")
    names = runpy.run_path(str(tmp_path / "example.py"), run_name="example")
    for size in ((100, 60), (60, 151), (30, 20), (48, 48)):
        picture = Image.effect_noise(size, 90).convert("RGB")
        np.testing.assert_array_equal(np.asarray(names["to_square"](picture)), Views(seen, "default")(picture)[0])


def test_a_client_of_wd14_taggers_reads_the_folder(trained: Path, data_set: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(trained), "--output", str(tmp_path / "out"), "--format", "wd-tagger",
                 "--data-path", str(data_set)]) == 0
    assert "its clients pad pictures with white; this network was trained with --fit crop" in capsys.readouterr().out
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    _, height, width, channels = session.get_inputs()[0].shape
    assert (height, width, channels) == (32, 32, 3)
    with open(tmp_path / "out" / "selected_tags.csv", encoding="utf-8", newline="") as file:
        tags = list(csv.DictReader(file))
    assert [*tags[0]] == ["tag_id", "name", "category", "count"]
    ratings, characters = ([number for number, tag in enumerate(tags) if tag["category"] == kind] for kind in "94")
    assert ratings == [0, 1, 2, 3]
    predictor = Predictor.from_checkpoint(trained, device="cpu")
    for path in validation(data_set)[:3]:
        pixels = np.array(Image.open(path).convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
        answer = session.run([session.get_outputs()[0].name],
                             {session.get_inputs()[0].name: pixels[None, :, :, ::-1].astype(np.float32)})[0][0]
        assert len(answer) == len(tags)
        assert not answer[ratings].any()
        _, logits = predictor.run(torch.from_numpy(pixels[None]))
        np.testing.assert_allclose(answer[characters], logits[0].softmax(0).numpy(), atol=1e-4)


def lsnet_run(folder: Path, size: int, **arguments: Any) -> torch.nn.Module:
    """A run's best network, golden filled."""
    architecture = make_architecture("lsnet_t_artist", 3, input_size=size, **arguments)
    network = architecture.create()
    fill(network).float()
    seen = Preprocessing.from_pretrained_cfg(architecture.pretrained_cfg, input_size=size)
    publish_best(folder, {"model": network.state_dict(), "classes": ARTISTS, "config": {
        "architecture": architecture.name, "model_args": architecture.model_args, "num_classes": 3,
        "preprocessing": seen.as_dict()}}, network, architecture)
    return network.eval()


def test_public_loaders_read_the_published_folder(data_set: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    lsnet_run(tmp_path / "run", 64, feature_dim=96)
    assert main(["--checkpoint", str(tmp_path / "run" / "model_best.pth"), "--output", str(tmp_path / "out"),
                 "--format", "published", "--data-path", str(data_set)]) == 0
    told = capsys.readouterr().out
    assert "its clients build it for 224 px: position biases of 64 px were re-sampled" in told
    assert "12 pictures of" in told
    # Their key logic in our own words: the head's shape, the name of config.json, 224 px, loaded strictly.
    with open(tmp_path / "out" / "config.json", encoding="utf-8") as file:
        name = json.load(file)["model"]
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(tmp_path / "out" / "best_checkpoint.pth", weights_only=True)
    classes, width = content["model"]["head.l.weight"].shape
    assert vars(content["args"]) == {"model": name, "num_classes": classes, "feature_dim": width}
    network = timm.create_model(name, num_classes=classes, feature_dim=width, img_size=224)
    network.load_state_dict(content["model"], strict=True)
    predictor = Predictor.from_checkpoint(tmp_path / "out" / "best_checkpoint.pth", device="cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    _, logits = predictor.run(torch.from_numpy(pixels))
    with torch.inference_mode():
        theirs = network.eval()(predictor.normalise(torch.from_numpy(pixels)))
    torch.testing.assert_close(theirs, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("arguments", "complaint"), [
    (["--precision", "int8"], "--precision int8 without --data-path"),
    (["--format", "published", "--precision", "fp16"], "--precision fp16 with --format published"),
    (["--danbooru-names"], "--danbooru-names with --format onnx"),
    (["--format", "published"], "a test_efficientnet"),
    (["--data-path", "nowhere"], "no folder nowhere"),
    (["--data-path", "empty", "--precision", "int8"], "no picture in empty"),
    (["--output", "used"], "the folder"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(arguments: list[str], complaint: str, trained: Path, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("empty/train", "empty/val", "used"):
        Path(name).mkdir(parents=True)
    Path("used", "mine.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--output", "out", *arguments]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_network_that_answers_otherwise_is_not_left(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    def write_another(network: Any, size: int, path: Path) -> None:
        network.scale *= 1.05
        write(network, size, path)

    write = writers.write_onnx
    monkeypatch.setattr(writers, "write_onnx", write_another)
    assert main(["--checkpoint", str(trained), "--output", str(tmp_path / "out")]) == 2
    assert "model.onnx, which answers otherwise than the checkpoint on generated pictures" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_checkpoint_without_class_names_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lsnet_run(tmp_path, 64)
    torch.save(torch.load(tmp_path / "model_best.pth", weights_only=True)["model"], tmp_path / "bare.pth")
    assert main(["--checkpoint", str(tmp_path / "bare.pth"), "--model", "lsnet_t_artist", "--output",
                 str(tmp_path / "out")]) == 2
    assert "bare.pth, which does not name its classes" in capsys.readouterr().err


def test_a_style_head_is_not_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lsnet_run(tmp_path, 64, style_head="both")
    assert main(["--checkpoint", str(tmp_path), "--output", str(tmp_path / "out"), "--format", "published"]) == 2
    assert "lsnet_t_artist with a style head" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("format", "precision"), [("openvino", "fp32"), ("openvino", "fp16"), ("openvino", "int8"),
                                                   ("onnx", "fp16"), ("onnx", "int8")])
def test_every_form_answers(format: Any, precision: str, trained: Path, data_set: Path, tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(trained), "--output", str(tmp_path / "out"), "--format", format, "--precision",
                 precision, "--data-path", str(data_set), "--max-top1-loss", "100"]) == 0
    assert ("probabilities differ by" in (told := capsys.readouterr().out)) == (precision != "int8")
    assert ("points lost" in told) == (precision != "fp32")
    folder = read_export_folder(tmp_path / "out")
    pixels = np.zeros((3, 32, 32, 3), np.uint8)
    found = ExportedNetwork(folder.network, format).run(pixels)
    assert [*found] == ["probabilities", "logits", "features"]
    assert all(np.isfinite(each).all() for each in found.values())
    np.testing.assert_allclose(found["probabilities"].sum(1), 1, atol=1e-3)
