"""How an epoch is going: loss, gradient norm, speed, and whether the loss is still a number."""

from __future__ import annotations

import time

import torch

from data.image_folder import ImageFolder
from data.image_list import Batch
from runtime.processes import gather
from training.state import TrainingState
from utils import UserError, peak_memory

GIB = 2**30


class Pace:
    """Counts the updates of one epoch, each when the next is under way, so that a GPU never waits to be asked."""

    def __init__(self, state: TrainingState, dataset: ImageFolder, device: torch.device) -> None:
        """Begin where `state` stands."""
        self.state, self.dataset, self.device = state, dataset, device
        self.started, self.first = time.perf_counter(), state.position.step
        self.norms: list[float] = []
        self.rate = state.optimizer.param_groups[0]["lr"]
        self._pending: tuple[torch.Tensor, torch.Tensor, tuple[Batch, ...], int] | None = None

    def count(self, loss: torch.Tensor, norm: torch.Tensor, batches: tuple[Batch, ...]) -> None:
        """Take note of an update, and look at the one before.

        Raises:
            UserError: the loss of the one before is not finite.
        """
        self.settle()
        self._pending = loss, norm, batches, self.state.position.step
        self.rate = self.state.optimizer.param_groups[0]["lr"]

    def settle(self) -> None:
        """Look at the last update; call before saving, so that no checkpoint follows a loss that is no number.

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
    def speed(self) -> float:
        """Pictures per second, on all ranks, since this process began the epoch."""
        return (self.state.position.step - self.first) * self.state.per_update / (time.perf_counter() - self.started)

    def line(self) -> str:
        """The figures so far, for a progress bar."""
        counted = self.state.position.step - (self._pending is not None)
        loss = self.state.position.loss_sum / max(1, counted)
        return (f"loss {loss:.3f} lr {self.rate:.1e} {self.speed:.0f} img/s "
                f"{peak_memory(self.device) / GIB:.1f} GiB")

    def figures(self) -> dict[str, float]:
        """The epoch's figures, the same on every rank; the loss is the mean over updates and ranks."""
        self.settle()
        sums = gather(self.state.position.loss_sum)
        return {"train_loss": sum(sums) / len(sums) / max(1, self.state.position.step), "lr": self.rate,
                "grad_norm": sum(self.norms) / max(1, len(self.norms)), "images_per_second": self.speed,
                "peak_memory_gib": peak_memory(self.device) / GIB}
