"""The trainer, stopped and killed: every file it leaves loads, and the resumed run ends as the unbroken one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from runtime.checkpoint import read_checkpoint
from tests.forked import UNDRAWN, Script

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="POSIX signals")]


def start(data_set: Path, output: Path, epochs: int) -> Script:
    return Script("train_artist_style.py", "--model", "test_efficientnet", "--data-path", data_set, "--output-dir",
                  output, "--input-size", 32, "--batch-size", 8, "--num-workers", 1, "--epochs", epochs, "--resume",
                  "auto", cwd=output.parent, env=UNDRAWN)


def test_sigterm_saves_and_the_resumed_run_ends_with_the_same_bits(data_set: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(data_set, whole, 3).wait(300) == 0
    process = start(data_set, broken, 3)
    while "epoch 1/3" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert read_checkpoint(broken / "checkpoint.pth").content["epoch"] in (1, 2)
    assert start(data_set, broken, 3).wait(300) == 0
    for name in ("checkpoint.pth", "model_best.pth"):
        one, other = (read_checkpoint(folder / name).content for folder in (whole, broken))
        assert one["best_metric"] == other["best_metric"]
        assert one["epoch"] == other["epoch"]
        assert all(torch.equal(one["model"][key], other["model"][key]) for key in one["model"])


@pytest.mark.parametrize("moments", [2, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_killed_at_random_moments_every_file_loads_and_the_run_ends(data_set: Path, tmp_path: Path,
                                                                    moments: int) -> None:
    output, rng = tmp_path / "run", random.Random(0)
    for _ in range(moments):
        process = start(data_set, output, 4)
        while process.poll() is None and "pictures to train" not in process.stdout.readline():
            pass
        time.sleep(rng.uniform(0, 1.5))
        process.kill()
        process.wait()
        for path in output.glob("*.pth"):
            assert read_checkpoint(path).model
        for path in output.glob("*.safetensors"):
            assert read_checkpoint(path).model
    assert start(data_set, output, 4).wait(300) == 0
    assert read_checkpoint(output / "checkpoint.pth").content["epoch"] == 4
    epochs = [json.loads(line)["epoch"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert epochs == [1, 2, 3, 4]
