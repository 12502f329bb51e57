"""Everything that an exact resume needs: weights, their average, the optimiser, the position in the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3

from runtime.checkpoint import LATEST, Checkpoint, dense
from runtime.divided_state import own_moments, own_state, whole_optimizer, whole_shapes, whole_state
from runtime.networks import load_weights
from utils import UserError

Number = Annotated[int, Meta(ge=0, lt=2**53)]


@dataclass
class Position:
    """How far a run has come.

    Attributes:
        epoch: complete epochs.
        step: updates done in the epoch after them.
        loss_sum: sum of the losses of these updates.
        skipped: latest updates in a row that were skipped because of fp16 overflow.
        best_metric: the highest monitored figure so far.
        stale: evaluations since then.
    """

    epoch: Number = 0
    step: Number = 0
    loss_sum: float = 0.0
    skipped: Number = 0
    best_metric: float = -math.inf
    stale: Number = 0


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
        """All of it as tensors and plain Python, for a checkpoint; whole on the first rank only. All ranks call it."""
        return {**asdict(self.position), "per_update": self.per_update, "model": whole_state(self.network),
                "model_ema": whole_state(self.ema.module) if self.ema else None,
                "optimizer": whole_optimizer(self.optimizer, self.network), "lr_scheduler": self.schedule.state_dict(),
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
        load_weights(self.network, own_state(self.network, checkpoint.model), checkpoint.path)
        if self.ema:
            average = content.get("model_ema") or checkpoint.model
            load_weights(self.ema.module, own_state(self.ema.module, average), checkpoint.path)
        try:
            self._restore_parts(content)
        except (AttributeError, KeyError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{checkpoint.path}, whose optimiser is another ({error})", "that of the first start",
                            "repeat the flags of the first start") from error
        if not checkpoint.is_ours:
            self.position.epoch += 1  # older trainers saved the number of the epoch they had just finished, from 0
        self.schedule.step_update(self.updates)

    def _restore_parts(self, content: dict[str, Any]) -> None:
        """Optimiser, scaler and position; raises what they raise for odd content."""
        saved, own = content["optimizer"], self.optimizer.state_dict()
        groups = [{**{key: value for key, value in mine.items() if value is None or isinstance(value, bool)}, **found}
                  for mine, found in zip(own["param_groups"], saved["param_groups"], strict=True)]
        if not _agree(groups, own["param_groups"]):  # but for switches, which an older torch does not know
            raise ValueError("its settings, or the weights they are for")
        _check_moments(saved["state"], whole_shapes(self.optimizer, self.network))
        moments = own_moments(self.optimizer, self.network, saved["state"])
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if content.get("scaler"):
            if not _agree(content["scaler"], self.scaler.state_dict()):
                raise ValueError("its loss scaling")
            self.scaler.load_state_dict(content["scaler"])
        self.position = msgspec.convert({field.name: content[field.name] for field in fields(Position)
                                         if field.name in content}, Position)
        # Another number of processes or another batch size: the same share of the epoch is done.
        per_update = msgspec.convert(content.get("per_update", self.per_update), Annotated[int, Meta(ge=1, lt=2**53)])
        self.position.step = self.position.step * per_update // self.per_update


def _agree(found: Any, own: Any) -> bool:
    """Whether `found`, of a file, has the types and the lengths of `own`; entries that `own` lacks do not count."""
    if isinstance(own, dict):
        return isinstance(found, dict) and all(key in found and _agree(found[key], own[key]) for key in own)
    if isinstance(own, list | tuple):
        return isinstance(found, list | tuple) and len(found) == len(own) and all(map(_agree, found, own))
    if own is None or isinstance(own, bool):
        return found is None or isinstance(found, bool | int | float)
    if isinstance(own, int | float):
        return isinstance(found, int | float) and math.isfinite(found)
    return type(found) is type(own)


def _check_moments(state: dict[int, dict[str, Any]], shapes: list[torch.Size]) -> None:
    """Raise a `ValueError` unless each tensor is dense and has the shape of its weight, or part of its dimensions."""
    for index, moments in state.items():
        for name, moment in moments.items():
            if isinstance(moment, torch.Tensor):
                dimensions = iter(shapes[index])
                if dense(moment) is None or not all(size == 1 or size in dimensions for size in moment.shape):
                    raise ValueError(f"its {name} fits no weights")
            elif name.startswith("exp_avg") or name == "momentum_buffer" or not isinstance(moment, int | float | None):
                raise ValueError(f"its {name} is a {type(moment).__name__}")
