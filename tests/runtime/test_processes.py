"""The processes of a run: alone, they ask nobody; together, they agree; a signal stops them once, a second at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evaluation.metrics import ClassificationMeter
from runtime.processes import StopSignal, gather, on_first_rank, process_group, rank, world_size
from tests.conftest import ROOT
from tests.forked import finish, start_ranks
from utils import UserError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def refuse() -> None:
    raise UserError("a", "b", "c")


def test_a_single_process_is_the_first_of_one() -> None:
    with process_group(CPU) as note:
        assert (rank(), world_size(), gather("mine"), note) == (0, 1, ["mine"], "")
        assert on_first_rank(lambda: 5) == 5
        assert on_first_rank(lambda: None) is None
        with pytest.raises(UserError):
            on_first_rank(refuse)


def test_a_launch_that_lacks_what_is_needed_to_meet_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(UserError, match="WORLD_SIZE=2 without LOCAL_RANK, MASTER_ADDR, MASTER_PORT"), \
            process_group(CPU):
        pass


def figures() -> dict[str, float]:
    """An evaluation of five batches, of which this process counts its own."""
    torch.manual_seed(0)
    meter = ClassificationMeter(7)
    for number, size in enumerate((8, 8, 8, 8, 3)):
        logits, targets = torch.randn(size, 7), torch.randint(7, (size,))
        if number % world_size() == rank():
            meter.update(number, logits, targets)
    return meter.result()


def print_agreement() -> None:
    """Print what this process, one of two, learns from the other."""
    torch.set_num_threads(1)
    with process_group(CPU) as note:
        found = {"note": note, "gathered": gather({"rank": rank()}), "figures": figures(),
                "first": on_first_rank(lambda: f"rank {rank()} ran")}
        try:
            on_first_rank(refuse)
        except UserError as error:
            found["refused"] = str(error)
        with StopSignal() as stop:
            found["before"] = stop.agree()
            if rank() == 1:
                signal.raise_signal(signal.SIGTERM)
            found["after"] = stop.agree()
    print(json.dumps(found))


@pytest.mark.slow
def test_two_processes_agree_and_count_as_one(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
                      "from tests.runtime.test_processes import print_agreement; print_agreement()")
    first, second = map(json.loads, finish(start_ranks(2, script, cwd=tmp_path)).splitlines())
    assert first == second == {
        "note": "2 processes, connected by gloo", "gathered": [{"rank": 0}, {"rank": 1}], "first": "rank 0 ran",
        "refused": "found a; expected b; c", "before": 0, "after": signal.SIGTERM,
        "figures": figures()}  # those of a single process, to the last digit


# ---- signals ---------------------------------------------------------------------------------------------------------


WAITING = """
import signal
import time
from evaluation.metrics import ClassificationMeter
from runtime.processes import StopSignal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite that runs in the background ignores it
with StopSignal() as stop:
    print("ready", flush=True)
    while not stop.signum:
        time.sleep(0.01)
    print("noticed", stop.signum, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_the_first_signal_is_noticed_and_the_second_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == f"noticed {int(signal.SIGINT)}\n"
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
def test_a_rank_of_torchrun_saves_although_a_second_signal_follows_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setattr(os, "_exit", pytest.fail)
    with StopSignal() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert stop.agree() == signal.SIGTERM


@pytest.fixture
def interruptible() -> Iterator[None]:
    """With Python's own handler of SIGINT: what a shell starts in the background ignores that signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop:
        assert signal.getsignal(signal.SIGINT) not in before
        signal.raise_signal(signal.SIGTERM)
    assert stop.signum == stop.agree() == signal.SIGTERM
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
