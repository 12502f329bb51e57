"""Train a network that tells artists apart, from folders of their pictures.

Example: python train_artist_style.py --model lsnet_t_artist --data-path artist_dataset --output-dir runs/lsnet_t
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import torch

from data.class_mapping import read_class_mapping
from data.image_folder import ImageFolder
from data.loaders import sampling_weights
from data.train_val import open_train, open_val
from data.transforms import Preprocessing
from evaluation.classification import examine, make_mixing
from evaluation.evaluator import Examination
from evaluation.retrieval import RetrievalOptions, with_retrieval
from losses import ClassificationLoss, ContrastiveLoss
from runtime.arguments import Parser
from runtime.checkpoint import Checkpoint, check_classes
from runtime.networks import WithFeatures
from runtime.options import LongTailOptions, Settings, add_settings, read_settings
from runtime.placement import Placement
from runtime.processes import gather_rows
from training.engine import Task
from training.run_folder import CLASS_MAPPING
from training.teacher import with_teacher
from training.trainer import Subject, run_trainer
from utils import UserError, command


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="train_artist_style.py", description=__doc__)
    add_settings(parser, LongTailOptions, RetrievalOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    settings = read_settings(build_parser().parse_args(argv), LongTailOptions, RetrievalOptions)
    data, (_, retrieval) = settings.data, settings.own
    return run_trainer(settings, Subject(
        open_train=lambda seen: open_train(data.data_path, seen, settings.augmentation, max_pixels=data.max_pixels),
        open_val=lambda seen, classes: open_val(data.data_path, seen, classes, max_pixels=data.max_pixels),
        make_task=functools.partial(make_task, settings), examine=functools.partial(make_examination, retrieval),
        find_classes=functools.partial(find_classes, data.data_path / CLASS_MAPPING)))


def make_task(settings: Settings, train_set: ImageFolder, seen: Preprocessing, place: Placement) -> Task:
    """One artist per picture, watched by top-1.

    Raises:
        UserError: flags that contradict one another.
    """
    augmentation, (long_tail, retrieval) = settings.augmentation, settings.own
    classes, counts = train_set.classes, train_set.counts()
    mix = make_mixing(augmentation, len(classes))
    weights = sampling_weights(long_tail.sampler, train_set.targets)
    labels = ClassificationLoss(augmentation.smoothing, class_adjustment(long_tail, train_set.targets, weights))
    criterion = with_teacher(labels, settings.distillation, classes, seen, place)
    if long_tail.contrastive_weight:
        if mix:
            raise UserError("--contrastive-weight with --mixup or --cutmix", "one or the other",
                            "pictures with one artist each are compared; leave the mixing away")
        criterion = ContrastiveLoss(criterion, weight=long_tail.contrastive_weight,
                                    temperature=long_tail.contrastive_temperature, gather=gather_rows)
    return Task(criterion=criterion.to(place.device), examination=make_examination(retrieval, classes, counts), mix=mix,
                weights=weights, learner=WithFeatures if long_tail.contrastive_weight else None)


def make_examination(options: RetrievalOptions, classes: list[str],
                     train_counts: np.ndarray | None = None) -> Examination:
    """Top-1 and its companions, and retrieval where it is asked for."""
    examination = examine(classes, train_counts)
    return with_retrieval(examination) if options.eval_retrieval else examination


def class_adjustment(options: LongTailOptions, targets: np.ndarray, weights: np.ndarray | None) -> torch.Tensor | None:
    """What --logit-adjustment adds to the logits, (classes,): by how often each class is drawn.

    Raises:
        UserError: all classes are drawn equally often, so that it would change nothing.
    """
    if not options.logit_adjustment:
        return None
    if options.sampler == "balanced":
        raise UserError("--logit-adjustment with --sampler balanced, which draws all artists equally often",
                        "one or the other", "leave one of the two away")
    drawn = np.bincount(targets, weights)
    return options.logit_adjustment * torch.from_numpy(np.log(drawn / drawn.sum())).float()


def find_classes(mapping: Path, checkpoint: Checkpoint) -> list[str]:
    """The artists of a checkpoint, which those of the data set's `mapping` must not contradict."""
    if mapping.exists():
        check_classes(checkpoint, read_class_mapping(mapping), mapping)
    return checkpoint.classes or read_class_mapping(mapping)


if __name__ == "__main__":
    sys.exit(main())
