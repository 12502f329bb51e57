"""The processes of one run: who they are, what they agree on, and when they stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed.nn

from utils import UserError

Result = TypeVar("Result")


def rank() -> int:
    """Number of this process among those of the run, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world_size() -> int:
    """How many processes share the run."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather(value: Any) -> list[Any]:
    """The `value` of every process, in the order of ranks, on every process."""
    values = [value] * world_size()
    if world_size() > 1:
        torch.distributed.all_gather_object(values, value)
    return values


def gather_rows(tensor: torch.Tensor) -> torch.Tensor:
    """The rows of every process's `tensor`, (B, ...) on each, as (world_size B, ...): this one's first.

    Gradients go back to the process whose rows they are.
    """
    if world_size() == 1:
        return tensor
    parts = list(torch.distributed.nn.functional.all_gather(tensor.contiguous()))
    return torch.cat([parts.pop(rank()), *parts])


def on_first_rank(function: Callable[[], Result]) -> Result:
    """What `function` returns on the first process, where alone it runs, on every process.

    Raises:
        UserError: the one that `function` raised, on every process.
    """
    answer: Result | UserError | None = None
    if rank() == 0:
        try:
            answer = function()
        except UserError as error:
            answer = error
    answer = gather(answer)[0]
    if isinstance(answer, UserError):
        raise answer
    return answer  # type: ignore[return-value]


@contextlib.contextmanager
def process_group(device: torch.device) -> Iterator[str]:
    """Inside the block this process belongs to the run that RANK and WORLD_SIZE describe; yields a line about it.

    GPUs talk through NCCL on Linux, everything else through gloo. Without WORLD_SIZE, or with 1, the process is alone.

    Raises:
        UserError: WORLD_SIZE without what else is needed to meet.
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
    timeout = timedelta(hours=6)  # the first rank may scan a million pictures while the others wait
    store, number, size = next(torch.distributed.rendezvous("env://", timeout=timeout))
    # torchrun keeps its store over restarts, with the addresses of processes that are gone (seen in torch 2.14).
    store = torch.distributed.PrefixStore(f"attempt_{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", store=store, rank=number,
                                         world_size=size, timeout=timeout)
    try:
        yield f"{size} processes, talking through {'nccl' if nccl else 'gloo'}"
    finally:
        torch.distributed.destroy_process_group()


class StopSignal:
    """Inside `with StopSignal() as stop:` the first SIGINT or SIGTERM sets `stop.signum`; a second one ends at once."""

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}

    def agreed(self) -> int:
        """The signal that any process of the run has received, on every process; 0 for none."""
        return max(gather(self.signum)) if world_size() > 1 else self.signum

    def __enter__(self) -> StopSignal:
        names = ("SIGINT", "SIGTERM", "SIGBREAK")  # SIGBREAK: Ctrl-Break, Windows only
        for signum in (getattr(signal, name) for name in names if hasattr(signal, name)):
            self._previous[signum] = signal.signal(signum, self._receive)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)

    def _receive(self, signum: int, frame: object) -> None:
        if self.signum:
            os._exit(128 + signum)
        self.signum = signum
