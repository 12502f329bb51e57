"""The benchmark of a folder runs as documented; its figures are tested from given durations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.pipeline import PipelineSpeed, Round
from tools.bench_inference import main


def test_it_prints_both_rates_and_the_bound(trained: Path, data_set: Path, run_script) -> None:
    done = run_script("tools/bench_inference.py", "--checkpoint", trained / "model_best.pth", "--input",
                      data_set / "val", "--pictures", 20, "--rounds", 1, "--batch-size", 4, "--workers", 0)
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^(\S+ ?\S+) +\d+\.\d", done.stdout, re.MULTILINE)
    assert lines == ["plain loop", "pipeline", "bound", "reached"]


def test_figures_by_hand() -> None:
    rounds = [Round(plain=0.04, pipeline=0.02, decoding=0.01, network=0.02),
              Round(plain=0.09, pipeline=0.03, decoding=0.01, network=0.02),
              Round(plain=0.04, pipeline=0.025, decoding=0.02, network=0.02)]
    found = PipelineSpeed(cores=2, rounds=rounds)
    assert found.rate("plain") == pytest.approx(25)
    assert found.times_as_fast == pytest.approx(2)
    assert found.bound == pytest.approx(2 / 0.03)
    assert found.share == pytest.approx(0.75)  # 0.75, 0.5 and 0.8 of the bounds of their rounds


def test_fewer_pictures_than_a_batch_are_told(trained: Path, data_set: Path, capsys) -> None:
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--input", str(data_set / "val")]) == 2
    assert "12 pictures" in capsys.readouterr().err


def test_a_damaged_picture_is_told(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    for number, picture in enumerate(sorted((data_set / "val").rglob("*.png"))[:4]):
        (tmp_path / f"{number}.png").write_bytes(picture.read_bytes()[:50 if number == 1 else None])
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--input", str(tmp_path), "--batch-size", "4"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "1.png" in error
