"""The training loop that every trainer shares: one update, one epoch, evaluation, checkpoints, interruption."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from data.image_list import Batch, LabelledImages, refill
from data.loaders import EvalBatches, Loading, TrainBatches, WorkersLost, make_loader
from data.output_folder import replace_together
from drawing.plots import training_curves
from evaluation.class_parallel import divide_evaluation
from evaluation.evaluator import Evaluation, Meter, check_gone, check_lost, evaluate_loader, log_failures
from evaluation.validation_answers import count_kept
from runtime.checkpoint import LATEST, Checkpoint, publish_best, save_checkpoint
from runtime.class_parallel import divided_names
from runtime.class_sampling import make_sampling
from runtime.divided_state import is_finite, whole_state
from runtime.logbook import Logbook
from runtime.networks import Architecture
from runtime.options import OptimizerOptions, RunOptions
from runtime.placement import Placement, inductor_or_eager
from runtime.processes import StopSignal, gather, rank, world_size
from training.augmentation import Mix
from training.epoch_meter import EpochMeter
from training.optim import Clipping, make_ema, make_optimizer, make_schedule, scale_lr, set_training_mode
from training.pictures import Pictures
from training.run_folder import CURVES, EPOCH_CHECKPOINT, PUBLISHED
from training.sharding import Sharded, shard
from training.state import Position, TrainingState
from training.time_left import Cheaper, RunClock
from utils import Interrupted, UserError, counted, mix_seed, seed_everything

CANNOT_GO_ON = 1000  # in place of the number of a signal
MOST_SKIPPED = 10  # fp16 updates in a row that may overflow before the run counts as diverged


def publish_whole(network: torch.nn.Module, architecture: Architecture) -> tuple[torch.nn.Module, Architecture]:
    """Both as they are."""
    return network, architecture


@dataclass(frozen=True, kw_only=True)
class Task:
    """What differs between trainers in the loop.

    Attributes:
        criterion: (outputs, targets, images) -> scalar loss.
        evaluation: how the network is evaluated.
        mix: mixes the images and targets of a batch, or None.
        sampling_weights: relative probability of drawing each training image, (N,); None: each once an epoch.
        repeats: how often an image is drawn in an epoch, each time with another augmentation.
        train_mode: whether the network trains in training mode, see `set_training_mode`.
        wrap_model: makes of the network what the criterion needs, such as `WithFeatures`.
        publish: takes from the network, and its architecture, the part that model_best.pth and the folder hold.
    """

    criterion: torch.nn.Module
    evaluation: Evaluation
    mix: Mix | None = None
    sampling_weights: np.ndarray | None = None
    repeats: int = 1
    train_mode: bool = True
    wrap_model: Callable[[torch.nn.Module], torch.nn.Module] | None = None
    publish: Callable[[torch.nn.Module, Architecture], tuple[torch.nn.Module, Architecture]] = publish_whole


class Run:
    """A training run: its state, its datasets, and its output folder."""

    def __init__(self, *, task: Task, network: torch.nn.Module, architecture: Architecture, config: dict[str, Any],
                 train_set: LabelledImages, val_set: LabelledImages, loading: Loading, optimizing: OptimizerOptions,
                 options: RunOptions, placement: Placement, pictures: Pictures | None = None,
                 cheaper: Cheaper | None = None, fsdp: bool = False, sample_rate: float = 1.0) -> None:
        """Assemble a run at its beginning.

        `network` is at `placement`, with its first weights; `architecture` builds it again. The classes of `train_set`
        are the rows of its head, which may be divided among ranks, and `val_set` has the same. Every checkpoint stores
        `config`, which is plain Python; inference reads `preprocessing` from it. checkpoint.pth also stores which
        `pictures` the data set had. `cheaper` is advised where the run takes hours. With `fsdp`, all weights are
        divided among the ranks. Of a divided head, updates read part of the rows at a `sample_rate` below 1.
        """
        self.pictures = pictures
        self.architecture, self.placement, self.config = architecture, placement, config
        self.task = replace(task, evaluation=divide_evaluation(
            task.evaluation, lambda: self.state.evaluated, count_kept(len(train_set.classes), len(val_set))))
        self.train_set, self.val_set = train_set, val_set
        self.options, self.optimizing, self.fsdp = options, optimizing, fsdp
        self.train_batches = TrainBatches(len(train_set), loading, seed=options.seed,
                                          accumulation=optimizing.accumulation_steps, weights=task.sampling_weights,
                                          repeats=task.repeats)
        self.train_loader = make_loader(train_set, self.train_batches, loading, lasting=True)
        # Without --dist-eval the first rank evaluates everything: it has all the batches, the others none.
        sharing = loading if options.dist_eval else replace(loading, rank=rank(), world_size=1)
        val_batches = EvalBatches(len(val_set) if options.dist_eval or rank() == 0 else 0, sharing)
        self.val_loader = make_loader(val_set, val_batches, loading, lasting=True)
        per_update = loading.batch_size * loading.world_size * optimizing.accumulation_steps
        self.lr = scale_lr(optimizing, per_update)
        ema = make_ema(network, optimizing)
        if fsdp:
            shard(network, ema, placement.device)
        optimizer = make_optimizer(network, optimizing, self.lr)
        self.sampling = make_sampling(network, optimizer, sample_rate)
        updates = self.train_batches.updates
        self.state = TrainingState(
            network=network, ema=ema, optimizer=optimizer,
            schedule=make_schedule(optimizer, optimizing, self.lr, updates), scaler=placement.make_scaler(),
            updates_per_epoch=updates, per_update=per_update, position=Position())
        self.state.schedule.step_update(0)
        self.clock = RunClock(self.state, epochs=optimizing.epochs, train=len(train_set),
                              val=len(val_set) / options.eval_every, cheaper=cheaper)
        self.clip = Clipping(network, optimizing.clip_mode, optimizing.clip_grad)
        self.learner = task.wrap_model(network) if task.wrap_model else network
        if options.compile:
            self.learner.compile(backend=inductor_or_eager)
            self.state.evaluated.compile(backend=inductor_or_eager)
        self._frozen: bool | None = None
        self._gone: list[Path] = []
        self._lost = ""  # why the training pictures cannot be loaded any more
        self._set_mode()

    def _set_mode(self) -> None:
        """Put the network into the mode of the next epoch."""
        frozen = self.state.position.epoch < self.options.freeze_backbone
        set_training_mode(self.state.network, frozen=frozen, freeze_bn=bool(self.optimizing.freeze_bn),
                          train_mode=self.task.train_mode)
        if frozen is not self._frozen:  # DistributedDataParallel must be made for the parameters that have gradients
            self._frozen = frozen
            self.forward: torch.nn.Module = self.learner
            own = divided_names(self.learner)  # each rank has its own rows, and no gradient for those of others
            is_shared = any(parameter.requires_grad for name, parameter in self.learner.named_parameters()
                            if name not in own)
            if world_size() > 1 and is_shared and not self.fsdp:
                DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.learner, own)
                device = self.placement.device
                self.forward = DistributedDataParallel(self.learner,
                                                       device_ids=[device] if device.type == "cuda" else None)

    def summary(self) -> str:
        """The run on one line."""
        parameters = sum(parameter.numel() for parameter in self.state.network.parameters())
        size = self.config["preprocessing"]["input_size"]
        classes = f"{len(self.train_set.classes)} classes, " if self.train_set.classes else ""
        return (f"{self.architecture.name} at {size} px, {parameters / 1e6:.2f} M parameters, {classes}"
                f"{counted(len(self.train_set), 'picture')} to train and "
                f"{len(self.val_set)} to validate, {counted(self.state.updates_per_epoch, 'update')} of "
                f"{self.state.per_update} pictures per epoch, learning rate {self.lr:.2e}, on {self.placement}")

    # ---- one update, one epoch ----

    def update(self, batches: tuple[Batch, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the weights by the mean gradient of `batches`; their mean loss and the gradient's norm, both ()."""
        state = self.state
        seeds = self.options.seed, state.position.epoch, state.position.step
        seed_everything(mix_seed(*seeds, rank()))
        total = torch.zeros((), device=self.placement.device)
        with self.sampling.update(torch.cat([batch.targets for batch in batches]), mix_seed(*seeds)) if (
                self.sampling) else contextlib.nullcontext():
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
        device = self.placement.device
        images, targets = self.placement.move_images(batch.images), batch.targets.to(device, non_blocking=True)
        if self.task.mix is not None:
            images, targets = self.task.mix(images, targets)
        forward = self.forward
        exchange = (contextlib.nullcontext() if last or not isinstance(forward, DistributedDataParallel)
                    else forward.no_sync())
        if isinstance(forward, Sharded):
            forward.set_requires_gradient_sync(last)
        with exchange:
            with self.placement.autocast():
                loss = self.task.criterion(forward(images), targets, images) / parts
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
        """Train to the end of the current epoch, or until `stop`; the epoch's figures.

        Raises:
            UserError: the loss is not finite.
        """
        self._set_mode()
        position, meter = self.state.position, EpochMeter(self.state, self.train_set, self.placement.device)
        title = f"epoch {position.epoch + 1}/{self.optimizing.epochs}"
        self.clock.begin_epoch()
        with logbook.bar(title, self.state.updates_per_epoch, position.step, has_figures=True) as bar:
            for batches in self._batches(logbook, stop):
                if stop.agree():  # before an update: a rank without batches cannot join in
                    break
                meter.add(*self.update(batches), batches)
                for line in self.clock.update():
                    logbook.log(line)
                bar.set_postfix_str(meter.format_short() + self.clock.left(), refresh=False)
                bar.update()
                if self.options.log_every and position.step % self.options.log_every == 0:
                    logbook.log_off_terminal(f"{title} update {position.step}/{self.state.updates_per_epoch} "
                                             f"{meter.format_line()}{self.clock.left()}")
                if self.options.save_steps and position.step % self.options.save_steps == 0:
                    meter.flush()
                    self.save(LATEST)
        self.clock.end_epoch()
        return meter.result()

    def _batches(self, logbook: Logbook, stop: StopSignal) -> Iterator[tuple[Batch, ...]]:
        """The rest of the epoch's batches, grouped into updates; asks to stop where pictures or workers are gone."""
        count, position = self.optimizing.accumulation_steps, self.state.position
        size = self.train_batches.loading.batch_size
        self.train_batches.start(position.epoch, position.step * count)
        waiting: list[Batch] = []
        last: Batch | None = None
        try:
            for batch in self.train_loader:
                if gone := log_failures(batch, self.train_set, logbook):
                    self._gone += gone
                    stop.signum = CANNOT_GO_ON
                # Every rank must have as many batches as the others.
                batch = last if last and not len(batch.targets) else refill(batch, size)
                last = batch
                if self.state.updates == 0 and not waiting:
                    logbook.show_images("first batch", self.train_set.preview(batch.images))
                waiting.append(batch)
                if len(waiting) == count:
                    yield tuple(waiting)
                    waiting = []
        except WorkersLost as error:
            if not stop.signum:  # else it is the signal that has ended them, too
                self._lost, stop.signum = str(error), CANNOT_GO_ON
            yield ()

    # ---- the run ----

    @property
    def finished(self) -> str | None:
        """Why there is nothing left to train; None if there is."""
        position, options = self.state.position, self.optimizing
        if position.epoch >= options.epochs:
            return f"{position.epoch} of {options.epochs} epochs; raise --epochs to go on"
        if options.patience and position.stale >= options.patience:
            return (f"{counted(position.epoch, 'epoch')}, and no better {self.task.evaluation.title} in the last "
                    f"{position.stale} evaluations; raise --patience to go on")
        return None

    def fit(self, logbook: Logbook) -> None:
        """Train from the current state to the last epoch, with evaluations and checkpoints.

        Raises:
            Interrupted: a signal asked to stop; checkpoint.pth holds everything so far.
            PicturesGone: pictures that were there at the start are not; the same holds.
            WorkersLost: a process that loads pictures has died; the same holds.
        """
        position = self.state.position
        with StopSignal() as stop, contextlib.closing(self.train_loader), contextlib.closing(self.val_loader):
            while not self.finished:
                record = self.train_epoch(logbook, stop)
                try:
                    check_gone(self._gone)
                    check_lost(self._lost)
                    if position.step == self.state.updates_per_epoch:
                        self._finish_epoch(record, logbook)
                except WorkersLost as error:
                    raise WorkersLost(f"{error}; saved in epoch {position.epoch + 1}; --resume auto goes on from "
                                      "here") from error
                finally:
                    self.save(LATEST)
                if (signum := stop.agree()) and not self.finished:
                    name = signal.Signals(signum).name
                    raise Interrupted(signum, f"stopped by {name} in epoch {position.epoch + 1}; saved; --resume auto "
                                              "goes on from here")
        if position.epoch < self.optimizing.epochs:
            logbook.log(f"ended early: {self.finished}")

    def _finish_epoch(self, record: dict[str, float], logbook: Logbook) -> None:
        position, options = self.state.position, self.options
        position.epoch, position.step, position.loss_sum = position.epoch + 1, 0, 0.0
        logbook.log(f"epoch {position.epoch}/{self.optimizing.epochs} loss {record['train_loss']:.4f} "
                    f"lr {record['lr']:.2e} {record['images_per_second']:.0f} img/s{self.clock.left()}")
        if position.epoch % options.eval_every == 0 or position.epoch == self.optimizing.epochs:
            record |= {f"val_{name}": value for name, value in self._evaluate(logbook).items()}
        if records := logbook.record({"epoch": position.epoch, **record}):
            training_curves(records, options.output_dir / CURVES)
        if options.save_every and position.epoch % options.save_every == 0:
            self.save(EPOCH_CHECKPOINT.format(position.epoch))

    def _evaluate(self, logbook: Logbook) -> dict[str, float]:
        """The figures on the validation set; the weights are published if they are the best so far."""
        position, evaluation = self.state.position, self.task.evaluation
        if world_size() > 1:  # each rank has running statistics of its own images; the first rank's count
            for buffer in self.state.evaluated.buffers():
                torch.distributed.broadcast(buffer, 0)
        meter = evaluation.make_meter()
        evaluated = self._gather_evaluated()
        figures = evaluate_loader(evaluation.wrap_model(evaluated), self.val_loader, meter, self.placement, logbook)
        logbook.log(evaluation.format_line(figures))
        position.stale += 1
        if figures[evaluation.monitor] > position.best_metric:
            position.best_metric, position.stale = figures[evaluation.monitor], 0
            self._publish(figures, meter, logbook, evaluated)
        return figures

    def _gather_evaluated(self) -> torch.nn.Module:
        """The network to evaluate. Of one whose weights are divided, a whole copy: ranks then need not be in step."""
        if not self.fsdp:
            return self.state.evaluated
        network = self.placement.move_network(self.architecture.create())
        network.load_state_dict(whole_state(self.state.evaluated, everywhere=True))
        return network

    def finish_probe(self, logbook: Logbook, epoch: int) -> None:
        """Evaluate a network whose classifier is fitted, and write the files of a run of `epoch` epochs."""
        self.state.position.epoch = epoch
        if self.state.ema:
            self.state.ema.set(self.state.network)
        logbook.record({"epoch": epoch, **{f"val_{name}": value for name, value in self._evaluate(logbook).items()}})
        self.save(LATEST)

    # ---- checkpoints ----

    def _metadata(self, architecture: Architecture) -> dict[str, Any]:
        return {"rng": {"seed": self.options.seed}, "classes": self.train_set.classes, "config": {
            **self.config, "architecture": architecture.name, "num_classes": architecture.num_classes,
            "model_args": architecture.model_args}}

    def _publish(self, figures: dict[str, float], meter: Meter, logbook: Logbook, whole: torch.nn.Module) -> None:
        weights = whole_state(whole)  # which all ranks gather
        if rank() == 0:
            position = self.state.position
            evaluated, architecture = self.task.publish(whole, self.architecture)
            content = {**self._metadata(architecture), "model": weights if evaluated is whole
                       else evaluated.state_dict(), "epoch": position.epoch,
                       "step": position.step, "best_metric": position.best_metric, "metrics": figures}
            with replace_together(self.options.output_dir, PUBLISHED) as folder:
                publish_best(folder, content, evaluated, architecture)
                for title, path in self.task.evaluation.write_report(folder, meter).items():
                    logbook.show_file(title, path, position.epoch)

    def save(self, name: str) -> None:
        """Write everything that an exact resume needs to `name` in the output folder; all ranks wait for it.

        Raises:
            UserError: a weight is not finite; then the file stays as it was.
        """
        if not all(gather(is_finite(self.state.network))):
            position = self.state.position
            raise UserError(f"weights that are not finite after epoch {position.epoch}, update {position.step}",
                            "finite ones", "lower --lr, or resume the last checkpoint with another --seed")
        content = self.state.as_content()
        if rank() == 0:
            pictures = {"pictures": self.pictures.as_content()} if self.pictures else {}
            save_checkpoint(self.options.output_dir / name, {
                **self._metadata(self.architecture), **content, **pictures})
        gather(None)

    def restore(self, checkpoint: Checkpoint, *, exact: bool = True) -> str:
        """Continue where `checkpoint` stopped; a line for the log. Its best figure counts only in an `exact` resume.

        Raises:
            UserError: the file holds weights only, or the optimiser of another network.
        """
        self.state.restore(checkpoint)
        position = self.state.position
        if not exact:
            position.best_metric, position.stale = -math.inf, 0
        return f"resumed {checkpoint.path} after epoch {position.epoch}, update {position.step}"
