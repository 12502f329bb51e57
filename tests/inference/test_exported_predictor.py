"""--backend: the same records from ONNX Runtime and OpenVINO as from torch, and one line for what cannot be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_artist import main as infer
from predict_artist_multilabel import main as predict
from runtime import export_folder
from runtime.checkpoint import read_checkpoint
from tests.conftest import Completed
from tests.hub_cache import fill_repository, use_hub_cache
from tests.small_runs import CLASSES, write_run
from tools.build_gallery import main as build_gallery
from tools.export_model import main as export
from utils import UserError


def same(found: Any, expected: Any) -> bool:
    """Whether two records agree, numbers within 0.0001 and a thousandth."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(np.isclose(found, expected, rtol=1e-3, atol=1e-4)) if isinstance(expected, float) else found == expected


def records(output: Path) -> Any:
    return json.loads((output / "batch_results.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_folder_gets_the_same_files(calibrated: Path, exported: Path, data_set: Path, tmp_path: Path,
                                      run_script: Callable[..., Completed], backend: str, package: str) -> None:
    pytest.importorskip(package, reason="requirements-export.txt is not installed")
    for name, *flags in (("torch", calibrated), (backend, exported, "--backend", backend)):
        done = run_script("inference_artist.py", "--checkpoint", *flags, "--input", data_set / "val", "--output",
                          tmp_path / name, "--mode", "both", "--batch-size", 5)
        assert done.returncode == 0, done.stderr
    files, expected = ({path.name for path in (tmp_path / name).iterdir()} for name in (backend, "torch"))
    assert files == expected
    assert same(records(tmp_path / backend), records(tmp_path / "torch"))
    assert {record["verdict"] for record in records(tmp_path / "torch").values()} == {"possible", "unknown"}
    np.testing.assert_allclose(*(np.load(tmp_path / name / "features.npy") for name in (backend, "torch")), rtol=1e-3,
                               atol=1e-4)
    assert f"--checkpoint {exported} --input" in done.stdout


def test_an_export_alone_needs_no_flag(calibrated: Path, exported: Path, data_set: Path, tmp_path: Path) -> None:
    picture = data_set / "val" / CLASSES[0] / "val_0.png"
    for name, checkpoint in (("torch", calibrated), ("onnx", exported), ("file", exported / "model.onnx")):
        assert infer(["--checkpoint", str(checkpoint), "--input", str(picture), "--output", str(tmp_path / name),
                      "--view", "multicrop", "--no-calibration"]) == 0
    found, expected, by_file = (json.loads((tmp_path / name / "val_0_result.json").read_text())
                                for name in ("onnx", "torch", "file"))
    assert same(found, expected)
    assert by_file == found


def test_a_command_that_runs_no_export_says_so_of_its_file(exported: Path) -> None:
    with pytest.raises(UserError, match=r"model\.onnx, an exported network; .*name the run it was exported from"):
        read_checkpoint(exported / "model.onnx")


def test_a_gallery_of_the_checkpoint_is_searched(calibrated: Path, exported: Path, data_set: Path,
                                                 tmp_path: Path) -> None:
    assert build_gallery(["--images-dir", str(data_set / "train"), "--gallery", str(tmp_path / "gallery"),
                          "--checkpoint", str(calibrated)]) == 0
    for name, checkpoint in (("torch", calibrated), ("onnx", exported)):
        assert infer(["--mode", "search", "--gallery", str(tmp_path / "gallery"), "--checkpoint", str(checkpoint),
                      "--input", str(data_set / "val"), "--output", str(tmp_path / name)]) == 0
    assert same(records(tmp_path / "onnx"), records(tmp_path / "torch"))


def test_a_resumed_run_keeps_its_backend(calibrated: Path, exported: Path, data_set: Path, tmp_path: Path,
                                         capsys) -> None:
    flags = ["--input", str(data_set / "val"), "--output", str(tmp_path), "--shard", "1/2", "--batch-size", "4",
             "--no-calibration"]
    assert infer(["--checkpoint", str(exported), *flags]) == 0
    assert infer(["--checkpoint", str(calibrated), *flags, "--resume"]) == 2
    assert infer(["--checkpoint", str(exported), *flags, "--resume"]) == 0
    assert "precision" in capsys.readouterr().err


def test_several_labels_and_a_hub_name(data_set: Path, exported: Path, tmp_path: Path, monkeypatch) -> None:
    run, folder = write_run(tmp_path / "run", "multilabel"), tmp_path / "labels"
    (run / "thresholds.csv").write_text("class_id,class_name,threshold,ap,f1\n" + "".join(
        f"{number},{name},0.{number},1,1\n" for number, name in enumerate(CLASSES)))
    assert export(["--checkpoint", str(run), "--output", str(folder)]) == 0
    fill_repository(tmp_path / "cache", "someone/labels", folder)
    use_hub_cache(monkeypatch, tmp_path / "cache")
    answers = []
    for name, *flags in (("torch", str(run)), ("onnx", "hf-hub:someone/labels", "--backend", "onnx")):
        output = tmp_path / f"{name}.json"
        assert predict(["--checkpoint", *flags, "--inputs", str(data_set / "val"), "--recursive", "--output",
                        str(output), "--threshold", "trained", "--normalize-ratio", "--num-classes", "3"]) == 0
        answers.append(json.loads(output.read_text()))
    assert same(answers[1], answers[0])
    assert any(answers[0][0]["labels"])


@pytest.mark.parametrize(("flags", "message"), [
    (["--compile"], "--compile for a network that runs in onnx"),
    (["--amp", "bf16"], "--amp bf16 for a network"),
    (["--device", "cuda"], "--device cuda for a network"),
    (["--model", "resnet18"], "--model for a network"),
    (["--mode", "cluster", "--feature-kind", "style"], "--feature-kind style for"),
    (["--num-classes", "4"], "--num-classes 4 for"),
    (["--explain", "maps"], "--explain with the exported network"),
    (["--class-csv", "other.csv"], "other.csv, which contradicts"),
    (["--backend", "torch"], "only inference_artist.py and predict_artist_multilabel.py take exported networks")])
def test_flags_that_do_not_fit_are_refused(exported: Path, data_set: Path, tmp_path: Path, monkeypatch, capsys,
                                           flags: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("class_id,class_name\n0,a\n1,b\n2,c\n")
    assert infer(["--checkpoint", str(exported), "--input", str(data_set / "val"), "--output", "out", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("found ") == 1
    assert not [*tmp_path.rglob("*.json")]


def test_what_is_no_export_or_lacks_something_is_named(calibrated: Path, exported: Path, data_set: Path, tmp_path: Path,
                                                       monkeypatch, capsys) -> None:
    def fails(checkpoint: Path, *flags: str) -> str:
        assert infer(["--checkpoint", str(checkpoint), "--input", str(data_set / "val"), "--output",
                      str(tmp_path / "out"), *flags]) == 2
        return capsys.readouterr().err

    assert "which holds no exported network" in fails(calibrated, "--backend", "onnx")
    broken = tmp_path / "broken"
    shutil.copytree(exported, broken)
    (broken / "calibration.npz").unlink()
    assert "calibration.npz" in fails(broken)
    (broken / "model.onnx").write_bytes(b"x" * 100)
    assert "damaged" in fails(broken, "--no-calibration")
    monkeypatch.setattr(export_folder, "find_spec", lambda name: None)
    assert "pip install -r requirements-export.txt" in fails(exported)
