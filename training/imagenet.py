"""Training and robustness of networks on ImageNet-style folders: main.py."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import robust_utils
from data.image_folder import ImageFolder, open_pictures
from data.transforms import Preprocessing, eval_transform
from evaluation.adversary import Adversary
from evaluation.classification import ClassSubset, classification_evaluation, format_classification_line
from evaluation.evaluator import Evaluation, Evaluator
from evaluation.metrics import ClassificationMeter
from losses import ClassificationLoss
from runtime.checkpoint import Checkpoint
from runtime.folding import fold
from runtime.options import REPEATS, ImageNetOptions, RobustnessOptions
from runtime.placement import Placement
from runtime.processes import rank
from runtime.text_table import format_table
from training.augmentation import make_mix
from training.engine import Task
from training.run_folder import ROBUSTNESS
from training.teacher import add_teacher
from training.trainer import FolderSpec
from utils import UserError, write_json


class ImageNetSpec(FolderSpec[ImageNetOptions]):
    """One class per image, monitored by top-1."""

    has_recipe = False  # it has the published one

    def __init__(self, options: ImageNetOptions) -> None:
        """Check the flags.

        Raises:
            UserError: no --model where no file says it, evaluation flags in training, or a robustness folder that is
                missing.
        """
        super().__init__(options)
        robustness, run = options.robustness, options.run
        if not (options.model.model or run.finetune_from or run.eval) and run.resume in (None, "auto"):
            raise UserError("no --model", "the network to train", "for example --model lsnet_t")
        self.folders = robustness_folders(robustness)
        if not options.run.eval and (self.folders or robustness.adversarial or robustness.deploy):
            raise UserError("--deploy, --adversarial or a robustness folder in training", "them with --eval",
                            "add --eval and --resume, or leave them away")
        robust_utils.check_folders(self.folders)
        if options.recipe.three_augment:
            self.augmentation = replace(self.augmentation, aa="3a")

    def make_task(self, train_set: ImageFolder, preprocessing: Preprocessing, placement: Placement) -> Task:
        """Classification with the recipe's options."""
        recipe, classes = self.options.recipe, train_set.classes
        criterion = add_teacher(ClassificationLoss(self.augmentation.smoothing), self.options.distillation, classes,
                                preprocessing, placement)
        return Task(criterion=criterion.to(placement.device), mix=make_mix(self.augmentation, len(classes)),
                    evaluation=classification_evaluation(classes, train_set.counts()),
                    repeats=REPEATS if recipe.repeated_aug else 1,
                    train_mode=recipe.train_mode)

    def make_evaluation(self, classes: list[str]) -> Evaluation:
        """Classification figures."""
        return classification_evaluation(classes)

    def next_step(self, path: Path, val_set: ImageFolder, *, evaluated: bool) -> Sequence[object]:
        """Evaluate the best network, or time it."""
        if evaluated:
            return "speed.py", "--model", self.name
        return "main.py", "--data-path", self.data_path, "--resume", path, "--eval"

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """The classes of a checkpoint: as saved, ImageNet's 1000 in their order, or the folders of val/.

        Raises:
            UserError: val/ has another number of folders than the network has classes.
        """
        architecture = checkpoint.resolve(self.options.model.model).architecture
        self.name, outputs = architecture.name, architecture.num_classes
        if checkpoint.classes:
            return checkpoint.classes
        known, val = robust_utils.wordnet_ids(robust_utils.ALL_CLASSES), self.options.data.data_path / "val"
        folders = open_pictures(val, exclude=self.options.search.exclude).classes
        if outputs == len(known) and set(folders) <= set(known):
            return list(known)
        if outputs != len(folders):
            raise UserError(f"{len(folders)} classes in {val} for {checkpoint.path}, which tells {outputs} apart",
                            "its classes, or folders named by ImageNet's WordNet ids", "check --data-path and --resume")
        return folders

    def prepare_network(self, network: torch.nn.Module, preprocessing: Preprocessing) -> torch.nn.Module:
        """The network, folded with --deploy."""
        size = preprocessing.input_size
        return fold(network, torch.zeros(1, 3, size, size)) if self.options.robustness.deploy else network

    def finish_evaluation(self, evaluator: Evaluator, val_set: ImageFolder, figures: dict[str, float],
                          meter: ClassificationMeter) -> None:
        """Print, and write to robustness.json, the robustness figures that the flags ask for."""
        options, run = self.options.robustness, self.options.run
        if not (self.folders or options.adversarial):
            return
        result: dict[str, Any] = {"model": self.name, "checkpoint": run.resume, "clean": figures}
        if options.adversarial:
            preprocessing = evaluator.preprocessing
            attack = Adversary(evaluator.network, options.adversarial, epsilon=options.epsilon,
                               mean=preprocessing.mean, std=preprocessing.std)
            attacked = evaluator.evaluate(val_set, ClassificationMeter(len(evaluator.classes)), perturb=attack)
            evaluator.logbook.log(f"{options.adversarial}, epsilon {options.epsilon:g}/255: "
                                  f"{format_classification_line(attacked)}")
            result["adversarial"] = {"attack": options.adversarial, "epsilon": options.epsilon, **attacked}
        protocols = robust_utils.evaluate_protocols(
            self.folders, functools.partial(score_folder, evaluator, max_pixels=self.options.data.max_pixels))
        rows = robust_utils.table_rows(protocols)
        for line in [*(format_table(rows) if rows else []), *robust_utils.format_lines(protocols)]:
            evaluator.logbook.log(line)
        if rank() == 0:
            write_json(run.output_dir / ROBUSTNESS, {**result, **protocols})
        evaluator.logbook.log(f"everything is in {run.output_dir / ROBUSTNESS}")


def robustness_folders(options: RobustnessOptions) -> dict[str, Path]:
    """The folders of the protocols that the flags name, by protocol."""
    paths = (options.inc_path, options.ina_path, options.inr_path, options.insk_path)
    return {name: path for name, path in zip(robust_utils.TITLES, paths, strict=True) if path is not None}


def score_folder(evaluator: Evaluator, folder: Path, classes: Sequence[str], *, resize_only: bool,
                 max_pixels: int) -> robust_utils.Score:
    """The score of the evaluator's network on a folder of WordNet ids, by the logits of `classes` only."""
    network = ClassSubset(evaluator.network, evaluator.classes, classes).to(evaluator.placement.device)
    preprocessing = replace(evaluator.preprocessing, crop_pct=1.0) if resize_only else evaluator.preprocessing
    meter = ClassificationMeter(len(classes))
    images = open_pictures(folder, eval_transform(preprocessing), classes=classes, max_pixels=max_pixels)
    figures = evaluator.evaluate(images, meter, network=network)
    return robust_utils.Score(top1=figures["top1"], pictures=int(figures["pictures"]), missing=[
        name for name, support in zip(classes, meter.support.tolist(), strict=True) if not support])
