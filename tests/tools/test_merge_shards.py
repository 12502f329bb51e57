"""Shards as users run them on several machines, and put together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inference_artist import main as infer
from tools.build_gallery import main as build
from tools.merge_shards import main


@pytest.fixture(scope="module")
def parts(trained: Path, data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("parts")
    for shard in ("1/2", "2/2"):
        assert infer(["--mode", "both", "--checkpoint", str(trained / "model_best.pth"), "--input",
                      str(data_set / "val"), "--output", str(output), "--batch-size", "3", "--workers", "0", "--shard",
                      shard]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["shard_1_of_2", "shard_2_of_2"]
    return output


def test_the_documented_command_gives_the_undivided_runs_files(parts: Path, trained: Path, data_set: Path,
                                                               tmp_path: Path, run_script) -> None:
    done = run_script("tools/merge_shards.py", "--input", parts, "--output", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert "12 of 12 pictures from 2 shards" in done.stdout
    assert infer(["--mode", "both", "--checkpoint", str(trained / "model_best.pth"), "--input", str(data_set / "val"),
                  "--output", str(tmp_path / "whole"), "--batch-size", "3", "--workers", "0"]) == 0
    for name in ("batch_results.json", "features.npy", "image_names.txt"):
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_formats_are_chosen_when_merging(parts: Path, tmp_path: Path) -> None:
    assert main(["--input", str(parts), "--output", str(tmp_path), "--format", "jsonl", "--features-format",
                 "npz"]) == 0
    lines = (tmp_path / "batch_results.jsonl").read_text().splitlines()
    with np.load(tmp_path / "features.npz") as archive:
        assert [json.loads(line)["image"] for line in lines] == archive["image_names"].tolist()


@pytest.mark.parametrize("mode", ["classify", "cluster", "search"])
def test_merged_shards_have_the_files_of_an_undivided_run_in_every_mode(trained: Path, data_set: Path, tmp_path: Path,
                                                                        mode: str) -> None:
    common = ["--mode", mode, "--checkpoint", str(trained / "model_best.pth"), "--input", str(data_set / "val"),
              "--batch-size", "4", "--workers", "0"]
    if mode == "search":
        assert build(["--images-dir", str(data_set / "train"), "--checkpoint", str(trained / "model_best.pth"),
                      "--gallery", str(tmp_path / "gallery"), "--workers", "0"]) == 0
        common += ["--gallery", str(tmp_path / "gallery")]
    for shard in ("1/2", "2/2"):
        assert infer([*common, "--output", str(tmp_path / "parts"), "--shard", shard]) == 0
    assert infer([*common, "--output", str(tmp_path / "whole")]) == 0
    assert main(["--input", str(tmp_path / "parts"), "--output", str(tmp_path / "merged")]) == 0
    merged, whole = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
                     for name in ("merged", "whole"))
    assert merged == whole
    assert ("features.npy" in whole) == (mode == "cluster")


def test_nothing_to_merge_gets_one_line(tmp_path: Path, capsys) -> None:
    assert main(["--input", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
