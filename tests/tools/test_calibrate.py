"""Calibration as users run it, and what inference then says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference_artist import main as infer
from tests.pictures import stroke_picture
from tools.calibrate import main


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained network, in a folder that may be written to."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    folder.mkdir()
    shutil.copyfile(trained / "model_best.pth", folder / "model_best.pth")
    return folder


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outside") / "stranger"
    folder.mkdir()
    for number in range(4):
        stroke_picture(number, np.random.default_rng(number)).rotate(20).save(folder / f"{number}.png")
    return folder.parent


@pytest.fixture(scope="module")
def told(run: Path, data_set: Path, outside: Path, run_script) -> str:
    done = run_script("tools/calibrate.py", "--checkpoint", run / "model_best.pth", "--data-path", data_set,
                      "--unknown-dir", outside, "--error-rate", 0.1, "--workers", 0)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_figures_are_printed_and_written(run: Path, told: str) -> None:
    content = json.loads((run / "calibration.json").read_text())
    figures = content["figures"]
    assert (figures["pictures"], figures["outside_pictures"], content["error_rate"]) == (12, 4, 0.1)
    assert f"ECE {figures['ece_before']:.4f} before, {figures['ece_after']:.4f} after" in told
    assert f"AUROC {figures['auroc']:.4f}, FPR at 95 % TPR {figures['fpr95']:.4f}" in told
    assert all(sum(column) == pytest.approx(1) or sum(column) == 0
               for column in zip(*figures["verdicts"].values(), strict=True))
    with Image.open(run / "calibration.png") as drawing:
        assert drawing.format == "PNG"


def test_inference_adds_what_was_learnt(run: Path, told: str, data_set: Path, tmp_path: Path, capsys) -> None:
    common = ["--checkpoint", str(run / "model_best.pth"), "--workers", "0"]
    assert infer([*common, "--input", str(data_set / "val"), "--output", str(tmp_path)]) == 0
    records = json.loads((tmp_path / "batch_results.json").read_text())
    content = json.loads((run / "calibration.json").read_text())
    for record in records.values():
        raw, calibrated = (np.array([entry[key] for entry in record["classification"]])
                           for key in ("probability", "calibrated_probability"))
        scaled = raw ** (1 / content["temperature"])
        np.testing.assert_allclose(calibrated, scaled / scaled.sum(), rtol=1e-3)
        assert record["verdict"] in ("confident", "possible", "unknown")
    assert infer([*common, "--input", str(data_set / "val" / "artist_0" / "val_0.png"), "--output", str(tmp_path)]) == 0
    assert "verdict: " in capsys.readouterr().out
    assert infer([*common, "--input", str(data_set / "val"), "--output", str(tmp_path), "--no-calibration"]) == 0
    assert "verdict" not in (tmp_path / "batch_results.json").read_text()


def test_sub_folders_belong_to_the_first_folder_and_loose_pictures_to_nobody(run: Path, told: str, data_set: Path,
                                                                             tmp_path: Path, capsys) -> None:
    before = (run / "calibration.json").read_bytes()
    for folder in (data_set / "val").iterdir():
        shutil.copytree(folder, tmp_path / "val" / folder.name / "early" / "artist_0")
    shutil.copyfile(data_set / "val" / "artist_0" / "val_0.png", tmp_path / "val" / "loose.png")
    shutil.copytree(data_set / "val" / "artist_1", tmp_path / "val" / "@eaDir")
    shutil.copytree(data_set / "val" / "artist_1", tmp_path / "val" / "drafts")
    arguments = ["--checkpoint", str(run / "model_best.pth"), "--data-path", str(tmp_path), "--error-rate", "0.1",
                 "--workers", "0", "--exclude", "draft?"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "passed over: 1 (a picture in no artist's folder): loose.png" in printed
    assert "passed over: 1 (a system folder): @eaDir" in printed
    assert "passed over: 1 (--exclude): drafts" in printed
    figures = [json.loads(content)["figures"] for content in (before, (run / "calibration.json").read_bytes())]
    assert figures[1]["accuracy"] == figures[0]["accuracy"]
    assert figures[1]["pictures"] == 12
    (run / "calibration.json").write_bytes(before)


@pytest.mark.parametrize("score", ["energy", "mahalanobis"])
def test_verdicts_go_by_the_score(run: Path, data_set: Path, tmp_path: Path, run_script, score: str) -> None:
    own = tmp_path / "run"
    own.mkdir()
    shutil.copyfile(run / "model_best.pth", own / "model_best.pth")
    done = run_script("tools/calibrate.py", "--checkpoint", own / "model_best.pth", "--data-path", data_set,
                      "--error-rate", 0.3, "--score", score, "--workers", 0)
    assert done.returncode == 0, done.stderr
    content = json.loads((own / "calibration.json").read_text())
    assert content["score"] == score
    assert (own / "calibration.npz").exists() == (score == "mahalanobis")
    shares = content["figures"]["verdicts"]
    for mode in ("classify", "both"):
        output = tmp_path / mode
        assert infer(["--checkpoint", str(own / "model_best.pth"), "--workers", "0", "--input", str(data_set / "val"),
                      "--output", str(output), "--mode", mode]) == 0
        records = json.loads((output / "batch_results.json").read_text())
        verdicts = [record["verdict"] for record in records.values()]
        right = [record["classification"][0]["class_name"] == name.split("/")[0] for name, record in records.items()]
        for verdict, (share_right, share_wrong, _) in shares.items():
            assert verdicts.count(verdict) == round(share_right * sum(right) + share_wrong * (12 - sum(right)))
        if mode == "both":  # features are those that were asked for, not those of the score
            features = np.load(output / "features.npy")
            assert features.shape[1] == len(next(iter(records.values()))["features"])
    plain = tmp_path / "plain"
    assert infer(["--checkpoint", str(own / "model_best.pth"), "--workers", "0", "--input", str(data_set / "val"),
                  "--output", str(plain), "--mode", "both", "--no-calibration"]) == 0
    np.testing.assert_allclose(np.load(plain / "features.npy"), features, rtol=1e-4, atol=1e-5)


def test_without_training_pictures_the_score_is_the_probability(run: Path, data_set: Path, tmp_path: Path,
                                                                capsys) -> None:
    shutil.copyfile(run / "model_best.pth", tmp_path / "model_best.pth")
    shutil.copytree(data_set / "val", tmp_path / "data" / "val")
    arguments = ["--checkpoint", str(tmp_path / "model_best.pth"), "--data-path", str(tmp_path / "data"), "--workers",
                 "0"]
    assert main(arguments) == 0
    assert "score" not in json.loads((tmp_path / "calibration.json").read_text())
    assert not (tmp_path / "calibration.npz").exists()
    capsys.readouterr()
    assert main([*arguments, "--score", "style"]) == 2
    assert "--score style without the pictures that it learns from" in capsys.readouterr().err


def test_another_view_is_refused(run: Path, told: str, data_set: Path, tmp_path: Path, capsys) -> None:
    assert infer(["--checkpoint", str(run / "model_best.pth"), "--input", str(data_set / "val"), "--output",
                  str(tmp_path / "out"), "--view", "multicrop"]) == 2
    assert "--no-calibration" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--data-path", "nowhere"], "no folder"), (["--unknown-dir", "{data}/val"], "bears the name of an artist"),
    (["--unknown-dir", "{data}/train/nothing"], "nothing"),
    (["--data-path", "{more}"], "of the network (stranger)"),
    (["--error-rate", "1"], "--error-rate 1")])
def test_bad_input_gets_one_line(trained: Path, data_set: Path, tmp_path: Path, capsys, arguments: list[str],
                                 expected: str) -> None:
    shutil.copytree(data_set / "val" / "artist_0", tmp_path / "val" / "stranger")
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--data-path", str(data_set), "--workers", "0",
                 *(argument.format(data=data_set, more=tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert expected in error
    assert not (trained / "calibration.json").exists()
