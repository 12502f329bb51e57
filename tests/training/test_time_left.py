"""The estimate of a run's time: right for a steady machine, told once, with advice where it takes hours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from training import time_left
from training.time_left import Cheaper, RunClock, format_duration

CHEAPER = Cheaper(probe="--model lsnet_t_artist --pretrained --linear-probe", input_size=224)


class Machine:
    """A run of `epochs` epochs of ten updates of 32 pictures on a machine whose clock only work moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, epochs: int, **more: Any) -> None:
        self.now = 100.0
        monkeypatch.setattr(time_left.time, "monotonic", lambda: self.now)
        self.position = SimpleNamespace(epoch=0, step=0)
        state: Any = SimpleNamespace(position=self.position, updates_per_epoch=10, per_update=32)
        self.clock = RunClock(state, epochs=epochs, **{"train": 320, "val": 96.0, "cheaper": CHEAPER} | more)

    def run(self, updates: int, seconds: float, pause: float = 0.0) -> list[str]:
        """Lines that are told in so many updates; `pause` s stand between epochs."""
        told = []
        for _ in range(updates):
            if self.position.step == 0:
                self.clock.begin_epoch()
            self.now += seconds
            self.position.step += 1
            told += self.clock.update()
            if self.position.step == 10:
                self.clock.end_epoch()
                self.position.epoch, self.position.step = self.position.epoch + 1, 0
                self.now += pause
        return told


def test_the_estimate_is_told_once_and_leaves_out_the_slow_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 31)
    assert machine.run(1, 60) == []
    assert machine.clock.left() == ""
    # 3 s an update, and 96 pictures to evaluate as fast as three updates of 32 would take without their backward pass.
    assert machine.run(8, 3) == ["about 17 min to go: 31 epochs of 33 s"]
    assert machine.run(1, 3) == []


def test_the_last_epoch_is_not_said_to_last_longer_than_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Machine(monkeypatch, 1).run(6, 5) == ["about 45 s to go"]


def test_what_is_left_is_what_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 31)
    machine.run(20, 3, pause=60)
    assert machine.clock.left() == f", {format_duration(29 * 90)} left"
    machine.run(290, 3, pause=60)
    assert machine.clock.left() == ""


def test_a_machine_that_slows_down_is_believed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 1000, val=0)
    machine.run(500, 3)
    machine.run(200, 6)
    seconds = (1000 - 70) * 10 * 6
    assert machine.clock._left() == pytest.approx(seconds, rel=0.02)


@pytest.mark.parametrize(("epochs", "more", "advice"), [
    (100, {}, []),
    (300, {}, ["  about 4 min with --epochs 40 --input-size 96",
               f"  about 13 s with {CHEAPER.probe}, without flags of training such as --epochs"]),
    (300, {"cheaper": Cheaper(probe="", input_size=None)}, ["  about 22 min with --epochs 40"]),
    (40, {"train": 10**5, "per_epoch": 1000, "cheaper": Cheaper(probe="--linear-probe", input_size=96)}, [
        "  about 52 min with --linear-probe, without flags of training such as --epochs"]),
])
def test_a_run_of_hours_is_advised(monkeypatch: pytest.MonkeyPatch, epochs: int, more: dict, advice: list[str]) -> None:
    per_epoch = more.pop("per_epoch", 10)
    machine = Machine(monkeypatch, epochs, **more)
    machine.clock.state.updates_per_epoch = per_epoch
    _, *told = machine.run(9, 3)
    assert told[1:] == advice
    assert [line[:8] for line in told[:1]] == ["warning:"] * bool(advice)


@pytest.mark.parametrize(("seconds", "words"), [
    (0.4, "0 s"), (29, "29 s"), (45, "45 s"), (59.9, "1 min"), (3570, "1 h 0 min"), (3 * 3600 + 20 * 60, "3 h 20 min"),
    (86400 * 2 + 3600 * 5, "2 d 5 h")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words
