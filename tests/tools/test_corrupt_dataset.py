"""The tool that corrupts a data set, and the artist trainer's --eval on what it makes."""

from __future__ import annotations

import re
from pathlib import Path

import train_artist_style
from tools.corrupt_dataset import main


def test_the_trainer_scores_what_the_tool_makes(data_set: Path, tmp_path: Path, run_script, capsys) -> None:
    done = run_script("tools/corrupt_dataset.py", "--input-dir", data_set / "val", "--output-dir", tmp_path / "hard",
                      "--kinds", "noise", "contrast", "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert "12 pictures in 2 x 5 forms" in done.stdout
    common = ["--data-path", str(data_set), "--num-workers", "0"]
    assert train_artist_style.main(["--model", "test_resnet", "--output-dir", str(tmp_path / "run"), "--input-size",
                                    "32", "--epochs", "1", "--batch-size", "8", *common]) == 0
    losses = {}
    for folder in (data_set, tmp_path / "hard" / "noise" / "1", tmp_path / "hard" / "noise" / "5"):
        assert train_artist_style.main(["--eval", "--resume", str(tmp_path / "run" / "model_best.pth"), *common,
                                        "--data-path", str(folder)]) == 0
        losses[folder.name] = re.findall(r"loss (\d+\.\d+)", capsys.readouterr().out)[-1]
    assert len(set(losses.values())) == 3


def test_damaged_pictures_and_wrong_folders_are_told(tmp_path: Path, capsys) -> None:
    assert main(["--input-dir", str(tmp_path / "nowhere"), "--output-dir", str(tmp_path / "out")]) == 2
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "1.png").write_bytes(b"")
    assert main(["--input-dir", str(tmp_path / "in"), "--output-dir", str(tmp_path / "out"), "--workers", "0"]) == 3
    assert "left out: a/1.png (empty file (0 bytes))" in capsys.readouterr().err
    assert main(["--input-dir", str(tmp_path / "in"), "--output-dir", str(tmp_path / "in" / "a" / "out")]) == 2
    assert main(["--input-dir", str(tmp_path / "in"), "--output-dir", str(tmp_path / "out"), "--kinds", "fog"]) == 2
    assert "--kinds 'fog'" in capsys.readouterr().err
