"""One step, one epoch, one evaluation, one run: the loop that every trainer shares.

A trainer describes itself as a `Task`; everything else (order, updates, averages, checkpoints, interruption) is here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from timm.utils import ModelEmaV3
from torch.utils.data import DataLoader

from data.image_folder import ImageFolder
from data.image_list import Batch
from data.loaders import EvalBatches, Loading, TrainBatches, make_loader
from runtime.checkpoint import LATEST, Checkpoint, publish_best, save_checkpoint
from runtime.logbook import Logbook
from runtime.networks import Architecture, load_weights
from runtime.optim import Clipping, make_ema, make_optimizer, make_schedule, scaled_lr
from runtime.options import OptimizerOptions, RunOptions
from runtime.placement import Placement
from utils import Interrupted, StopSignal, UserError, mix_seed, peak_memory, seed_everything


class Meter(Protocol):
    """Collects an evaluation batch by batch, each under its number in the whole."""

    def update(self, number: int, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Count one batch."""

    def result(self) -> dict[str, float]:
        """The figures over all batches of all ranks."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one trainer asks for and another does not.

    Attributes:
        criterion: (network outputs, targets) -> scalar loss.
        meter: makes the collector of one evaluation.
        monitor: the figure, higher is better, that chooses model_best.pth.
        headline: the figures of an evaluation as the line that is printed.
        mix: mixes the pictures and targets of a batch, or None.
    """

    criterion: torch.nn.Module
    meter: Callable[[], Meter]
    monitor: str
    headline: Callable[[dict[str, float]], str]
    mix: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None


def evaluate(network: torch.nn.Module, loader: DataLoader, meter: Meter, place: Placement,
             logbook: Logbook) -> dict[str, float]:
    """The figures of `network`, which is at `place`, over every picture of `loader` that can be read."""
    network.eval()
    with torch.inference_mode(), logbook.bar("evaluate", len(loader)) as bar:
        for number, batch in enumerate(loader):
            report_failures(batch, loader.dataset, logbook)
            if len(batch.targets):
                meter.update(number, network(place.images(batch.images)), batch.targets.to(place.device))
            bar.update()
    return meter.result()


def report_failures(batch: Batch, dataset: ImageFolder, logbook: Logbook) -> None:
    """Name the pictures that were fine at the start and cannot be read any more."""
    for index, reason in batch.failures:
        logbook.say(f"left out: {dataset.path(index)} ({reason})")


@dataclass
class Position:
    """How far a run has come: `epoch` epochs are complete, and `step` updates of the next one."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    best_metric: float = -math.inf


class Run:
    """A training run: the network, what moves it, how far it is, and the folder it writes to."""

    def __init__(self, *, task: Task, network: torch.nn.Module, architecture: Architecture, config: dict[str, Any],
                 classes: list[str], train_set: ImageFolder, val_set: ImageFolder, loading: Loading,
                 optimizing: OptimizerOptions, options: RunOptions, place: Placement) -> None:
        """Assemble a run at its beginning.

        Args:
            task: what this trainer asks for.
            network: at `place`, with its first weights.
            architecture: how to build `network` again.
            config: plain Python that every checkpoint keeps; inference reads `preprocessing` from it.
            classes: class names in the order of the head's rows.
            train_set: pictures with augmentation.
            val_set: pictures with the evaluation's transform, in the training set's class ids.
            loading: batch size and processes.
            optimizing: the optimiser's flags.
            options: the run's flags.
            place: device and memory format.
        """
        self.task, self.network, self.architecture, self.place = task, network, architecture, place
        self.classes, self.options, self.optimizing = classes, options, optimizing
        self.config = {**config, "architecture": architecture.name, "num_classes": architecture.num_classes,
                       "model_args": architecture.model_args}
        self.train_batches = TrainBatches(len(train_set), loading, seed=options.seed,
                                          accumulation=optimizing.accumulation_steps)
        self.train_loader = make_loader(train_set, self.train_batches, loading)
        self.val_loader = make_loader(val_set, EvalBatches(len(val_set), loading), loading)
        self.per_update = loading.batch_size * loading.world_size * optimizing.accumulation_steps
        self.lr = scaled_lr(optimizing, self.per_update)
        self.optimizer = make_optimizer(network, optimizing, self.lr)
        self.schedule = make_schedule(self.optimizer, optimizing, self.lr, self.updates_per_epoch)
        self.ema: ModelEmaV3 | None = make_ema(network, optimizing)
        self.clip = Clipping(network, optimizing.clip_mode, optimizing.clip_grad)
        self.position = Position()
        self.schedule.step_update(0)

    @property
    def updates_per_epoch(self) -> int:
        """Updates of the weights in one epoch."""
        return self.train_batches.updates

    @property
    def evaluated(self) -> torch.nn.Module:
        """The network whose figures count: the moving average where there is one."""
        return self.ema.module if self.ema else self.network

    def summary(self) -> str:
        """What will run, on one line."""
        parameters = sum(parameter.numel() for parameter in self.network.parameters())
        train, val = len(self.train_loader.dataset), len(self.val_loader.dataset)
        return (f"{self.architecture.name}, {parameters / 1e6:.2f} M parameters, {len(self.classes)} artists, {train} "
                f"pictures to train and {val} to validate, {self.updates_per_epoch} updates of {self.per_update} "
                f"pictures per epoch, learning rate {self.lr:.2e}, on {self.place.device}")

    # ---- one update, one epoch ----

    def update(self, batches: tuple[Batch, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the weights once by the mean gradient of `batches`; their mean loss and the gradient's norm, both ()."""
        position = self.position
        seed_everything(mix_seed(self.options.seed, position.epoch, position.step, self.train_batches.loading.rank))
        total = torch.zeros((), device=self.place.device)
        for batch in batches:
            images = self.place.images(batch.images)
            targets = batch.targets.to(self.place.device, non_blocking=True)
            if self.task.mix is not None:
                images, targets = self.task.mix(images, targets)
            loss = self.task.criterion(self.network(images), targets) / len(batches)
            loss.backward()
            total += loss.detach()
        norm = self.clip()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        position.step += 1
        done = position.epoch * self.updates_per_epoch + position.step
        self.schedule.step_update(done)
        if self.ema:
            self.ema.update(self.network, step=done)
        return total, norm

    def train_epoch(self, logbook: Logbook, stop: StopSignal) -> dict[str, float]:
        """Train to the end of the epoch in progress, or until `stop`; the epoch's figures.

        Raises:
            UserError: the loss is not finite.
        """
        self.network.train()
        started, first, position = time.perf_counter(), self.position.step, self.position
        rate, norms = self.optimizer.param_groups[0]["lr"], []
        with logbook.bar(f"epoch {position.epoch + 1}/{self.optimizing.epochs}", self.updates_per_epoch, first) as bar:
            for batches in self._batches(logbook):
                loss, norm = self.update(batches)
                self._check_finite(loss, batches)
                position.loss_sum += loss.item()
                norms.append(norm)
                bar.update()
                rate = self.optimizer.param_groups[0]["lr"]
                speed = (position.step - first) * self.per_update / (time.perf_counter() - started)
                bar.set_postfix_str(f"loss {position.loss_sum / position.step:.3f} lr {rate:.1e} {speed:.0f} img/s "
                                    f"{peak_memory(self.place.device) / 2**30:.1f} GiB")
                if stop.signum:
                    break
        seconds = time.perf_counter() - started
        return {"train_loss": position.loss_sum / max(1, position.step), "lr": rate,
                "grad_norm": torch.stack(norms).mean().item() if norms else 0.0,
                "images_per_second": (position.step - first) * self.per_update / seconds,
                "peak_memory_gib": peak_memory(self.place.device) / 2**30}

    def _batches(self, logbook: Logbook) -> Iterator[tuple[Batch, ...]]:
        """The rest of the epoch's batches, as many at a time as make an update."""
        count = self.optimizing.accumulation_steps
        self.train_batches.start(self.position.epoch, self.position.step * count)
        waiting: list[Batch] = []
        for batch in self.train_loader:
            report_failures(batch, self.train_loader.dataset, logbook)
            waiting.append(batch)
            if len(waiting) == count:
                yield tuple(waiting)
                waiting = []

    def _check_finite(self, loss: torch.Tensor, batches: tuple[Batch, ...]) -> None:
        if not torch.isfinite(loss):
            dataset = self.train_loader.dataset
            names = [dataset.names[index] for batch in batches for index in batch.indices.tolist()]
            raise UserError(f"loss {loss.item()} in epoch {self.position.epoch + 1}, step {self.position.step}, with "
                            f"{', '.join(names)}", "a finite loss",
                            "look at these pictures, lower --lr, or resume the last checkpoint with another --seed")

    # ---- the run ----

    def fit(self, logbook: Logbook) -> None:
        """Train from where `position` stands to the last epoch, evaluating and saving on the way.

        Raises:
            Interrupted: a signal asked to stop; checkpoint.pth holds everything so far.
        """
        position, epochs = self.position, self.optimizing.epochs
        with StopSignal() as stop:
            while position.epoch < epochs:
                record = self.train_epoch(logbook, stop)
                if position.step == self.updates_per_epoch:
                    self._finish_epoch(record, logbook)
                self.save(LATEST)
                if stop.signum and position.epoch < epochs:
                    raise Interrupted(stop.signum, f"stopped by signal {stop.signum} in epoch {position.epoch + 1}; "
                                                   "saved; --resume auto goes on from here")

    def _finish_epoch(self, record: dict[str, float], logbook: Logbook) -> None:
        position, options = self.position, self.options
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
        logbook.say(f"epoch {position.epoch}/{self.optimizing.epochs} loss {record['train_loss']:.4f} "
                    f"lr {record['lr']:.2e} {record['images_per_second']:.0f} img/s")
        if position.epoch % options.eval_every == 0 or position.epoch == self.optimizing.epochs:
            figures = self.evaluate(logbook)
            record |= {f"val_{name}": value for name, value in figures.items()}
            logbook.say(self.task.headline(figures))
            if figures[self.task.monitor] > position.best_metric:
                position.best_metric = figures[self.task.monitor]
                content = {**self._content(), "model": self.evaluated.state_dict(), "metrics": figures}
                publish_best(options.output_dir, content, self.network, self.architecture)
        logbook.record({"epoch": position.epoch, **record})
        if options.save_every and position.epoch % options.save_every == 0:
            self.save(f"checkpoint_{position.epoch}.pth")

    def evaluate(self, logbook: Logbook) -> dict[str, float]:
        """The figures of the evaluated network on the validation set."""
        return evaluate(self.evaluated, self.val_loader, self.task.meter(), self.place, logbook)

    # ---- checkpoints ----

    def _content(self) -> dict[str, Any]:
        position = self.position
        return {"epoch": position.epoch, "step": position.step, "loss_sum": position.loss_sum,
                "best_metric": position.best_metric, "per_update": self.per_update, "rng": {"seed": self.options.seed},
                "classes": self.classes, "config": self.config}

    def save(self, name: str) -> None:
        """Write everything a bit-exact resume needs to `name` in the output folder."""
        save_checkpoint(self.options.output_dir / name, {
            **self._content(), "model": self.network.state_dict(),
            "model_ema": self.ema.module.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(), "lr_scheduler": self.schedule.state_dict(), "scaler": None})

    def restore(self, checkpoint: Checkpoint, logbook: Logbook) -> None:
        """Go on where `checkpoint` stopped.

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
            raise UserError(f"{checkpoint.path}, whose optimiser is another ({error})", f"--opt {self.optimizing.opt}",
                            "repeat the flags of the first start") from error
        position = self.position
        position.epoch, position.step = content["epoch"], content.get("step", 0)
        if not checkpoint.is_ours:
            position.epoch += 1  # older trainers saved the number of the epoch they had just finished, from 0
        position.loss_sum = content.get("loss_sum", 0.0)
        position.best_metric = content.get("best_metric", position.best_metric)
        # Another number of processes or another batch size: the same share of the epoch is done.
        position.step = position.step * content.get("per_update", self.per_update) // self.per_update
        self.schedule.step_update(position.epoch * self.updates_per_epoch + position.step)
        logbook.say(f"resumed {checkpoint.path} after epoch {position.epoch}, update {position.step}")
