"""Train a network that tells which artists' hands a picture shows, and in what shares, from annotated pictures.

Example: python train_artist_multilabel.py --data-path pictures --train-ann train.csv --val-ann val.csv
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch

from data.multilabel.annotations import AnnotationRules
from data.multilabel.dataset import MultiLabelImageDataset, open_annotated
from data.multilabel.label_stats import write_label_stats
from data.transforms import Preprocessing, Transform, eval_transform, make_mix, train_transform
from evaluation.evaluator import Examination
from evaluation.multilabel import MultiLabelMeter
from evaluation.multilabel_report import FIGURES, figures_table, headline, write_figures
from evaluation.thresholds import THRESHOLDS, write_thresholds
from losses import MultiLabelLoss, mix_several
from runtime.arguments import Parser
from runtime.checkpoint import Checkpoint, check_classes
from runtime.options import AnnotationOptions, MultiLabelOptions, Settings, add_settings, read_settings
from runtime.placement import Placement
from runtime.processes import rank
from training.engine import Task
from training.teacher import with_teacher
from training.trainer import Subject, run_trainer
from utils import UserError, command


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="train_artist_multilabel.py", description=__doc__)
    add_settings(parser, AnnotationOptions, MultiLabelOptions, smoothing=0.0, output_dir=Path("outputs_multilabel"))
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    settings = read_settings(build_parser().parse_args(argv), AnnotationOptions, MultiLabelOptions)
    annotations, several = settings.own
    notes: list[str] = []
    return run_trainer(settings, Subject(
        open_train=functools.partial(open_train, settings, notes),
        open_val=lambda seen, classes: open_pictures(settings, annotations.val_ann, eval_transform(seen), notes,
                                                     classes),
        make_task=functools.partial(make_task, settings), examine=functools.partial(examine, several.threshold),
        find_classes=functools.partial(find_classes, settings), config={"task": "multilabel"},
        finished=functools.partial(finish_evaluation, settings.run.output_dir), notes=notes))


def open_pictures(settings: Settings, path: Path, transform: Transform, notes: list[str],
                  classes: list[str] | None = None) -> MultiLabelImageDataset:
    """The pictures of one annotation file; what is left out of them joins `notes`."""
    annotations, data = settings.own[0], settings.data
    rules = AnnotationRules(root=data.data_path, delimiter=annotations.label_delimiter,
                            allow_outside=annotations.allow_outside, skip_invalid=annotations.skip_invalid)
    return open_annotated(path, rules, transform, say=notes.append, classes=classes, max_pixels=data.max_pixels)


def open_train(settings: Settings, notes: list[str], seen: Preprocessing) -> MultiLabelImageDataset:
    """The pictures to learn from; their labels, in code-point order, are the classes.

    Raises:
        UserError: no --train-ann, or one that cannot be used.
    """
    path = settings.own[0].train_ann
    if path is None:
        raise UserError("no --train-ann", "a CSV file image_path,labels of the pictures to train on",
                        "add it; only --eval does without")
    return open_pictures(settings, path, train_transform(seen, settings.augmentation), notes)


def make_task(settings: Settings, train_set: MultiLabelImageDataset, seen: Preprocessing, place: Placement) -> Task:
    """Several artists per picture, watched by macro mAP."""
    augmentation, several, classes = settings.augmentation, settings.own[1], train_set.classes
    mix = make_mix(2 * len(classes), mixup=augmentation.mixup, cutmix=augmentation.cutmix,
                   prob=augmentation.mixup_prob, switch_prob=augmentation.mixup_switch_prob)
    counts = torch.from_numpy(train_set.counts())
    # A label that every picture has still counts as one that a single picture lacks: it must be learned, too.
    balance = (len(train_set) - counts).clamp(min=1) / counts.clamp(min=1)
    labels = MultiLabelLoss(several.loss, pos_weight=balance.clamp(max=several.pos_weight_cap),
                            ratio_weight=several.ratio_weight, smoothing=augmentation.smoothing)
    criterion = with_teacher(labels, settings.distillation, classes, seen, place, several=True)
    return Task(criterion=criterion.to(place.device), examination=examine(several.threshold, classes, train_set),
                mix=mix_several(mix) if mix else None)


def examine(threshold: float, classes: list[str], train_set: MultiLabelImageDataset | None = None) -> Examination:
    """Macro mAP and its companions; the report has the statistics of `train_set`, where there is one."""
    return Examination(meter=functools.partial(MultiLabelMeter, classes, threshold), monitor="macro_map",
                       title="macro mAP", headline=headline, report=functools.partial(write_report, train_set))


def write_report(train_set: MultiLabelImageDataset | None, folder: Path, meter: MultiLabelMeter) -> dict[str, Path]:
    """Write thresholds.csv and label_stats.csv; there is no picture among them."""
    write_thresholds(folder, meter)
    if train_set is not None:
        write_label_stats(folder, train_set)
    return {}


def find_classes(settings: Settings, checkpoint: Checkpoint) -> list[str]:
    """The labels of a checkpoint, which those of --train-ann must not contradict.

    Raises:
        UserError: they do, or neither names any.
    """
    path = settings.own[0].train_ann
    if path is not None:
        found = open_pictures(settings, path, torch.as_tensor, []).classes
        check_classes(checkpoint, found, path)
        return found
    if not checkpoint.classes:
        raise UserError(f"{checkpoint.path}, which does not name its labels", "the annotations it was trained on",
                        "add --train-ann")
    return checkpoint.classes


def finish_evaluation(folder: Path, figures: dict[str, float], meter: MultiLabelMeter) -> None:
    """Show what --eval found, and write it to `folder`."""
    if rank() == 0:
        write_thresholds(folder, meter)
        write_figures(folder, figures)
        print("\n".join(figures_table(figures)))
        print(f"{FIGURES} and {THRESHOLDS} are in {folder}")


if __name__ == "__main__":
    sys.exit(main())
