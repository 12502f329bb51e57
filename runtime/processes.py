"""The processes of one run: rank, gathering values, work on the first rank, and the signal to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed.nn

from utils import ENDING, UserError

Result = TypeVar("Result")
_LAUNCHER = "TORCHELASTIC_RUN_ID"  # in the environment of torchrun's ranks
_PARENT = os.getppid()


def rank() -> int:
    """Number of this process in the run, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes share the run."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather(value: Any) -> list[Any]:
    """The `value` of every process in the order of ranks; the same list on every process."""
    values = [value] * world_size()
    if world_size() > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of every process's `tensor`: (B, ...) on each -> (world_size B, ...), this process's rows first.

    Gradients flow back to the process that the rows come from.
    """
    if world_size() == 1:
        return tensor
    parts = list(torch.distributed.nn.functional.all_gather(tensor.contiguous()))
    return torch.cat([parts.pop(rank()), *parts])


def on_first_rank(function: Callable[[], Result]) -> Result:
    """Run `function` on the first process only, and return its result on every process.

    Raises:
        UserError: `function` raised it; every process raises it then.
    """
    try:
        result: Any = function() if rank() == 0 else None
    except UserError as error:
        result = error
    result = gather(result)[0]
    if isinstance(result, UserError):
        raise result
    return result


def on_every_rank(function: Callable[[], Result]) -> Result:
    """Run `function` on every process, and return this one's result; where one cannot, none waits for it.

    Raises:
        UserError: `function` raised it on some process; every process raises that of the first such rank.
    """
    result: Any = None
    problem: UserError | None = None
    try:
        result = function()
    except UserError as error:
        problem = error
    for told in gather(problem):
        if told:
            raise told
    return result


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[str]:
    """A context in which this process is part of the run that RANK and WORLD_SIZE describe; yields a line for the log.

    GPUs use NCCL where torch has it, all others gloo. Without WORLD_SIZE, or with 1, nothing is set up.

    Raises:
        UserError: WORLD_SIZE is set, but RANK, LOCAL_RANK, MASTER_ADDR or MASTER_PORT is not.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ""
        return
    missing = [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UserError(f"WORLD_SIZE={size} without {', '.join(missing)}", "all of them in the environment",
                        "start with torchrun --standalone --nproc_per_node=N, or set them")
    nccl = device.type == "cuda" and torch.distributed.is_nccl_available()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    timeout = timedelta(hours=6)  # the others wait while the first rank scans perhaps a million pictures
    store, number, size = next(torch.distributed.rendezvous("env://", timeout=timeout))
    # torchrun keeps its store over restarts, with the addresses of dead processes (seen in torch 2.14).
    store = torch.distributed.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", store=store, rank=number,
                                         world_size=size, timeout=timeout)
    try:
        yield f"{size} processes, connected by {'nccl' if nccl else 'gloo'}"
    finally:
        torch.distributed.destroy_process_group()


def _is_orphan() -> bool:
    """Whether torchrun has started this process and is gone: a restart would write where this process does.

    Linux's signal at a parent's death will not do: it comes once for each thread of the parent. Windows does not tell,
    because a process keeps its parent's number: there, the lock of the output folder refuses a restart until ranks that
    were left behind are ended by hand.
    """
    return _LAUNCHER in os.environ and os.name != "nt" and os.getppid() != _PARENT


class StopSignal:
    """In `with StopSignal() as stop:` the first signal to end sets `stop.signum`; a second one ends the process.

    Such signals are SIGINT and those of `ENDING`. A rank that torchrun has started and left behind counts as signalled.
    There, a second signal changes nothing: SLURM sends one to every process of a job, and torchrun, which has it too,
    sends its ranks another.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}

    def agree(self) -> int:
        """The highest number of a signal that any process of the run has received; 0 for none."""
        if not self.signum and _is_orphan():
            self.signum = signal.SIGTERM
        return max(gather(self.signum)) if world_size() > 1 else self.signum

    def __enter__(self) -> StopSignal:
        for signum in (signal.SIGINT, *ENDING):
            if signal.getsignal(signum) is signal.SIG_IGN:  # nohup wants it so
                continue
            self._previous[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, frame: object) -> None:
        if self.signum and _LAUNCHER not in os.environ:
            os._exit(128 + signum)
        self.signum = self.signum or signum
