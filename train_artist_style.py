"""Train a network that tells artists apart, from folders of their pictures.

Example: python train_artist_style.py --model lsnet_t_artist --data-path artist_dataset --output-dir runs/lsnet_t
"""

from __future__ import annotations

import dataclasses
import functools
import sys

import numpy as np
import torch

from data.class_mapping import read_class_mapping
from data.loaders import EvalBatches, Loading, make_loader
from data.train_val import find_damaged, leave_out, open_train, open_val
from data.transforms import Preprocessing, make_mix
from engine import Run, Task, evaluate
from losses import ClassificationLoss, DistillationLoss
from runtime.arguments import Parser, add_options, as_config, read_options
from runtime.checkpoint import Checkpoint, check_classes
from runtime.logbook import Logbook, progress
from runtime.metrics import ClassificationMeter
from runtime.networks import load_weights
from runtime.options import (
    AugmentationOptions,
    DataOptions,
    DistillationOptions,
    ModelOptions,
    OptimizerOptions,
    RunOptions,
)
from runtime.placement import Placement
from runtime.processes import on_first_rank, process_group, rank, world_size
from runtime.report import write_report
from runtime.run_folder import CLASS_MAPPING, find_checkpoint, open_output
from runtime.start import (
    choose_architecture,
    choose_loading,
    choose_preprocessing,
    create_network,
    finetune,
    with_distillation_head,
)
from runtime.teacher import open_teacher
from utils import EXIT_DONE, UserError, command

GROUPS = (ModelOptions, DataOptions, AugmentationOptions, OptimizerOptions, DistillationOptions, RunOptions)


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="train_artist_style.py", description=__doc__)
    for group in GROUPS:
        add_options(parser, group)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    arguments = build_parser().parse_args(argv)
    model, data, augmentation, optimizing, distillation, options = (read_options(arguments, group) for group in GROUPS)
    place = Placement.choose(options.device, channels_last=options.channels_last, amp=options.amp)
    with process_group(place.device) as note:
        checkpoint = find_checkpoint(options)
        if options.eval:
            evaluate_checkpoint(checkpoint, model, data, options, place)
        else:
            train(checkpoint, model, data, augmentation, optimizing, distillation, options, place, note)
    return EXIT_DONE


def train(checkpoint: Checkpoint | None, model: ModelOptions, data: DataOptions, augmentation: AugmentationOptions,
          optimizing: OptimizerOptions, distillation: DistillationOptions, options: RunOptions, place: Placement,
          note: str) -> None:
    """Train from the beginning, or from where `checkpoint` stopped."""
    preprocessing = choose_preprocessing(model, "squash" if options.finetune else data.fit, checkpoint)
    seen_in_training = dataclasses.replace(preprocessing, fit=data.fit or "crop") if options.finetune else preprocessing
    train_set = open_train(data.data_path, seen_in_training, augmentation, max_pixels=data.max_pixels)
    val_set = open_val(data.data_path, preprocessing, train_set.classes, max_pixels=data.max_pixels)
    classes, notes = train_set.classes, [note] if note else []
    if checkpoint:
        check_classes(checkpoint, classes, "the data set")
    leave_out([train_set, val_set], on_first_rank(lambda: find_damaged(
        [train_set, val_set], [data.data_path, options.output_dir], workers=data.num_workers,
        max_pixels=data.max_pixels, progress=progress)), notes.append)
    loading = choose_loading(data, len(train_set), optimizing.accumulation_steps, place.device)
    if loading.batch_size < data.batch_size:
        notes.append(f"batches of {loading.batch_size} pictures: the data set has no more for --batch-size "
                     f"{data.batch_size}")
    architecture = with_distillation_head(choose_architecture(model, len(classes), checkpoint), distillation.kind)
    network = create_network(architecture, options)
    if options.finetune_from and not checkpoint:
        notes.append(finetune(network, options.finetune_from, classes))
    config = {"preprocessing": preprocessing.as_dict(),
              "options": as_config(model, data, augmentation, optimizing, distillation, options)}
    criterion = make_criterion(classes, augmentation.smoothing, distillation, seen_in_training, place)
    run = Run(task=make_task(classes, train_set.counts(), criterion, augmentation), network=place.network(network),
              architecture=architecture, config=config, classes=classes, train_set=train_set, val_set=val_set,
              loading=loading, optimizing=optimizing, options=options, place=place)
    if checkpoint:
        notes.append(run.restore(checkpoint))
    # Everything that can be refused has been: only now is the output folder touched.
    notes += on_first_rank(lambda: open_output(options.output_dir, classes, checkpoint))
    with Logbook(options.output_dir, speaks=rank() == 0, first_epoch=run.state.position.epoch) as logbook:
        for line in [*notes, run.summary()]:
            logbook.say(line)
        run.fit(logbook)
        logbook.say(f"best top-1 {run.state.position.best_metric:.3f}; everything is in {options.output_dir}")


def make_criterion(classes: list[str], smoothing: float, distillation: DistillationOptions, seen: Preprocessing,
                   place: Placement) -> torch.nn.Module:
    """Cross-entropy, beside a teacher's loss where there is a teacher."""
    labels = ClassificationLoss(smoothing)
    if distillation.kind == "none":
        if distillation.teacher_model or distillation.teacher_path:
            raise UserError("a teacher with --distillation-type none", "soft or hard", "correct or leave away one flag")
        return labels
    if not (distillation.teacher_model or distillation.teacher_path):
        raise UserError(f"--distillation-type {distillation.kind} without a teacher", "a teacher to learn from",
                        "add --teacher-model or --teacher-path")
    return DistillationLoss(labels, open_teacher(distillation, classes, seen, place), kind=distillation.kind,
                            alpha=distillation.distillation_alpha, tau=distillation.distillation_tau)


def make_task(classes: list[str], train_counts: np.ndarray, criterion: torch.nn.Module,
              augmentation: AugmentationOptions) -> Task:
    """One artist per picture, watched by top-1."""
    return Task(criterion=criterion, meter=functools.partial(ClassificationMeter, len(classes), train_counts),
                monitor="top1", headline=headline,
                report=functools.partial(write_report, classes=classes, train_counts=train_counts),
                mix=make_mix(len(classes), mixup=augmentation.mixup, cutmix=augmentation.cutmix,
                             prob=augmentation.mixup_prob, switch_prob=augmentation.mixup_switch_prob))


def headline(figures: dict[str, float]) -> str:
    """The line printed after every evaluation."""
    return f"* top-1 {figures['top1']:.3f} top-5 {figures['top5']:.3f} loss {figures['loss']:.4f}"


def evaluate_checkpoint(checkpoint: Checkpoint | None, model: ModelOptions, data: DataOptions,
                        options: RunOptions, place: Placement) -> None:
    """Print the figures of a checkpoint on the pictures of val/."""
    if checkpoint is None:
        raise UserError("--eval without a checkpoint", "the checkpoint to evaluate",
                        "add --resume, for example --resume OUTPUT_DIR/model_best.pth")
    mapping = data.data_path / CLASS_MAPPING
    classes = checkpoint.classes or read_class_mapping(mapping)
    if mapping.exists():
        check_classes(checkpoint, read_class_mapping(mapping), mapping)
    preprocessing = choose_preprocessing(model, "squash" if options.finetune else data.fit, checkpoint)
    val_set = open_val(data.data_path, preprocessing, classes, max_pixels=data.max_pixels)
    architecture = choose_architecture(model, len(classes), checkpoint)
    network = architecture.create()
    load_weights(network, checkpoint.evaluated, checkpoint.path)
    loading = Loading(batch_size=data.batch_size, num_workers=data.num_workers, rank=rank(), world_size=world_size())
    loader = make_loader(val_set, EvalBatches(len(val_set), loading), loading)
    with Logbook(None, speaks=rank() == 0) as logbook:
        figures = evaluate(place.network(network), loader, ClassificationMeter(len(classes)), place, logbook)
        logbook.say(headline(figures))


if __name__ == "__main__":
    sys.exit(main())
