"""tools/push_to_hub.py: a folder that every reader takes, an upload of the same files, and no token in any message."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch

from export.hub import _words
from inference.predictor import Predictor
from tests.conftest import Completed
from tests.small_runs import CLASSES, write_run
from tools.push_to_hub import main

TOKEN = "hf_secret"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated run with several labels' thresholds."""
    folder = write_run(tmp_path_factory.mktemp("shared") / "run", "multilabel")
    fingerprint = Predictor.from_checkpoint(folder, device="cpu").fingerprint
    (folder / "calibration.json").write_text(json.dumps({
        "fingerprint": fingerprint, "view": "multicrop", "temperature": 0.25, "confident": 0.9, "possible": 0.1,
        "error_rate": 0.05}))
    (folder / "thresholds.csv").write_text("class_id,class_name,threshold,ap,f1\n" + "".join(
        f"{number},{name},0.5,1,1\n" for number, name in enumerate(CLASSES)))
    (folder / "train_log.txt").write_text("private")
    return folder


def write_export(run: Path, folder: Path, fingerprint: str) -> Path:
    """The files of an exported network, but for the network itself."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a network")
    (folder / "preprocess.json").write_text("{}")
    config = json.loads((run / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"export": {
        "format": "lsnet-export-1", "backend": "onnx", "precision": "fp32", "fingerprint": fingerprint,
        "feature_kind": "pooled", "feature_blocks": [256]}}))
    return folder


def test_the_folder_is_whole_and_loads_everywhere(run: Path, tmp_path: Path,
                                                  run_script: Callable[..., Completed]) -> None:
    fingerprint = Predictor.from_checkpoint(run, device="cpu").fingerprint
    export = write_export(run, tmp_path / "export", fingerprint)
    done = run_script("tools/push_to_hub.py", "--checkpoint", run / "model_best.pth", "--repository", "someone/artists",
                      "--export", export, "--dry-run", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith("--repository someone/artists")
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir() if not path.name.startswith(".")} == {
        "README.md", "config.json", "model.safetensors", "class_mapping.csv", "calibration.json", "thresholds.csv",
        "model.onnx", "preprocess.json"}
    assert json.loads((out / "config.json").read_text())["export"]["fingerprint"] == fingerprint
    ours = Predictor.from_checkpoint(out, device="cpu")
    assert (ours.fingerprint, ours.classes, ours.task) == (fingerprint, CLASSES, "multilabel")
    images = torch.rand(2, 3, 32, 32)
    network = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
    assert torch.equal(network(images), timm.create_model(f"local-dir:{run}", pretrained=True).eval()(images))
    card = (out / "README.md").read_text(encoding="utf-8")
    for expected in ("hf-hub:someone/artists", "predict_artist_multilabel.py", "onnxruntime", "Not stated", *CLASSES):
        assert expected in card
    assert [_words(name) for name in ("macro_map", "micro_f1", "share_error", "coverage")] == [
        "macro mAP, %", "micro F1, %", "error of a share, mean",
        "labels to list, the best first, until all of a picture are, mean"]
    assert "license:" not in [line[:8] for line in card.splitlines()]


def test_the_card_tells_how_well_it_does(trained: Path, tmp_path: Path) -> None:
    assert main(["--checkpoint", str(trained), "--repository", "a/b", "--dry-run", str(tmp_path / "out")]) == 0
    best = torch.load(trained / "model_best.pth", weights_only=True)["best_metric"]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert f"| top-1, % | {best:.3f} |" in card
    assert "balanced accuracy, %" in card
    assert not [line for line in card.splitlines() if line.startswith("|") and "_" in line]
    assert "onnxruntime" not in card


def test_what_is_uploaded_is_the_folder(run: Path, monkeypatch, capsys) -> None:
    sent = {}
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo",
                        lambda self, name, private, exist_ok: sent.update(name=name, private=private) or f"hub/{name}")
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda self, folder_path, **flags: sent.update(
        files={path.name for path in folder_path.iterdir()}, repository=flags["repo_id"]))
    assert main(["--checkpoint", str(run), "--repository", "someone/artists", "--private"]) == 0
    assert sent == {"name": "someone/artists", "private": True, "repository": "someone/artists", "files": {
        "README.md", "config.json", "model.safetensors", "class_mapping.csv", "calibration.json", "thresholds.csv"}}
    assert "uploaded: hub/someone/artists" in capsys.readouterr().out


def test_no_token_is_printed(run: Path, monkeypatch, capsys) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(f"401 for Bearer {TOKEN}\nRequest ID")

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    assert main(["--checkpoint", str(run), "--repository", "someone/artists"]) == 2
    told = capsys.readouterr()
    assert "nothing was uploaded (401 for Bearer …" in told.err
    assert told.err.count("\n") == 1
    assert TOKEN not in told.err + told.out


@pytest.mark.parametrize(("offline", "token", "name", "message"), [
    (True, TOKEN, "a/b", "HF_HUB_OFFLINE"), (False, None, "a/b", "no token of the Hugging Face hub"),
    (False, TOKEN, "a b", "--repository a b")])
def test_what_keeps_from_uploading_is_said_first(run: Path, monkeypatch, capsys, offline: bool, token: str | None,
                                                 name: str, message: str) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: token)
    assert main(["--checkpoint", str(run), "--repository", name]) == 2
    assert message in capsys.readouterr().err


def test_files_of_another_network_are_not_shared(run: Path, tmp_path: Path, capsys) -> None:
    def fails(checkpoint: Path, *flags: str) -> str:
        assert main(["--checkpoint", str(checkpoint), "--repository", "a/b", "--dry-run", str(tmp_path / "out"),
                     *flags]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    assert "exported from another network" in fails(run, "--export", str(write_export(run, tmp_path / "export", "f")))
    other = tmp_path / "run"
    shutil.copytree(run, other)
    shutil.copyfile(other / "model_best.pth", other / "checkpoint_1.pth")
    assert "not the best checkpoint of a run" in fails(other / "checkpoint_1.pth")
    changed = json.loads((other / "calibration.json").read_text()) | {"fingerprint": "x"}
    (other / "calibration.json").write_text(json.dumps(changed))
    assert "belongs to another network" in fails(other)
