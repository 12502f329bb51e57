"""--checkpoint hf-hub:OWNER/NAME brings all that belongs to the answers of the folder it names; from a fake cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from inference_artist import main as infer
from predict_artist_multilabel import main as predict
from tests.hub_cache import fill_repository, use_hub_cache
from tests.small_runs import CLASSES, write_run
from tools.calibrate import main as calibrate
from tools.evaluate_retrieval import main as evaluate


def plain(run: Path, folder: Path) -> Path:
    """A folder with those files of `run` that a repository on the hub has, and no others."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "calibration.json", "calibration.npz", "thresholds.csv"):
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    return folder


def test_a_hub_name_brings_names_calibration_and_its_score(data_set: Path, tmp_path: Path, monkeypatch) -> None:
    run, pictures = write_run(tmp_path / "run"), data_set / "val"
    assert calibrate(["--checkpoint", str(run), "--data-path", str(data_set), "--score", "mahalanobis",
                      "--error-rate", "0.4"]) == 0
    assert (run / "calibration.npz").is_file()
    fill_repository(tmp_path / "cache", "someone/artists", plain(run, tmp_path / "plain"))
    use_hub_cache(monkeypatch, tmp_path / "cache")
    assert infer(["--checkpoint", str(run), "--input", str(pictures), "--output", str(tmp_path / "here")]) == 0
    for number, name in enumerate(("hf-hub:someone/artists", "hf_hub:someone/artists@main/model.safetensors")):
        output = tmp_path / f"hub_{number}"
        assert infer(["--checkpoint", name, "--input", str(pictures), "--output", str(output)]) == 0
        records = json.loads((output / "batch_results.json").read_text())
        assert records == json.loads((tmp_path / "here" / "batch_results.json").read_text())
        assert {record["classification"][0]["class_name"] for record in records.values()} <= {*CLASSES}
        assert all("verdict" in record for record in records.values())


def test_a_hub_name_brings_thresholds(data_set: Path, tmp_path: Path, monkeypatch) -> None:
    run, output = write_run(tmp_path / "run", "multilabel"), tmp_path / "labels.json"
    (run / "thresholds.csv").write_text("class_id,class_name,threshold,ap,f1\n" + "".join(
        f"{number},{name},{int(number != 1)},1,1\n" for number, name in enumerate(CLASSES)))
    fill_repository(tmp_path / "cache", "someone/labels", plain(run, tmp_path / "plain"))
    use_hub_cache(monkeypatch, tmp_path / "cache")
    assert predict(["--checkpoint", "hf-hub:someone/labels", "--inputs", str(data_set / "val" / CLASSES[0]), "--output",
                    str(output), "--threshold", "trained"]) == 0
    records = json.loads(output.read_text())
    assert len(records) == 4
    assert all([label["label"] for label in record["labels"]] == [CLASSES[1]] for record in records)


@pytest.mark.parametrize(("command", "flag", "named"), [
    (evaluate, "--images-dir", "hf-hub:someone/nothing, which cannot be downloaded"),
    (calibrate, "--data-path", "hf-hub:someone/nothing, beside which nothing can be written")])
def test_what_cannot_be_done_with_a_hub_name_is_said(command: Callable[[list[str]], int], flag: str, named: str,
                                                     data_set: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    use_hub_cache(monkeypatch, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert command(["--checkpoint", "hf-hub:someone/nothing", flag, str(data_set)]) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("found ") == 1
    assert not [*tmp_path.rglob("*.json")]


def test_trained_thresholds_must_be_there(data_set: Path, tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "run", "multilabel")
    assert predict(["--checkpoint", str(run), "--inputs", str(data_set / "val"), "--recursive", "--output",
                    str(tmp_path / "labels.json"), "--threshold", "trained"]) == 2
    assert "thresholds.csv" in capsys.readouterr().err
    assert not (tmp_path / "labels.json").exists()
