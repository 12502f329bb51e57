"""A folder's inference tells what it found, and where it wrote without --output; sub-folders left out are counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import inference_artist
import predict_artist_multilabel
from evaluation.calibration import Calibration
from inference.predictor import Predictor


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained network in the current folder, `run/`, calibrated so that all its answers are possible."""
    folder = Path(shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint.pth")))
    fingerprint = Predictor.from_checkpoint(folder / "model_best.pth", device="cpu").fingerprint
    Calibration(fingerprint=fingerprint, view="default", temperature=1.0, confident=1.1, possible=0.0,
                error_rate=0.05).write(folder / "calibration.json", {})
    monkeypatch.chdir(tmp_path)
    return folder


def infer(source: Path) -> int:
    return inference_artist.main(["--checkpoint", "run/model_best.pth", "--input", str(source), "--workers", "0"])


def test_a_folder_is_summed_up_and_its_results_lie_in_results(run: Path, data_set: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(data_set / "val") == 0
    records = json.loads(Path("results/val/batch_results.json").read_text(encoding="utf-8"))
    named = [record["classification"][0]["class_name"] for record in records.values()]
    right = sum(name.partition("/")[0] == artist for name, artist in zip(records, named, strict=True))
    ranked = sorted(set(named), key=lambda artist: (-named.count(artist), artist))
    out = capsys.readouterr().out
    assert "\n".join((f"artists: {', '.join(f'{artist} ({named.count(artist)})' for artist in ranked)}",
                      "verdicts: 0 confident, 12 possible, 0 unknown",
                      f"right: {right} of 12 ({right / 12:.1%}), where the folder is a known artist\n")) in out
    assert f"results are in {Path('results', 'val')}" in out


def test_a_picture_without_output_has_a_folder_in_results(run: Path, data_set: Path) -> None:
    assert infer(data_set / "val" / "artist_0" / "val_0.png") == 0
    assert Path("results/val_0/val_0_result.json").is_file()


def test_where_results_cannot_be_a_folder_nothing_begins(run: Path, data_set: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").write_text("mine")
    assert infer(data_set / "val") == 2
    assert f"--output {Path('results', 'val')}, where results is a file" in capsys.readouterr().err


def test_pictures_in_sub_folders_are_counted_and_the_flag_is_named(
        data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict_artist_multilabel.main(["--checkpoint", "x.pth", "--input", str(data_set / "val"), "--output",
                                           str(tmp_path / "labels.json")]) == 2
    assert "passed over: 12 (a picture in a sub-folder, without --recursive): artist_0/" in capsys.readouterr().out
