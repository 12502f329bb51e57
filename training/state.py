"""Everything that an exact resume needs: weights, their average, the optimiser, the position in the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3

from runtime.checkpoint import LATEST, Checkpoint
from runtime.networks import load_weights
from utils import UserError


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        epoch: complete epochs.
        step: updates done in the epoch after them.
        loss_sum: sum of the losses of these updates.
        skipped: latest updates in a row that were skipped because of fp16 overflow.
        best_metric: the highest monitored figure so far.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    skipped: int = 0
    best_metric: float = -math.inf


@dataclass(kw_only=True)
class TrainingState:
    """The parts of a run that change while it trains.

    Attributes:
        network: with the weights that learn.
        ema: their moving average, or None.
        optimizer: of the weights.
        schedule: the learning rate, a function of the number of updates only.
        scaler: loss scaling for fp16; disabled in other precisions.
        updates_per_epoch: updates of the weights in one epoch.
        per_update: images per update, on all ranks.
        position: how far the run has come.
    """

    network: torch.nn.Module
    ema: ModelEmaV3 | None
    optimizer: torch.optim.Optimizer
    schedule: Scheduler
    scaler: torch.amp.GradScaler
    updates_per_epoch: int
    per_update: int
    position: Position

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network that is evaluated and published: the moving average where there is one."""
        return self.ema.module if self.ema else self.network

    @property
    def updates(self) -> int:
        """Updates since the beginning of the run."""
        return self.position.epoch * self.updates_per_epoch + self.position.step

    def as_content(self) -> dict[str, Any]:
        """All of it as tensors and plain Python, for a checkpoint."""
        return {**asdict(self.position), "per_update": self.per_update, "model": self.network.state_dict(),
                "model_ema": self.ema.module.state_dict() if self.ema else None,
                "optimizer": self.optimizer.state_dict(), "lr_scheduler": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue where `checkpoint` stopped; files of older trainers were saved at the end of an epoch.

        Raises:
            UserError: the file holds weights only, or the optimiser of another network.
        """
        content = checkpoint.content
        if not content.get("optimizer"):
            raise UserError(f"{checkpoint.path}, which holds weights only", f"a {LATEST} or checkpoint_<epoch>.pth",
                            "resume from one of these, or start from the weights with --finetune-from")
        load_weights(self.network, checkpoint.model, checkpoint.path)
        if self.ema:
            load_weights(self.ema.module, content.get("model_ema") or checkpoint.model, checkpoint.path)
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise UserError(f"{checkpoint.path}, whose optimiser is another ({error})", "that of the first start",
                            "repeat the flags of the first start") from error
        if content.get("scaler"):
            self.scaler.load_state_dict(content["scaler"])
        for field in fields(Position):
            setattr(self.position, field.name, content.get(field.name, field.default))
        if not checkpoint.is_ours:
            self.position.epoch += 1  # older trainers saved the number of the epoch they had just finished, from 0
        # Another number of processes or another batch size: the same share of the epoch is done.
        self.position.step = self.position.step * content.get("per_update", self.per_update) // self.per_update
        self.schedule.step_update(self.updates)
