"""train.sh, eval.sh and run_multigpu_linux.sh: the commands they start."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from main import build_parser
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="bash scripts")


def write_echo(path: Path) -> Path:
    """A program that prints its arguments, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    path.chmod(0o755)
    return path


def started(tmp_path: Path, script: str, *arguments: str, **environment: str) -> list[str] | str:
    """The words that `script` would start Python with, or its complaint."""
    echo = write_echo(tmp_path / "python")
    done = subprocess.run(["bash", str(ROOT / script), *arguments], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": str(echo), **environment}, check=False)
    assert done.returncode == (2 if done.stderr else 0)
    return done.stderr or done.stdout.splitlines()


@pytest.mark.parametrize(("model", "recipe"), [
    ("lsnet_t", "--weight-decay 0.025"), ("lsnet_b", "--weight-decay 0.05"),
    ("lsnet_s_distill", "--weight-decay 0.025 --distillation-type hard --teacher-model regnety_160"),
    ("lsnet_b_distill", "--weight-decay 0.05 --distillation-type hard --teacher-model regnety_160")])
def test_training_has_the_published_flags(tmp_path: Path, model: str, recipe: str) -> None:
    words = started(tmp_path, "train.sh", model, "image net", "--epochs", "3", GPUS="2")
    assert words[:4] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    assert Path(words[4]).resolve() == ROOT / "main.py"
    assert words[5:] == ["--model", model, "--data-path", "image net", "--dist-eval", *shlex.split(recipe),
                         "--epochs", "3"]
    build_parser().parse_args(words[5:])
    assert "--nproc_per_node=8" in started(tmp_path, "train.sh", model, "imagenet")


def test_wrong_calls_are_told(tmp_path: Path) -> None:
    assert "found the model resnet18; expected lsnet_t" in started(tmp_path, "train.sh", "resnet18", "imagenet")
    assert "found too few arguments; expected MODEL IMAGENET" in started(tmp_path, "train.sh", "lsnet_t")
    assert "found too few arguments; expected MODEL CHECKPOINT DATA" in started(tmp_path, "eval.sh", "lsnet_t", "x.pth")


def test_evaluation_passes_further_flags_on(tmp_path: Path) -> None:
    words = started(tmp_path, "eval.sh", "lsnet_t", "a b.pth", "imagenet", "--deploy", "--inc_path", "c")
    assert words[1:] == ["--eval", "--model", "lsnet_t", "--resume", "a b.pth", "--data-path", "imagenet", "--deploy",
                         "--inc_path", "c"]
    build_parser().parse_args(words[1:])


def test_the_launcher_of_several_gpus_passes_flags_on(tmp_path: Path) -> None:
    shutil.copy(ROOT / "run_multigpu_linux.sh", tmp_path)
    write_echo(tmp_path / ".venv" / "bin" / "python")
    for trainer in ("train_artist_style.py", "main.py"):
        (tmp_path / trainer).touch()

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", str(tmp_path / "run_multigpu_linux.sh"), *arguments], cwd=tmp_path.parent,
                              env={**os.environ, "RESTARTS": "3"}, capture_output=True, text=True, check=False)

    for named, trainer in (((), "train_artist_style.py"), (("main.py",), "main.py")):
        assert start("2", *named, "--data-path", "a b").stdout.splitlines() == [
            "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "--max-restarts=3",
            str(tmp_path / trainer), "--data-path", "a b"]
    for wrong in ((), ("two", "--epochs", "1"), ("2", "nothing.py")):
        done = start(*wrong)
        assert (done.returncode, done.stderr[:6], done.stderr.count("\n")) == (2, "found ", 1)


@pytest.mark.exhaustive
def test_both_launchers_train_and_evaluate_as_one_process_does(data_set: Path, tmp_path: Path) -> None:
    """With torchrun, and the older launcher's --use_env, on two processes each; eval.sh gives the same line on one."""
    lines = set()
    for name, launcher in (("new", ["torch.distributed.run", "--standalone"]),
                           ("old", ["torch.distributed.launch", "--use_env", "--master_port", "29517"])):
        done = subprocess.run(
            [sys.executable, "-m", *launcher, "--nproc_per_node=2", str(ROOT / "main.py"), "--model", "test_vit",
             "--data-path", str(data_set), "--output-dir", name, "--input-size", "32", "--batch-size", "6", "--epochs",
             "1", "-j", "0", "--dist-eval", "--device", "cpu"], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
        assert done.returncode == 0, done.stderr
        assert "2 processes, connected by gloo" in done.stdout
        lines.add(next(line for line in done.stdout.splitlines() if line.startswith("* top-1")))
    done = subprocess.run(["bash", str(ROOT / "eval.sh"), "test_vit", "old/model_best.pth", str(data_set), "-j", "0",
                           "--batch-size", "6"], cwd=tmp_path, capture_output=True, text=True,
                          env={**os.environ, "PYTHON": sys.executable}, check=False)
    assert lines == {done.stdout.strip()}, done.stderr
