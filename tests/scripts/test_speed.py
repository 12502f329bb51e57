"""Table, JSON and plot of a short run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import drawing.plots
import speed
from runtime.options import Workload

SHORT = ("--batch-size", "2", "--resolution", "64", "--device", "cpu", "--rounds", "2", "--seconds", "0.01")


def test_table_json_and_plot(run_script, tmp_path: Path) -> None:
    done = run_script("speed.py", "--model", "lsnet_t:unfold", "test_resnet", *SHORT, "--json",
                      tmp_path / "speed.json", "--plot", tmp_path / "speed.png")
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80  # the last line has a path
    written = json.loads((tmp_path / "speed.json").read_text(encoding="utf-8"))
    assert (written["workload"]["batch_size"], written["workload"]["resolution"]) == (2, 64)
    assert written["machine"]["threads"] > 0
    for record, top1 in zip(written["results"], (74.9, None), strict=True):
        line = next(line for line in done.stdout.splitlines() if line.split()[0] == record["model"])
        assert f" {record['images_per_second']:.1f} " in line
        assert record["images_per_second"] == pytest.approx(2 / record["seconds"])
        assert (record["published_top1"], len(record["rounds"])) == (top1, 2)
        assert record["peak_bytes"] > 0
    assert written["results"][0]["times_as_fast_as_first"] == 1
    with Image.open(tmp_path / "speed.png") as picture:
        assert picture.width > 1000


@pytest.mark.parametrize(("flag", "unit"), [("--latency", "ms/batch"), ("--train", "images/s")])
def test_other_workloads(capsys: pytest.CaptureFixture[str], flag: str, unit: str) -> None:
    assert speed.main(["--model", "test_resnet", flag, *SHORT]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] == unit


@pytest.mark.parametrize("task", ["boxes", "semantic", pytest.param("instances", marks=pytest.mark.slow)])
def test_detectors_and_segmenters(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--task", task, "--rounds", "1", "--seconds", "0.01", "--resolution", "64", "--latency", "--device", "cpu"]
    assert speed.main(["--model", "lsnet_t", "lsnet_t@bfloat16", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "lsnet_t" in line][:2] == ["lsnet_t", "lsnet_t@bfloat16"]
    assert ("train_segmentation.py" if task == "semantic" else "train_detection.py") in lines[-1]
    assert speed.main(["--model", "lsnet_t", *flags, "--train"]) == 2
    assert f"--task {task} with --train" in capsys.readouterr().err


def test_an_unknown_formulation_is_told_before_anything_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--model", "test_resnet", "lsnet_t:plain", *SHORT]) == 2
    error = capsys.readouterr().err
    assert error.startswith("speed.py: found the unknown model lsnet_t:plain; expected")
    assert error.count("\n") == 1


@pytest.mark.parametrize(("how", "title"), [
    ({"batch_size": 8, "resolution": 96}, "inference, batches of 8 at 96 px, float32; a chip, 2 threads"),
    ({"train": True, "dtype": "bfloat16", "compile": True},
     "training, batches of 32 at 224 px, bfloat16, compiled; a chip, 2 threads")])
def test_the_plot_says_what_was_timed_where(monkeypatch: pytest.MonkeyPatch, how: dict, title: str) -> None:
    drawn = []
    monkeypatch.setattr(drawing.plots, "scatter", lambda *what: drawn.append(what))
    record = {"model": "one", "seconds": 0.5, "images_per_second": 8, "parameters": 2e6, "published_top1": None}
    speed.plot([record], Workload(**how), {"device": "a chip", "threads": 2}, Path("speed.png"))
    assert drawn == [({"parameters, M": [("one", 2.0, 8)]}, f"images/s at {how.get('resolution', 224)} px",
                      Path("speed.png"), title)]
