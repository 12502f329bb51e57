"""The speed of networks, timed in turns within one run, so that a noisy machine slows all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import timm
import torch

from bench.cost import count_parameters
from bench.workload import Step, prepare
from runtime.options import Workload
from runtime.placement import Placement, device_name
from utils import resolve_device


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """The speed of one network.

    Attributes:
        model: its name.
        parameters: number of weights, in the form that was timed.
        peak_bytes: the most memory that a batch needs besides the weights.
        rounds: of each round, the duration of a batch in s: one mean value, or with `latency` those of all batches.
    """

    model: str
    parameters: int
    peak_bytes: int
    rounds: list[list[float]]

    @property
    def seconds(self) -> float:
        """Duration of a batch: the median of all values."""
        return median(seconds for durations in self.rounds for seconds in durations)

    @property
    def spread(self) -> float:
        """Distance between the quartiles, relative to the median."""
        low, high = np.percentile([seconds for durations in self.rounds for seconds in durations], (25, 75))
        return float(high - low) / self.seconds

    def times_as_fast_as(self, other: Measurement) -> float:
        """The median ratio to `other`, of the same rounds."""
        return median(median(theirs) / median(ours) for ours, theirs in zip(self.rounds, other.rounds, strict=True))


def measure(names: Sequence[str], workload: Workload) -> list[Measurement]:
    """Time networks in turns; each round reverses the order of the one before.

    Args:
        names: the networks, see `prepare`.
        workload: what they do.

    Raises:
        UserError: no such model or formulation, or this machine has no such device.
    """
    placement = Placement.resolve(workload.device, channels_last=workload.channels_last)
    networks, steps = zip(*(prepare(name, workload, placement) for name in names), strict=True)
    durations = [_warm_up(step, placement.device, workload.seconds) for step in steps]
    batches = [max(1, round(workload.seconds / duration)) for duration in durations]
    peaks = [measure_peak_bytes(step, placement.device) for step in steps]
    rounds: list[list[list[float]]] = [[] for _ in names]
    order = list(range(len(names)))
    for _ in range(workload.rounds):
        for index in order:
            counts = [1] * batches[index] if workload.latency else [batches[index]]
            rounds[index].append([_seconds(steps[index], count, placement.device) for count in counts])
        order.reverse()
    return [Measurement(model=name, parameters=count_parameters(network), peak_bytes=peak, rounds=seconds)
            for name, network, peak, seconds in zip(names, networks, peaks, rounds, strict=True)]


def measure_peak_bytes(step: Step, device: torch.device) -> int:
    """How much more memory `step` needs at its peak than is allocated before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes notes for its developers to stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    profiler: Any = profile.profiler
    events = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def describe_machine(device: str) -> dict[str, str | int]:
    """Device, threads, and the versions of torch and timm."""
    return {"device": device_name(resolve_device(device)),
            "threads": torch.get_num_threads(), "torch": torch.__version__, "timm": timm.__version__}


def _warm_up(step: Step, device: torch.device, least: float) -> float:
    """Run for `least` s or more, until it gets no faster (compilation, memory, clocks); the shortest duration in s."""
    seconds = [_seconds(step, 1, device) for _ in range(3)]
    while sum(seconds) < least or min(seconds[-2:]) < 0.97 * min(seconds[:-2]):
        seconds.append(_seconds(step, 1, device))
    return min(seconds)


def _seconds(step: Step, count: int, device: torch.device) -> float:
    """Mean duration of `count` steps, s."""
    _wait(device)
    start = time.perf_counter()
    for _ in range(count):
        step()
    _wait(device)
    return (time.perf_counter() - start) / count


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
