"""Figures of a training epoch: loss, gradient norm and speed; stops the run at a loss that is not finite."""

from __future__ import annotations

import time

import torch

from data.image_list import Batch, LabelledImages
from runtime.processes import gather
from training.state import TrainingState
from utils import UserError, peak_memory

GIB = 2**30


class EpochMeter:
    """Collects the updates of one epoch, each only when the next one is under way: a GPU never waits for its loss."""

    def __init__(self, state: TrainingState, dataset: LabelledImages, device: torch.device) -> None:
        """Begin at the position of `state`."""
        self.state, self.dataset, self.device = state, dataset, device
        self.start_time, self.first_step = time.perf_counter(), state.position.step
        self.norms: list[float] = []
        self.lr = highest_rate(state.optimizer)
        self._pending: tuple[torch.Tensor, torch.Tensor, tuple[Batch, ...], int] | None = None

    def add(self, loss: torch.Tensor, norm: torch.Tensor, batches: tuple[Batch, ...]) -> None:
        """Note an update, and count the one before.

        Raises:
            UserError: the loss of the one before is not finite.
        """
        self.flush()
        self._pending = loss, norm, batches, self.state.position.step
        self.lr = highest_rate(self.state.optimizer)

    def flush(self) -> None:
        """Count the last update; to be called before saving, so that no checkpoint follows a loss that is not finite.

        Raises:
            UserError: its loss is not finite.
        """
        if self._pending is None:
            return
        loss, norm, batches, step = self._pending
        self._pending = None
        if not torch.isfinite(loss):
            names = [self.dataset.names[index] for batch in batches for index in batch.indices.tolist()]
            raise UserError(f"loss {loss.item()} in epoch {self.state.position.epoch + 1}, step {step}, with "
                            f"{', '.join(names)}", "a finite loss",
                            "look at these pictures, lower --lr, or resume the last checkpoint with another --seed")
        self.state.position.loss_sum += loss.item()
        self.norms.append(norm.item())

    @property
    def images_per_second(self) -> float:
        """Speed on all ranks together since this process began the epoch."""
        steps = self.state.position.step - self.first_step
        return steps * self.state.per_update / (time.perf_counter() - self.start_time)

    def format_short(self) -> str:
        """The most important figures so far, for a progress bar."""
        return f"{self._format_loss(', ')}{self.images_per_second:.0f} img/s"

    def _format_loss(self, end: str) -> str:
        """The mean loss, with `end` behind; empty before the first update is counted."""
        counted = self.state.position.step - (self._pending is not None)
        return f"loss {self.state.position.loss_sum / counted:.3f}{end}" if counted else ""

    def format_line(self) -> str:
        """The figures so far."""
        return (f"{self._format_loss(' ')}lr {self.lr:.1e} {self.images_per_second:.0f} img/s "
                f"{peak_memory(self.device) / GIB:.1f} GiB")

    def result(self) -> dict[str, float]:
        """The epoch's figures, the same on every rank; the loss is the mean over updates and ranks."""
        self.flush()
        sums = gather(self.state.position.loss_sum)
        return {"train_loss": sum(sums) / len(sums) / max(1, self.state.position.step), "lr": self.lr,
                "grad_norm": sum(self.norms) / max(1, len(self.norms)), "images_per_second": self.images_per_second,
                "peak_memory_gib": peak_memory(self.device) / GIB}


def highest_rate(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the group that has the highest: with --layer-decay that of the classifier."""
    return max(group["lr"] for group in optimizer.param_groups)
