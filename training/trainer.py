"""From flags to a finished run: what every trainer does alike, whatever it teaches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from data.image_folder import ImageFolder
from data.loaders import Loading
from data.train_val import find_damaged, leave_out
from data.transforms import Preprocessing
from evaluation.evaluator import Examination, Judge, Meter
from runtime.checkpoint import Checkpoint, check_classes
from runtime.logbook import Logbook, progress
from runtime.networks import load_weights
from runtime.options import Settings
from runtime.placement import WORKERS, Placement
from runtime.processes import on_first_rank, process_group, rank, world_size
from training.engine import Run, Task
from training.run_folder import find_checkpoint, open_output
from training.start import (
    changed_flags,
    choose_architecture,
    choose_loading,
    choose_preprocessing,
    create_network,
    finetune,
    with_distillation_head,
)
from utils import EXIT_DONE, UserError


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What one trainer teaches.

    Attributes:
        open_train: the pictures to learn from; their `classes` are the network's.
        open_val: the pictures to be examined with, in the class ids of the training set.
        make_task: what is asked of the network, from the training pictures, the preprocessing that they are seen with,
            and where the network is.
        examine: for --eval: how a network of these classes is judged.
        find_classes: for --eval: the classes of a checkpoint.
        config: further plain Python for every checkpoint.
        prepare: for --eval: makes of the network what is judged, such as a folded one.
        further: for --eval: judges on, after the validation pictures and their figures.
        finished: for --eval: takes the figures and the meter.
        notes: lines to tell the user, to which opening the pictures may add.
    """

    open_train: Callable[[Preprocessing], ImageFolder]
    open_val: Callable[[Preprocessing, list[str]], ImageFolder]
    make_task: Callable[[ImageFolder, Preprocessing, Placement], Task]
    examine: Callable[[list[str]], Examination]
    find_classes: Callable[[Checkpoint], list[str]]
    config: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[torch.nn.Module, Preprocessing], torch.nn.Module] | None = None
    further: Callable[[Judge, ImageFolder, dict[str, float]], None] | None = None
    finished: Callable[[dict[str, float], Meter], None] | None = None
    notes: list[str] = field(default_factory=list)


def run_trainer(settings: Settings, subject: Subject) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = settings.run
    place = Placement.choose(options.device, channels_last=options.channels_last, amp=options.amp)
    with process_group(place.device) as note:
        checkpoint = find_checkpoint(options)
        if checkpoint and checkpoint.is_ours and checkpoint.config.get("task") != subject.config.get("task"):
            raise UserError(f"{checkpoint.path} of another trainer", "a checkpoint of this one",
                            "resume it where it was begun, or start from its weights with --finetune-from")
        if options.eval:
            evaluate_checkpoint(checkpoint, settings, subject, place)
        else:
            train(checkpoint, settings, subject, place, [note] if note else [])
    return EXIT_DONE


def train(checkpoint: Checkpoint | None, settings: Settings, subject: Subject, place: Placement,
          notes: list[str]) -> None:
    """Train from the beginning, or from where `checkpoint` stopped; `notes` are lines to begin with."""
    model, data, options = settings.model, settings.data, settings.run
    preprocessing, seen = _preprocessings(settings, checkpoint)
    train_set = subject.open_train(seen)
    classes = train_set.classes
    val_set = subject.open_val(preprocessing, classes)
    notes += subject.notes
    if checkpoint:
        check_classes(checkpoint, classes, "the data set")
        notes += changed_flags(checkpoint, settings.as_config())
    leave_out([train_set, val_set], on_first_rank(lambda: find_damaged(
        [train_set, val_set], [data.data_path, options.output_dir],
        workers=WORKERS if data.num_workers is None else data.num_workers,
        max_pixels=data.max_pixels, progress=progress)), notes.append)
    loading = choose_loading(data, len(train_set), settings.optimizing.accumulation_steps, place)
    if loading.batch_size < data.batch_size:
        notes.append(f"batches of {loading.batch_size} pictures: the data set has no more for --batch-size "
                     f"{data.batch_size}")
    architecture = with_distillation_head(choose_architecture(model, len(classes), checkpoint),
                                          settings.distillation.kind)
    network = create_network(architecture, options)
    if options.finetune_from and not checkpoint:
        notes.append(finetune(network, options.finetune_from, classes))
    run = Run(task=subject.make_task(train_set, seen, place), network=place.network(network),
              architecture=architecture, classes=classes, train_set=train_set, val_set=val_set, loading=loading,
              config={"preprocessing": preprocessing.as_dict(), "options": settings.as_config(), **subject.config},
              optimizing=settings.optimizing, options=options, place=place)
    if checkpoint:
        notes.append(run.restore(checkpoint))
    # Everything that can be refused has been: only now is the output folder touched.
    notes += on_first_rank(lambda: open_output(options.output_dir, classes, checkpoint))
    with Logbook(options.output_dir, speaks=rank() == 0, first_epoch=run.state.position.epoch) as logbook:
        for line in [*notes, run.summary()]:
            logbook.say(line)
        logbook.hyperparameters(settings.as_config(), run.task.examination.monitor)
        run.fit(logbook)
        logbook.say(f"best {run.task.examination.title} {run.state.position.best_metric:.3f}; everything is in "
                    f"{options.output_dir}")


def _preprocessings(settings: Settings, checkpoint: Checkpoint | None) -> tuple[Preprocessing, Preprocessing]:
    """How pictures are seen in evaluation, and in training."""
    fit = "squash" if settings.run.finetune else settings.data.fit
    preprocessing = choose_preprocessing(settings.model, fit, checkpoint)
    seen = dataclasses.replace(preprocessing, fit=settings.data.fit or "crop")
    return preprocessing, seen if settings.run.finetune else preprocessing


def evaluate_checkpoint(checkpoint: Checkpoint | None, settings: Settings, subject: Subject, place: Placement) -> None:
    """Print the figures of a checkpoint on the validation pictures.

    Raises:
        UserError: there is no checkpoint, or one that contradicts the data set.
    """
    if checkpoint is None:
        raise UserError("--eval without a checkpoint", "the checkpoint to evaluate",
                        "add --resume, for example --resume OUTPUT_DIR/model_best.pth")
    classes = subject.find_classes(checkpoint)
    preprocessing, _ = _preprocessings(settings, checkpoint)
    val_set = subject.open_val(preprocessing, classes)
    network = choose_architecture(settings.model, len(classes), checkpoint).create()
    load_weights(network, checkpoint.evaluated, checkpoint.path)
    if subject.prepare:
        network = subject.prepare(network, preprocessing)
    data = settings.data
    loading = Loading(batch_size=data.batch_size, num_workers=place.workers(data.num_workers), rank=rank(),
                      world_size=world_size())
    examination = subject.examine(classes)
    meter = examination.meter()
    with Logbook(None, speaks=rank() == 0) as logbook:
        for line in subject.notes:
            logbook.say(line)
        judge = Judge(network=place.network(network), classes=classes, preprocessing=preprocessing, loading=loading,
                      place=place, logbook=logbook)
        figures = judge.figures(val_set, meter, network=examination.asked(judge.network))
        logbook.say(examination.headline(figures))
        if subject.further:
            subject.further(judge, val_set, figures)
    if subject.finished:
        subject.finished(figures, meter)
