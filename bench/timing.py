"""How fast networks are: timed by turns in one run, so that a noisy machine slows all of them alike."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from bench.cost import parameters
from bench.workload import Step, Workload, prepare
from runtime.placement import Placement


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How fast one network was.

    Attributes:
        model: its name.
        parameters: how many it has, in the form that was timed.
        peak_bytes: what a batch held at most besides the weights.
        rounds: in each turn, the durations of a batch in s: their mean, with `latency` every one.
    """

    model: str
    parameters: int
    peak_bytes: int
    rounds: list[list[float]]

    @property
    def seconds(self) -> float:
        """Duration of a batch: the median of all that were measured."""
        return median(second for turn in self.rounds for second in turn)

    @property
    def spread(self) -> float:
        """Distance of the quartiles, in parts of the median."""
        low, high = np.percentile([second for turn in self.rounds for second in turn], (25, 75))
        return float(high - low) / self.seconds

    def times_as_fast_as(self, other: Measurement) -> float:
        """The median over the turns, each compared with the neighbouring one of `other`."""
        return median(median(theirs) / median(ours) for ours, theirs in zip(self.rounds, other.rounds, strict=True))


def measure(names: Sequence[str], workload: Workload) -> list[Measurement]:
    """Time networks by turns; after each round the order is reversed.

    Args:
        names: presets, timm models, or an LSNet preset with `:unfold` or `:shifted` behind it, which computes SKA in
            plain operations: over unfolded neighbourhoods, or as shifted products that autograd differentiates.
        workload: what they do.

    Raises:
        UserError: no such model or formulation, or this machine has no such device.
    """
    placement = Placement.choose(workload.device, channels_last=workload.channels_last)
    entries = [prepare(name, workload, placement) for name in names]
    durations = [_warm_up(step, placement.device, workload.seconds) for _, step in entries]
    turns = [max(1, round(workload.seconds / duration)) for duration in durations]
    peaks = [peak_bytes(step, placement.device) for _, step in entries]
    rounds: list[list[list[float]]] = [[] for _ in names]
    for number in range(workload.rounds):
        for place in range(len(names))[:: -1 if number % 2 else 1]:
            batches = [1] * turns[place] if workload.latency else [turns[place]]
            rounds[place].append([_seconds(entries[place][1], count, placement.device) for count in batches])
    return [Measurement(model=name, parameters=parameters(network), peak_bytes=peak, rounds=turn)
            for name, (network, _), peak, turn in zip(names, entries, peaks, rounds, strict=True)]


def peak_bytes(step: Step, device: torch.device) -> int:
    """How much more memory `step` holds at its worst moment than before it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes notes for its authors to stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def _warm_up(step: Step, device: torch.device, least: float) -> float:
    """Run until it gets no faster, and `least` s: compiled, memory at hand, clocks up; the duration in s then."""
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
