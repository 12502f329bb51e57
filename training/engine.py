"""One step, one epoch, one evaluation, one run: the loop that every trainer shares.

A trainer describes itself as a `Task`; everything else (order, updates, averages, checkpoints, interruption) is here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from data.image_folder import ImageFolder
from data.image_list import Batch, refill
from data.loaders import EvalBatches, Loading, TrainBatches, make_loader
from evaluation.evaluator import Examination, Meter, evaluate, report_failures
from runtime.checkpoint import LATEST, Checkpoint, publish_best, save_checkpoint
from runtime.logbook import Logbook
from runtime.networks import Architecture
from runtime.options import OptimizerOptions, RunOptions
from runtime.placement import Placement
from runtime.processes import StopSignal, gather, rank, world_size
from training.freezing import set_training_mode
from training.optim import Clipping, make_ema, make_optimizer, make_schedule, scaled_lr
from training.pace import Pace
from training.state import Position, TrainingState
from utils import Interrupted, UserError, mix_seed, seed_everything

MOST_SKIPPED = 10  # fp16 updates in a row that may overflow before the run counts as diverged


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one trainer asks for and another does not.

    Attributes:
        criterion: (learner outputs, targets, images) -> scalar loss.
        examination: how the network is judged.
        mix: mixes the pictures and targets of a batch, or None.
        weights: how often each training picture is drawn relative to the others, (N,); None: each once an epoch.
        repeats: how often a picture comes in an epoch in which it comes, each time with another augmentation.
        still: what stays in evaluation mode in training, as `set_training_mode` takes it.
        learner: makes of the network what the criterion reads, such as `WithFeatures`.
    """

    criterion: torch.nn.Module
    examination: Examination
    mix: Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]] | None = None
    weights: np.ndarray | None = None
    repeats: int = 1
    still: str = "nothing"
    learner: Callable[[torch.nn.Module], torch.nn.Module] | None = None


class Run:
    """A training run: its state, the pictures it learns from, and the folder it writes to."""

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
            place: device, memory format and precision.
        """
        self.task, self.architecture, self.place = task, architecture, place
        self.classes, self.options, self.optimizing = classes, options, optimizing
        self.config = {**config, "architecture": architecture.name, "num_classes": architecture.num_classes,
                       "model_args": architecture.model_args}
        self.train_batches = TrainBatches(len(train_set), loading, seed=options.seed,
                                          accumulation=optimizing.accumulation_steps, weights=task.weights,
                                          repeats=task.repeats)
        self.train_loader = make_loader(train_set, self.train_batches, loading)
        # Without --dist-eval the first rank evaluates everything: it has all the batches, the others none.
        sharing = loading if options.dist_eval else replace(loading, rank=rank(), world_size=1)
        val_batches = EvalBatches(len(val_set) if options.dist_eval or rank() == 0 else 0, sharing)
        self.val_loader = make_loader(val_set, val_batches, loading)
        per_update = loading.batch_size * loading.world_size * optimizing.accumulation_steps
        self.lr = scaled_lr(optimizing, per_update)
        optimizer = make_optimizer(network, optimizing, self.lr)
        updates = self.train_batches.updates
        self.state = TrainingState(
            network=network, ema=make_ema(network, optimizing), optimizer=optimizer,
            schedule=make_schedule(optimizer, optimizing, self.lr, updates), scaler=place.scaler(),
            updates_per_epoch=updates, per_update=per_update, position=Position())
        self.state.schedule.step_update(0)
        self.clip = Clipping(network, optimizing.clip_mode, optimizing.clip_grad)
        self.learner = task.learner(network) if task.learner else network
        if options.compile:
            self.learner.compile()
            self.state.evaluated.compile()
        self._frozen: bool | None = None
        self._prepare_to_train()

    def _prepare_to_train(self) -> None:
        """Put the network into the mode of the epoch to come."""
        frozen = self.state.position.epoch < self.options.freeze_backbone
        set_training_mode(self.state.network, frozen=frozen, still=self.task.still)
        if frozen is not self._frozen:  # the wrapper that averages the ranks' gradients is made for those that exist
            self._frozen, self.forward = frozen, None
            self.forward = DistributedDataParallel(
                self.learner, device_ids=[self.place.device] if self.place.device.type == "cuda" else None
            ) if world_size() > 1 else self.learner

    def summary(self) -> str:
        """What will run, on one line."""
        parameters = sum(parameter.numel() for parameter in self.state.network.parameters())
        train, val = len(self.train_loader.dataset), len(self.val_loader.dataset)
        return (f"{self.architecture.name}, {parameters / 1e6:.2f} M parameters, {len(self.classes)} classes, {train} "
                f"pictures to train and {val} to validate, {self.state.updates_per_epoch} updates of "
                f"{self.state.per_update} pictures per epoch, learning rate {self.lr:.2e}, on {self.place}")

    # ---- one update, one epoch ----

    def update(self, batches: tuple[Batch, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the weights once by the mean gradient of `batches`; their mean loss and the gradient's norm, both ()."""
        state = self.state
        seed_everything(mix_seed(self.options.seed, state.position.epoch, state.position.step, rank()))
        total = torch.zeros((), device=self.place.device)
        for number, batch in enumerate(batches, 1):
            total += self._backward(batch, len(batches), last=number == len(batches))
        state.scaler.unscale_(state.optimizer)
        norm = self.clip()
        state.scaler.step(state.optimizer)
        self._count_overflow()
        state.optimizer.zero_grad(set_to_none=True)
        state.position.step += 1
        state.schedule.step_update(state.updates)
        if state.ema:
            state.ema.update(state.network, step=state.updates)
        return total, norm

    def _backward(self, batch: Batch, parts: int, *, last: bool) -> torch.Tensor:
        """Add the gradient of one of `parts` batches; ranks exchange gradients only on the `last`."""
        images, targets = self.place.images(batch.images), batch.targets.to(self.place.device, non_blocking=True)
        if self.task.mix is not None:
            images, targets = self.task.mix(images, targets)
        alone = self.forward.no_sync() if world_size() > 1 and not last else contextlib.nullcontext()
        with alone:
            with self.place.autocast():
                loss = self.task.criterion(self.forward(images), targets, images) / parts
            self.state.scaler.scale(loss).backward()
        return loss.detach()

    def _count_overflow(self) -> None:
        scaler, position = self.state.scaler, self.state.position
        if not scaler.is_enabled():
            return
        before = scaler.get_scale()
        scaler.update()
        position.skipped = position.skipped + 1 if scaler.get_scale() < before else 0
        if position.skipped >= MOST_SKIPPED:
            raise UserError(f"{MOST_SKIPPED} fp16 overflows in a row in epoch {position.epoch + 1}, step "
                            f"{position.step}", "gradients that fp16 can hold",
                            "use --amp bf16 or --amp off, or lower --lr")

    def train_epoch(self, logbook: Logbook, stop: StopSignal) -> dict[str, float]:
        """Train to the end of the epoch in progress, or until `stop`; the epoch's figures.

        Raises:
            UserError: the loss is not finite.
        """
        self._prepare_to_train()
        position, pace = self.state.position, Pace(self.state, self.train_loader.dataset, self.place.device)
        title = f"epoch {position.epoch + 1}/{self.optimizing.epochs}"
        with logbook.bar(title, self.state.updates_per_epoch, position.step) as bar:
            for batches in self._batches(logbook):
                pace.count(*self.update(batches), batches)
                bar.set_postfix_str(pace.line(), refresh=False)
                bar.update()
                if self.options.log_every and position.step % self.options.log_every == 0:
                    logbook.say_off_terminal(f"{title} update {position.step}/{self.state.updates_per_epoch} "
                                             f"{pace.line()}")
                if stop.agreed():
                    break
                if self.options.save_steps and position.step % self.options.save_steps == 0:
                    pace.settle()
                    self.save(LATEST)
        return pace.figures()

    def _batches(self, logbook: Logbook) -> Iterator[tuple[Batch, ...]]:
        """The rest of the epoch's batches, as many at a time as make an update."""
        count, position = self.optimizing.accumulation_steps, self.state.position
        self.train_batches.start(position.epoch, position.step * count)
        waiting: list[Batch] = []
        for batch in self.train_loader:
            report_failures(batch, self.train_loader.dataset, logbook)
            batch = refill(batch, self.train_batches.loading.batch_size)
            if self.state.updates == 0 and not waiting:
                logbook.pictures("first batch", batch.images)
            waiting.append(batch)
            if len(waiting) == count:
                yield tuple(waiting)
                waiting = []

    # ---- the run ----

    def fit(self, logbook: Logbook) -> None:
        """Train from where the state stands to the last epoch, evaluating and saving on the way.

        Raises:
            Interrupted: a signal asked to stop; checkpoint.pth holds everything so far.
        """
        position, epochs = self.state.position, self.optimizing.epochs
        with StopSignal() as stop:
            while position.epoch < epochs:
                record = self.train_epoch(logbook, stop)
                if position.step == self.state.updates_per_epoch:
                    self._finish_epoch(record, logbook)
                self.save(LATEST)
                if (signum := stop.agreed()) and position.epoch < epochs:
                    raise Interrupted(signum, f"stopped by signal {signum} in epoch {position.epoch + 1}; saved; "
                                              "--resume auto goes on from here")

    def _finish_epoch(self, record: dict[str, float], logbook: Logbook) -> None:
        position, options = self.state.position, self.options
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
        logbook.say(f"epoch {position.epoch}/{self.optimizing.epochs} loss {record['train_loss']:.4f} "
                    f"lr {record['lr']:.2e} {record['images_per_second']:.0f} img/s")
        if position.epoch % options.eval_every == 0 or position.epoch == self.optimizing.epochs:
            meter = self.task.examination.meter()
            figures = self.evaluate(meter, logbook)
            record |= {f"val_{name}": value for name, value in figures.items()}
            logbook.say(self.task.examination.headline(figures))
            if figures[self.task.examination.monitor] > position.best_metric:
                position.best_metric = figures[self.task.examination.monitor]
                self._publish(figures, meter, logbook)
        logbook.record({"epoch": position.epoch, **record})
        if options.save_every and position.epoch % options.save_every == 0:
            self.save(f"checkpoint_{position.epoch}.pth")

    def evaluate(self, meter: Meter, logbook: Logbook) -> dict[str, float]:
        """The figures of the evaluated network on the validation set, collected by `meter`."""
        if world_size() > 1:  # each rank has running statistics of its own pictures; the first rank's count
            for buffer in self.state.evaluated.buffers():
                torch.distributed.broadcast(buffer, 0)
        network = self.task.examination.asked(self.state.evaluated)
        return evaluate(network, self.val_loader, meter, self.place, logbook)

    # ---- checkpoints ----

    def _facts(self) -> dict[str, Any]:
        return {"rng": {"seed": self.options.seed}, "classes": self.classes, "config": self.config}

    def _publish(self, figures: dict[str, float], meter: Meter, logbook: Logbook) -> None:
        if rank() == 0:
            position, evaluated = self.state.position, self.state.evaluated
            content = {**self._facts(), "model": evaluated.state_dict(), "epoch": position.epoch, "step": position.step,
                       "best_metric": position.best_metric, "metrics": figures}
            publish_best(self.options.output_dir, content, evaluated, self.architecture)
            drawings = self.task.examination.report(self.options.output_dir, meter)
            for title, path in drawings.items():
                logbook.drawing(title, path, position.epoch)

    def save(self, name: str) -> None:
        """Write everything a bit-exact resume needs to `name` in the output folder, and wait until it is there."""
        if rank() == 0:
            save_checkpoint(self.options.output_dir / name, {**self._facts(), **self.state.as_content()})
        gather(None)

    def restore(self, checkpoint: Checkpoint) -> str:
        """Go on where `checkpoint` stopped; a line to tell the user.

        Raises:
            UserError: the file holds weights only, or the optimiser of another network.
        """
        self.state.restore(checkpoint)
        position = self.state.position
        return f"resumed {checkpoint.path} after epoch {position.epoch}, update {position.step}"
