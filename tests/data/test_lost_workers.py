"""Loaders whose worker processes die, or cannot be started, say so in order and leave nothing behind."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.popen_fork
import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from data.image_list import ImageList
from data.loaders import EvalBatches, Loader, Loading, WorkersLost, make_loader
from tests.pictures import write_data_set

pytestmark = pytest.mark.skipif(multiprocessing.get_start_method() != "fork", reason="what happens between forks")
LOADING = Loading(batch_size=2, num_workers=2)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(write_data_set(tmp_path_factory.mktemp("set"), val=0).rglob("*.png"))


def blank(_: object) -> torch.Tensor:
    return torch.zeros(3, 4, 4)


def make(paths: list[Path], *, lasting: bool = False) -> Loader:
    return make_loader(ImageList(paths, blank), EvalBatches(len(paths), LOADING), LOADING, lasting=lasting)


def test_a_killed_worker_is_an_error_where_the_next_batch_is_asked_for(paths: list[Path]) -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    loader = make(paths)
    batches = iter(loader)
    next(batches)
    victim, other = loader._processes
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()  # torch's own handler of SIGCHLD would raise here, or in the middle of writing a file
    assert signal.getsignal(signal.SIGCHLD) == handler
    with pytest.raises(WorkersLost, match="ended by SIGKILL"):
        list(batches)
    assert not other.is_alive()


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_process_can_be_started_this_one_loads(paths: list[Path], allowed: int, capfd, monkeypatch) -> None:
    launch, started = multiprocessing.popen_fork.Popen._launch, []

    def limited(popen: multiprocessing.popen_fork.Popen, process: multiprocessing.Process) -> None:
        if len(started) == allowed:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        launch(popen, process)
        started.append(popen)

    monkeypatch.setattr(multiprocessing.popen_fork.Popen, "_launch", limited)
    loader = make(paths)
    for _ in range(2):
        assert [batch.indices.tolist() for batch in loader] == [[number, number + 1] for number in range(0, 24, 2)]
    told = capfd.readouterr()
    assert told.out.count("the system starts no more processes") == told.out.count("\n") == 1
    assert not told.err
    assert not [popen for popen in started if popen.poll() is None]


def test_a_loader_leaves_neither_process_nor_thread(paths: list[Path]) -> None:
    before = {*threading.enumerate()}
    loader = make(paths)
    for count in (None, 3, None):  # to the end, not to the end, to the end again
        for _, _ in zip(loader, range(count or len(paths)), strict=False):
            pass
        assert not multiprocessing.active_children()
        assert {*threading.enumerate()} == before
    lasting = make(paths, lasting=True)
    list(lasting)
    assert len(multiprocessing.active_children()) == 2
    lasting.close()
    assert not multiprocessing.active_children()
    assert {*threading.enumerate()} == before
