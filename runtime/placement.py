"""Where and how a network runs: device, memory format, precision of its forward pass, compiled or not."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from utils import UserError, resolve_device

FEW_CORES, WORKERS = 4, 2
MOST_LANES = 8  # each has its own activations, and all share Python's one lock
# Parameters of mallopt, as in glibc's malloc.h, and what they are set to.
TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
MOST_KEPT, LARGEST_IN_HEAP = 2**31 - 1, (2**30, 2**25)  # bytes; older versions take 32 MiB at most


def count_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """The name of a CUDA device, or the processor's kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()


def inductor_or_eager(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
    """A backend of `torch.compile`: torch's own; where that cannot compile, a line says so, and `graph` runs as it is.

    A compiler for C++ or Triton is often missing, on Windows as a rule.
    """
    from torch._dynamo import lookup_backend  # torch imports it when it compiles

    try:
        return lookup_backend("inductor")(graph, inputs)
    except (RuntimeError, OSError, ImportError, subprocess.SubprocessError) as error:
        _tell_no_compiler(next(iter(str(error).splitlines()), type(error).__name__))
        return graph.forward


@functools.cache
def _tell_no_compiler(reason: str) -> None:
    """Say it once."""
    print(f"--compile: torch cannot compile here ({reason}); going on without", file=sys.stderr, flush=True)


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed activations for the next ones, in one heap for all threads.

    Otherwise it hands large blocks back to the system, which must clear the pages of each new one: a third to a half of
    the processor time of a forward pass on the CPU. Other C libraries have no such setting, and nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(TRIM_THRESHOLD, MOST_KEPT)
    any(mallopt(MMAP_THRESHOLD, largest) for largest in LARGEST_IN_HEAP)
    mallopt(ARENA_MAX, 1)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A device, a memory format and a precision, for networks and for their input.

    Attributes:
        device: of the network and its input.
        memory_format: channels-last or planes.
        amp: dtype of autocast in training, and of all weights in inference; None for float32. The evaluation of a
            trainer is always float32.
    """

    device: torch.device
    memory_format: torch.memory_format
    amp: torch.dtype | None = None

    @classmethod
    def resolve(cls, device: str, *, channels_last: bool | None = None, amp: str = "off") -> Placement:
        """The placement for the values of --device, --channels-last and --amp.

        Args:
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
            channels_last: None means channels-last on the CPU only. There, depthwise convolutions on two cores train
                more than ten times faster (lsnet_t, 96 px, torch 2.14, November 2026).
            amp: `off`, `bf16`, `fp16`, or `auto`: bf16 on GPUs that compute it, off elsewhere.

        Raises:
            UserError: this machine has no such device, or the device no such precision.
        """
        found = resolve_device(device)
        if amp == "fp16" and found.type == "cpu":
            raise UserError("--amp fp16 on the CPU", "a GPU for fp16", "use --amp bf16 or --amp off")
        if amp == "auto":
            amp = "bf16" if found.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "off"
        if channels_last is None:
            channels_last = found.type == "cpu"
        if found.type == "cpu":
            keep_freed_memory()
        return cls(device=found, memory_format=torch.channels_last if channels_last else torch.contiguous_format,
                   amp={"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp])

    def __str__(self) -> str:
        precision = {None: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.amp]
        return f"{self.device} in {precision}"

    def move_network(self, network: torch.nn.Module) -> torch.nn.Module:
        """Move `network` to the device, in place, and return it."""
        return network.to(self.device).to(memory_format=self.memory_format)

    def move_images(self, images_BCHW: torch.Tensor) -> torch.Tensor:
        """A copy of a batch on the device."""
        return images_BCHW.to(self.device, memory_format=self.memory_format, non_blocking=True)

    def choose_workers(self, requested: int | None) -> int:
        """How many processes decode pictures for a network that trains here: `requested`, or the fastest choice.

        On few cores, decoding processes slow down every operator: lsnet_t at 96 px trains with 133 to 155 pictures/s
        on two cores that decode in between, and with 106 to 124 beside two processes. OMP_WAIT_POLICY=passive, under
        which threads must be woken for each operator, gives 77 and 98 (torch 2.14, November 2026).
        """
        if requested is not None:
            return requested
        passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
        return 0 if self.device.type == "cpu" and count_cores() <= FEW_CORES and not passive else WORKERS

    def choose_lanes(self, batches: int) -> int:
        """How many `Lanes` to use for so many batches: one per core, at most `MOST_LANES`; one on a GPU."""
        return max(1, min(torch.get_num_threads(), batches, MOST_LANES)) if self.device.type == "cpu" else 1

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """A context in which forward passes run in `amp`."""
        return torch.autocast(self.device.type, self.amp) if self.amp else contextlib.nullcontext()

    def make_scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16; disabled otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.amp is torch.float16)
