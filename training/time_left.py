"""How long a run takes, measured from its first updates on, and what would take less."""

from __future__ import annotations

import time
from dataclasses import dataclass

from training.state import TrainingState
from utils import counted

SETTLED = 5.0  # seconds after the first update, which takes longer, when the estimate is told
LONG = 3600.0  # seconds of a run that calls for advice
MEMORY = 0.98  # weight of an update in the mean, as a share of the next one's: the last fifty or so count
TRAINING = 3  # times as long as evaluation, for the same pictures
QUICK_EPOCHS, QUICK_SIZE = 40, 96  # of a first trial; a side that is a multiple of 32 suits every network


@dataclass(frozen=True, kw_only=True)
class Cheaper:
    """What a cheaper run of the same kind could change.

    Attributes:
        probe: flags of a linear probe in place of this run.
        input_size: of this run, px; None where it is fixed.
    """

    probe: str
    input_size: int | None


class RunClock:
    """Times the updates of a run and what comes between epochs, and tells how long the rest takes."""

    def __init__(self, state: TrainingState, *, epochs: int, train: int, val: float,
                 cheaper: Cheaper | None) -> None:
        """Begin where `state` is.

        Args:
            state: of the run.
            epochs: in all.
            train: pictures to train on.
            val: pictures that are evaluated after an epoch, on average.
            cheaper: what to advise where the run takes hours.
        """
        self.state, self.epochs, self.train, self.val, self.cheaper = state, epochs, train, val, cheaper
        self._begun: float | None = None  # when the update that is under way began; None before the first one's end
        self._settled = 0.0
        self._seconds = self._weight = 0.0  # of updates
        self._ended: float | None = None  # when the last epoch's updates ended
        self._pauses: list[float] = []  # s, after each epoch
        self._told = False

    def begin_epoch(self) -> None:
        """Note that the first batch of an epoch is about to be loaded."""
        now = time.monotonic()
        if self._ended is not None:
            self._pauses.append(now - self._ended)
            self._begun = now

    def end_epoch(self) -> None:
        """Note that evaluation and saving are about to begin."""
        self._ended = time.monotonic()

    def update(self) -> list[str]:
        """Count the update that has just ended; once, when the figures have settled, lines for the log."""
        now = time.monotonic()
        if self._begun is None:
            self._settled = now + SETTLED
        else:
            self._seconds, self._weight = MEMORY * self._seconds + now - self._begun, MEMORY * self._weight + 1
        self._begun = now
        if self._told or not self._weight or now < self._settled:
            return []
        self._told = True
        return self._estimate()

    def left(self) -> str:
        """The time to the end of the run in words, with a comma before; empty where there is none, or none known."""
        return f", {format_duration(self._left())} left" if self._weight and self._rounds() else ""

    def _rounds(self) -> int:
        return self.epochs - self.state.position.epoch

    def _left(self) -> float:
        updates = self._rounds() * self.state.updates_per_epoch - self.state.position.step
        return updates * self._per_update() + self._rounds() * self._pause()

    def _per_update(self) -> float:
        return self._seconds / self._weight

    def _pause(self) -> float:
        """Seconds after an epoch: as measured, or as evaluation will take at least."""
        return sum(self._pauses) / len(self._pauses) if self._pauses else self._evaluating(self.val)

    def _evaluating(self, pictures: float) -> float:
        return pictures / self.state.per_update * self._per_update() / TRAINING

    def _estimate(self) -> list[str]:
        epoch = self.state.updates_per_epoch * self._per_update() + self._pause()
        left, rounds = self._left(), self._rounds()
        lines = [f"about {format_duration(left)} to go"
                 + (f": {counted(rounds, 'epoch')} of {format_duration(epoch)}" if rounds > 1 else "")]
        if left <= LONG or self.cheaper is None:
            return lines
        lines.append("warning: this takes hours; Ctrl-C ends it and keeps what was learned. In less time:")
        lines += self._quick(left, self.cheaper.input_size)
        if self.cheaper.probe:
            probe = format_duration(self._evaluating(self.train + self.val))
            lines.append(f"  about {probe} with {self.cheaper.probe}, without flags of training such as --epochs")
        return lines

    def _quick(self, left: float, size: int | None) -> list[str]:
        rounds = min(QUICK_EPOCHS, self.epochs) - self.state.position.epoch
        is_fewer = 0 < rounds < self._rounds()
        flags, seconds = [f"--epochs {QUICK_EPOCHS}"] * is_fewer, left * (rounds / self._rounds() if is_fewer else 1)
        if size and size > QUICK_SIZE:
            flags, seconds = [*flags, f"--input-size {QUICK_SIZE}"], seconds * (QUICK_SIZE / size) ** 2
        return [f"  about {format_duration(seconds)} with {' '.join(flags)}"] if flags else []


def format_duration(seconds: float) -> str:
    """A duration in words, in the two largest units from minutes up."""
    minutes = round(seconds / 60)
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    hours, days = minutes // 60, minutes // (24 * 60)
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
