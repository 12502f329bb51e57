"""A run knows its pictures: gone ones stop it, and it resumes on another data set only where that is accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime.checkpoint import read_checkpoint
from tests.pictures import write_data_set
from train_artist_style import main
from training.engine import Run

FAST = ["--model", "test_efficientnet", "--input-size", "32", "--batch-size", "8", "--num-workers", "0"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "set")


def train(data: Path, run: Path, epochs: int, *more: str) -> int:
    return main(["--data-path", str(data), "--output-dir", str(run), *FAST, "--epochs", str(epochs), "--resume", "auto",
                 *more])


def test_a_changed_data_set_is_resumed_only_where_that_is_accepted(data: Path, tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    assert train(data, run, 1) == 0
    (data / "train" / "artist_0" / "train_3.png").unlink()
    shutil.copy(data / "val" / "artist_1" / "val_0.png", data / "val" / "artist_1" / "new.png")
    before = (run / "checkpoint.pth").read_bytes()
    assert train(data, run, 2) == 2
    assert "lacks 1 picture and has 1 new" in capsys.readouterr().err
    assert (run / "checkpoint.pth").read_bytes() == before
    assert train(data, run, 2, "--accept-changed-data") == 0
    assert "no exact resume" in capsys.readouterr().out
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert read_checkpoint(run / "model_best.pth").content["best_metric"] == records[1]["val_top1"]
    assert train(data, run, 3) == 0  # the pictures of the changed set are the run's own now


def test_a_picture_that_was_trained_on_never_validates(data: Path, tmp_path: Path, capsys) -> None:
    assert train(data, tmp_path / "run", 1) == 0
    shutil.move(data / "train" / "artist_0" / "train_3.png", data / "val" / "artist_0")
    assert train(data, tmp_path / "run", 2, "--accept-changed-data") == 2
    assert "1 picture to validate with" in capsys.readouterr().err


@pytest.mark.parametrize(("side", "epoch"), [("train", 1), ("val", 2)])
def test_pictures_that_vanish_stop_the_run_after_saving(data: Path, tmp_path: Path, monkeypatch, capsys, side: str,
                                                        epoch: int) -> None:
    """Those of the second epoch vanish as it begins: no figure on what is left becomes the best."""
    train_epoch = Run.train_epoch

    def vanish(run: Run, *arguments: object) -> dict[str, float]:
        if run.state.position.epoch == 1:
            for path in sorted((data / side / "artist_2").iterdir())[1:]:
                path.unlink()
        return train_epoch(run, *arguments)

    monkeypatch.setattr(Run, "train_epoch", vanish)
    run = tmp_path / "run"
    assert train(data, run, 3) == 2
    assert "gone since the run began, such as" in capsys.readouterr().err
    assert read_checkpoint(run / "checkpoint.pth").content["epoch"] == epoch
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1
    assert read_checkpoint(run / "model_best.pth").content["epoch"] == 1
    monkeypatch.undo()
    assert train(data, run, 3) == 2
    assert "and has 0 new" in capsys.readouterr().err


def test_a_damaged_picture_is_not_gone(data: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path / "run", 1) == 0
    (data / "train" / "artist_0" / "train_3.png").write_bytes(b"no picture")
    assert train(data, tmp_path / "run", 2) == 0
