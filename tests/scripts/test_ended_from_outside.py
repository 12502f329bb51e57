"""Commands that are ended from outside, or whose worker processes are: one line, nothing lost, and a way on."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import inference_artist
import prepare_dataset
import train_artist_style
from data.loaders import Loader, WorkersLost
from inference.predictor import Predictor
from runtime.checkpoint import read_checkpoint
from runtime.processes import StopSignal
from training.engine import Run
from utils import EXIT_FAILED

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")


def train(data_set: Path, output: Path) -> int:
    return train_artist_style.main([
        "--model", "test_efficientnet", "--data-path", str(data_set), "--output-dir", str(output), "--input-size", "32",
        "--batch-size", "8", "--num-workers", "1", "--epochs", "2", "--resume", "auto"])


def kill_worker(loader: Loader) -> None:
    os.kill(loader._processes[0].pid, signal.SIGKILL)
    loader._processes[0].join()


@pytest.mark.parametrize("side", ["train", pytest.param("val", marks=pytest.mark.exhaustive)])
def test_training_whose_worker_is_killed_saves_and_resumes_exactly(side: str, data_set: Path, trained: Path,
                                                                   tmp_path: Path, capsys, monkeypatch) -> None:
    update, evaluate = Run.update, Run._evaluate

    def kill_in_training(run: Run, batches):
        if (run.state.position.epoch, run.state.position.step) == (1, 1):
            kill_worker(run.train_loader)
        return update(run, batches)

    def kill_in_evaluation(run: Run, logbook):
        if run.state.position.epoch == 1:
            list(run.val_loader)
            kill_worker(run.val_loader)
        return evaluate(run, logbook)

    if side == "train":
        monkeypatch.setattr(Run, "update", kill_in_training)
    else:
        monkeypatch.setattr(Run, "_evaluate", kill_in_evaluation)
    broken = tmp_path / "broken"
    assert train(data_set, broken) == EXIT_FAILED
    told = capsys.readouterr().err
    assert "ended by SIGKILL" in told
    assert "--resume auto goes on from here" in told
    assert told.count("\n") == 1
    monkeypatch.undo()
    saved = read_checkpoint(broken / "checkpoint.pth").content
    assert (saved["epoch"], saved["step"] > 0) == (1, side == "train")
    assert train(data_set, broken) == 0
    one, other = (read_checkpoint(folder / "checkpoint.pth").content["model"] for folder in (trained, broken))
    assert all(one[key].equal(other[key]) for key in one)


def test_training_whose_workers_end_by_the_same_signal_names_the_signal(data_set: Path, tmp_path: Path, capsys,
                                                                        monkeypatch) -> None:
    def end_with_workers(loader: Loader):
        signal.raise_signal(signal.SIGTERM)
        raise WorkersLost("a process that loads pictures ended")
        yield

    monkeypatch.setattr(Loader, "__iter__", end_with_workers)
    assert train(data_set, tmp_path / "stopped") == 128 + signal.SIGTERM
    assert "stopped by SIGTERM in epoch 1; saved; --resume auto goes on from here" in capsys.readouterr().err
    assert read_checkpoint(tmp_path / "stopped" / "checkpoint.pth").content["step"] == 0


def infer(trained: Path, data_set: Path, output: Path, *more: str) -> int:
    return inference_artist.main(["--checkpoint", str(trained / "model_best.pth"), "--input", str(data_set / "train"),
                                  "--output", str(output), "--mode", "both", "--batch-size", "4", *more])


@pytest.fixture(autouse=True)
def _usual_hangup() -> Iterator[None]:
    """What nohup starts ignores SIGHUP, and so would the commands tested here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("kind", ["worker", "SIGTERM", "SIGHUP"])
def test_inference_keeps_its_records_and_goes_on(kind: str, trained: Path, data_set: Path, tmp_path: Path, capsys,
                                                 monkeypatch) -> None:
    workers = ["--num-workers", "1" if kind == "worker" else "0"]
    assert infer(trained, data_set, tmp_path / "whole", *workers) == 0
    run, calls = Predictor.run, []

    def disturbed(predictor: Predictor, pixels):
        calls.append(1)
        if len(calls) == 3:
            if kind == "worker":
                worker, = multiprocessing.active_children()
                worker.kill()
                worker.join()
            else:
                os.kill(os.getpid(), getattr(signal, kind))
        return run(predictor, pixels)

    monkeypatch.setattr(Predictor, "run", disturbed)
    capsys.readouterr()
    code = infer(trained, data_set, tmp_path / "broken", *workers)
    assert code == (EXIT_FAILED if kind == "worker" else 128 + getattr(signal, kind))
    told = capsys.readouterr().err
    assert "of 24 pictures; the same command with --resume goes on" in told
    assert told.count("\n") == 1
    monkeypatch.undo()
    assert infer(trained, data_set, tmp_path / "broken", *workers, "--resume") == 0
    for name in ("features.npy", "image_names.txt", "batch_results.json"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_other_commands_tidily(signum: signal.Signals, data_set: Path, tmp_path: Path, capsys,
                                             monkeypatch) -> None:
    before = signal.getsignal(signum)
    monkeypatch.setattr(prepare_dataset, "write_dataset", lambda *_, **__: os.kill(os.getpid(), signum))
    assert prepare_dataset.main(["--source-dir", str(data_set / "train"), "--output-dir", str(tmp_path / "set"),
                                 "--min-images", "2", "--workers", "0"]) == 128 + signum
    assert capsys.readouterr().err == f"prepare_dataset.py: stopped by {signum.name}\n"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signum) == before


def test_a_rank_whose_launcher_is_gone_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopSignal() as stop:
        monkeypatch.setattr(os, "getppid", lambda: 1)
        assert stop.agree() == 0, "started by hand: its parent may end"
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
        assert stop.agree() == signal.SIGTERM
