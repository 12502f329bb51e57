"""The timing loop under a clock that the steps themselves move, and memory against what is known to be held."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import timing
from bench.timing import Measurement, measure, measure_peak_bytes
from runtime.options import Workload

CPU = torch.device("cpu")


class Machine:
    """A clock, and networks by name that take so many seconds; each call makes the machine slower."""

    def __init__(self, drift: float = 0.0, **seconds: float) -> None:
        self.now, self.drift, self.seconds, self.calls = 0.0, drift, seconds, []

    def prepare(self, name: str, workload: Workload, placement: object):
        def step() -> None:
            self.calls.append(name)
            self.now += self.seconds[name] * (1 + self.drift * len(self.calls))

        return nn.Linear(3, 4), step


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Measure on a `Machine`; the calls of the warm-up are left out of its list."""
    def measured(machine: Machine, **settings) -> list[Measurement]:
        def peak(step, device):
            machine.calls.clear()
            return 7

        monkeypatch.setattr(timing, "prepare", machine.prepare)
        monkeypatch.setattr(timing, "measure_peak_bytes", peak)
        monkeypatch.setattr(timing.time, "perf_counter", lambda: machine.now)
        return measure(list(machine.seconds), Workload(device="cpu", **settings))

    return measured


def test_networks_take_turns_and_the_order_turns_round(run) -> None:
    machine = Machine(a=1.0, b=2.0, c=4.0)
    run(machine, rounds=3, seconds=4.0)
    there, back = "aaaabbc", "cbbaaaa"
    assert "".join(machine.calls) == there + back + there


def test_figures(run) -> None:
    one, two = run(Machine(a=1.0, b=2.0), rounds=4, seconds=3.0)
    assert (one.model, one.parameters, one.peak_bytes) == ("a", 16, 7)
    assert one.rounds == [[1.0]] * 4
    assert (one.seconds, two.seconds, two.spread) == (1.0, 2.0, 0.0)
    assert (one.times_as_fast_as(two), two.times_as_fast_as(one), two.times_as_fast_as(two)) == (2.0, 0.5, 1.0)


def test_latency_times_every_batch(run) -> None:
    one, _ = run(Machine(a=1.0, b=2.0), rounds=2, seconds=3.0, latency=True)
    assert one.rounds == [[1.0] * 3] * 2


def test_a_machine_that_becomes_slower_does_not_decide(run) -> None:
    one, two = run(Machine(drift=0.01, a=1.0, b=1.0), rounds=10, seconds=1.0)
    assert two.spread > 0.02
    assert one.times_as_fast_as(two) == pytest.approx(1.0, abs=0.01)


def test_spread_is_that_of_the_quartiles() -> None:
    one = Measurement(model="", parameters=0, peak_bytes=0, rounds=[[1.0, 2.0, 3.0], [4.0, 5.0]])
    assert (one.seconds, one.spread) == (3.0, pytest.approx(2 / 3))


@pytest.mark.parametrize(("durations", "least", "calls"), [
    ([9, 1, 1, 1, 1], 0, 4), ([9, 5, 3, 2, 1, 1, 1, 1], 0, 7), ([1, 2, 3, 4], 0, 3), ([1] * 9, 8, 8)])
def test_warm_up_ends_when_it_gets_no_faster(monkeypatch: pytest.MonkeyPatch, durations: list[float], least: float,
                                             calls: int) -> None:
    times = list(durations)
    monkeypatch.setattr(timing, "_seconds", lambda step, count, device: times.pop(0))
    assert timing._warm_up(lambda: None, CPU, least) == 1
    assert len(durations) - len(times) == calls


def test_peak_memory_is_what_is_held_at_once() -> None:
    x = torch.zeros(256, 256)

    def step() -> None:
        y = x + x
        z = y * y
        del y
        z + z

    assert 2 * x.nbytes <= measure_peak_bytes(step, CPU) < 2 * x.nbytes + 1024


@pytest.mark.gpu
def test_peak_memory_on_a_gpu() -> None:
    x = torch.zeros(256, 256, device="cuda")
    assert measure_peak_bytes(lambda: (x + x) * x, x.device) == 2 * x.nbytes
