"""Training on several processes: the same numbers as on one, and an end when one of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from runtime.checkpoint import read_checkpoint
from tests import forked
from tests.conftest import ROOT
from tests.forked import UNDRAWN, Script, finish, start_ranks
from tests.pictures import write_data_set

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="torchrun's tests use POSIX signals")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# No batch norm, so that the pictures of a batch do not see each other.
FLAGS = ("--model", "test_vit", "--input-size", "32", "--num-workers", "0")


def launch(processes: int, data: Path, output: Path, *more: object) -> list[Script]:
    return start_ranks(processes, "train_artist_style.py", *FLAGS, "--data-path", data, "--output-dir", output, *more,
                       cwd=data.parent, env=UNDRAWN)


def torchrun(data: Path, output: Path, *more: object, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
               f"--max-restarts={restarts}", str(ROOT / "train_artist_style.py"), *FLAGS, "--data-path", str(data),
               "--output-dir", str(output), *map(str, more)]
    return subprocess.Popen(command, cwd=data.parent, env=ENVIRONMENT, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures to train, 13 to validate: 5 batches of 3, which neither 2 nor 3 ranks share evenly."""
    root = write_data_set(tmp_path_factory.mktemp("distributed") / "data", size=32)
    extra = root / "val" / "artist_0" / "val_9.png"
    extra.write_bytes((root / "val" / "artist_1" / "val_0.png").read_bytes())
    return root


LONG_TAILS = ["--contrastive-weight", 0.5, "--sampler", "balanced", "--freeze-backbone"]


@pytest.mark.parametrize(("epochs", "flags"), [
    (2, [*LONG_TAILS, 1]),  # of which the plain loss is a part
    pytest.param(7, [], marks=pytest.mark.exhaustive),
    pytest.param(4, [*LONG_TAILS, 2], marks=pytest.mark.exhaustive)])
def test_two_processes_learn_what_one_learns(data: Path, tmp_path: Path, epochs: int, flags: list) -> None:
    for processes, batch_size in ((1, 8), (2, 4)):
        told = finish(launch(processes, data, tmp_path / str(processes), "--epochs", epochs, "--batch-size", batch_size,
                             *flags))
        assert told.count(f"epoch {epochs}/{epochs} loss") == 1, "one process speaks"
    one, two = records(tmp_path / "1"), records(tmp_path / "2")
    assert len(one) == epochs
    for a, b in zip(one, two, strict=True):  # 3 updates each
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-5)
        assert a["val_top1"] == b["val_top1"]
    one, two = (read_checkpoint(tmp_path / name / "checkpoint.pth").model for name in "12")
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4


@pytest.mark.parametrize("shares", [
    ((2, "--no-dist-eval"), (3, "--dist-eval")), pytest.param(((2, "--dist-eval"),), marks=pytest.mark.exhaustive)])
def test_the_evaluation_is_the_same_however_it_is_shared(data: Path, tmp_path: Path,
                                                         shares: tuple[tuple[int, str], ...]) -> None:
    common = ["--epochs", 1, "--lr", "1e-9", "--warmup-epochs", 0, "--seed", 3]
    finish(launch(1, data, tmp_path / "1", *common, "--batch-size", 3))
    checkpoint = tmp_path / "1" / "model_best.pth"
    lines = []
    for processes, share in shares:
        told = finish(launch(processes, data, tmp_path / "unused", "--eval", "--resume", checkpoint, share,
                             "--batch-size", 3))
        lines += re.findall(r"^\* top-1 .*$", told, re.MULTILINE)
    expected = re.findall(r"^\* top-1 .*$", (tmp_path / "1" / "train_log.txt").read_text(), re.MULTILINE)
    assert len(expected) == 1
    assert lines == expected * len(shares)


def test_a_run_goes_on_with_other_numbers_of_processes(data: Path, tmp_path: Path) -> None:
    finish(launch(2, data, tmp_path, "--epochs", 3, "--batch-size", 4))
    whole = read_checkpoint(tmp_path / "checkpoint.pth").content
    ranks = launch(2, data, tmp_path / "broken", "--epochs", 3, "--batch-size", 4, "--log-every", 1)
    while "epoch 2/3 update 1" not in (line := ranks[0].stdout.readline()):
        assert line, "the run ended before it could be stopped"
    ranks[1].send_signal(signal.SIGTERM)  # both agree to stop
    for rank in ranks:
        rank.communicate(60)
        assert rank.returncode == 128 + signal.SIGTERM
    stopped = read_checkpoint(tmp_path / "broken" / "checkpoint.pth").content
    assert stopped["epoch"] in (1, 2), "in the middle of the second epoch, or at its end"
    finish(launch(1, data, tmp_path / "broken", "--epochs", 3, "--batch-size", 8, "--resume", "auto"))
    resumed = read_checkpoint(tmp_path / "broken" / "checkpoint.pth").content
    assert resumed["epoch"] == 3
    assert max((whole["model"][key] - resumed["model"][key]).abs().max().item() for key in whole["model"]) < 1e-4


@pytest.mark.exhaustive
def test_a_process_that_dies_ends_the_run_and_a_new_start_finishes_it(data: Path, tmp_path: Path) -> None:
    flags = ["--epochs", 25, "--batch-size", 4, "--resume", "auto", "--log-every", 0]
    process = torchrun(data, tmp_path, *flags)
    kill_a_rank(process, tmp_path)
    told, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "exitcode: -9" in told or "SIGKILL" in told, "the launcher gives the reason"
    finish(launch(2, data, tmp_path, *flags))
    assert [record["epoch"] for record in records(tmp_path)] == list(range(1, 26))


@pytest.mark.exhaustive
def test_the_launcher_restarts_a_run_that_lost_a_process(data: Path, tmp_path: Path) -> None:
    process = torchrun(data, tmp_path, "--epochs", 25, "--batch-size", 4, "--resume", "auto", restarts=1)
    kill_a_rank(process, tmp_path)
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 0, told
    assert "resumed" in told
    assert [record["epoch"] for record in records(tmp_path)] == list(range(1, 26))


def kill_a_rank(process: subprocess.Popen[str], output: Path) -> None:
    """Kill the second process of a run once it has saved an epoch."""
    while "epoch 2/" not in (line := process.stdout.readline()):
        assert line, "the run ended before a process could be killed"
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True,
                              check=True).stdout.split()
    os.kill(max(map(int, children)), signal.SIGKILL)


@pytest.mark.exhaustive
def test_the_launch_script_takes_the_number_of_processes_and_passes_flags_on(data: Path, tmp_path: Path) -> None:
    def start(*arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run(["bash", str(ROOT / "run_multigpu_linux.sh"), *map(str, arguments)], cwd=tmp_path,
                              env=ENVIRONMENT, capture_output=True, text=True, check=False)

    done = start(2, *FLAGS, "--device", "cpu", "--data-path", data, "--output-dir", "run", "--epochs", 1,
                 "--batch-size", 4)
    assert done.returncode == 0, done.stderr
    assert "2 processes, connected by gloo" in done.stdout
    assert (tmp_path / "run" / "model_best.pth").exists()


def test_the_environment_form_needs_all_of_its_variables(data: Path, tmp_path: Path) -> None:
    done = forked.run("train_artist_style.py", *FLAGS, "--data-path", data, cwd=tmp_path,
                      env={"WORLD_SIZE": "2", "RANK": "0"})
    assert done.returncode == 2
    assert "MASTER_ADDR" in done.stderr


@pytest.mark.gpu
def test_a_gpu_run_talks_through_nccl(data: Path, tmp_path: Path) -> None:
    told = finish(launch(torch.cuda.device_count(), data, tmp_path, "--epochs", 1, "--batch-size", 4))
    assert "cuda" in told
