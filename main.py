"""Train, distil and evaluate plain LSNet, or any timm model, on ImageNet-style folders; with --eval, robustness too.

Example: python main.py --model lsnet_t --data-path imagenet --output-dir runs/lsnet_t --dist-eval
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import robust_utils
from data.image_folder import ImageFolder
from data.image_tar import open_pictures
from data.train_val import open_train, open_val
from data.transforms import Preprocessing, eval_transform
from evaluation.adversary import Adversary
from evaluation.classification import ChosenClasses, examine, headline, make_mixing
from evaluation.evaluator import Judge
from evaluation.metrics import ClassificationMeter
from losses import ClassificationLoss
from runtime.arguments import Parser, flag
from runtime.checkpoint import Checkpoint
from runtime.folding import folded
from runtime.options import Settings, add_settings, read_settings
from runtime.placement import Placement
from runtime.processes import rank
from runtime.text_table import format_table
from training.engine import Task
from training.teacher import with_teacher
from training.trainer import Subject, run_trainer
from utils import UserError, command, write_json

REPEATS = 3
# The published recipe, where it differs from the other trainers' defaults.
RECIPE = {
    "model": MISSING, "output_dir": Path("outputs_imagenet"), "batch_size": 256, "lr_scaling": "linear",
    "weight_decay": 0.025, "clip_grad": 0.02, "clip_mode": "agc", "scale": (0.08, 1.0), "color_jitter": 0.4,
    "aa": "rand-m9-mstd0.5-inc1", "reprob": 0.25, "mixup": 0.8, "cutmix": 1.0}


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Recipe of ImageNet."""

    repeated_aug: bool = flag(True, f"draw each picture of an epoch {REPEATS} times, with another augmentation each "
                                    f"time; an epoch then sees a {REPEATS}rd of the pictures")
    three_augment: bool = flag(False, "ThreeAugment (grey, solarised or blurred) in place of --aa's policy",
                               names=("--ThreeAugment",))
    train_mode: bool = flag(True, "train in training mode; without it norms keep their statistics and nothing drops")
    set_bn_eval: bool = flag(False, "batch norms keep their statistics while their weights learn")


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Evaluation, with --eval."""

    deploy: bool = flag(False, "fold batch norms and parallel branches first")
    inc_path: Path | None = flag(None, "folder of ImageNet-C: corruption/severity/WordNet id")
    ina_path: Path | None = flag(None, "folder of ImageNet-A, whose 200 classes alone count")
    inr_path: Path | None = flag(None, "folder of ImageNet-R, whose 200 classes alone count")
    insk_path: Path | None = flag(None, "folder of ImageNet-Sketch")
    adversarial: Literal["fgsm", "pgd"] | None = flag(None, "evaluate on adversarial pictures, too")
    epsilon: float = flag(1.0, "largest change of a value by --adversarial, in 1/255", at_least=0, at_most=255)

    @property
    def folders(self) -> dict[str, Path]:
        """The folders of the protocols that are asked for."""
        named = zip(robust_utils.TITLES, (self.inc_path, self.ina_path, self.inr_path, self.insk_path), strict=True)
        return {name: path for name, path in named if path is not None}


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="main.py", description=__doc__)
    add_settings(parser, RecipeOptions, RobustnessOptions, **RECIPE)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    settings = read_settings(build_parser().parse_args(argv), RecipeOptions, RobustnessOptions)
    data, (recipe, robustness) = settings.data, settings.own
    if not settings.run.eval and (robustness.folders or robustness.adversarial or robustness.deploy):
        raise UserError("--deploy, --adversarial or a robustness folder in training", "them with --eval",
                        "add --eval and --resume, or leave them away")
    robust_utils.check_folders(robustness.folders)
    augmentation = dataclasses.replace(settings.augmentation, aa="3a") if recipe.three_augment else (
        settings.augmentation)
    return run_trainer(settings, Subject(
        open_train=lambda seen: open_train(data.data_path, seen, augmentation, max_pixels=data.max_pixels),
        open_val=lambda seen, classes: open_val(data.data_path, seen, classes, max_pixels=data.max_pixels),
        make_task=functools.partial(make_task, settings), examine=examine,
        find_classes=functools.partial(find_classes, settings), prepare=fold if robustness.deploy else None,
        further=functools.partial(judge_further, settings, robustness)))


def make_task(settings: Settings, train_set: ImageFolder, seen: Preprocessing, place: Placement) -> Task:
    """One class per picture, watched by top-1."""
    recipe, _ = settings.own
    criterion = with_teacher(ClassificationLoss(settings.augmentation.smoothing), settings.distillation,
                             train_set.classes, seen, place)
    return Task(criterion=criterion.to(place.device), examination=examine(train_set.classes, train_set.counts()),
                mix=make_mixing(settings.augmentation, len(train_set.classes)),
                repeats=REPEATS if recipe.repeated_aug else 1,
                still="norms" if recipe.set_bn_eval else "nothing" if recipe.train_mode else "everything")


def fold(network: torch.nn.Module, seen: Preprocessing) -> torch.nn.Module:
    """The network that is deployed."""
    return folded(network, torch.zeros(1, 3, seen.input_size, seen.input_size))


def find_classes(settings: Settings, checkpoint: Checkpoint) -> list[str]:
    """The classes of a checkpoint: what it says, ImageNet's 1000 in their order, or the folders of val/.

    Raises:
        UserError: the folders of val/ are not as many as the network's classes.
    """
    if checkpoint.classes:
        return checkpoint.classes
    outputs = checkpoint.architecture(settings.model.model).num_classes
    known, val = robust_utils.wordnet_ids(robust_utils.ALL_CLASSES), settings.data.data_path / "val"
    folders = open_pictures(val, transform=None).classes
    if outputs == len(known) and set(folders) <= set(known):
        return list(known)
    if outputs != len(folders):
        raise UserError(f"{len(folders)} classes in {val} for {checkpoint.path}, which tells {outputs} apart",
                        "its classes, or folders named by ImageNet's WordNet ids", "check --data-path and --resume")
    return folders


def judge_further(settings: Settings, options: RobustnessOptions, judge: Judge, val_set: ImageFolder,
                  figures: dict[str, float]) -> None:
    """Print and write to robustness.json what the flags ask for beyond the validation pictures as they are."""
    if not (options.folders or options.adversarial):
        return
    result: dict[str, Any] = {"model": settings.model.model, "checkpoint": settings.run.resume, "clean": figures}
    if options.adversarial:
        adversary = Adversary(judge.network, options.adversarial, epsilon=options.epsilon,
                              mean=judge.preprocessing.mean, std=judge.preprocessing.std)
        disturbed = judge.figures(val_set, ClassificationMeter(len(judge.classes)), disturb=adversary)
        judge.logbook.say(f"{options.adversarial}, epsilon {options.epsilon:g}/255: {headline(disturbed)}")
        result["adversarial"] = {"attack": options.adversarial, "epsilon": options.epsilon, **disturbed}
    found = robust_utils.evaluate_protocols(
        options.folders, functools.partial(score, judge, max_pixels=settings.data.max_pixels))
    rows = robust_utils.table(found)
    for line in [*(format_table(rows) if rows else []), *robust_utils.lines(found)]:
        judge.logbook.say(line)
    if rank() == 0:
        write_json(settings.run.output_dir / "robustness.json", {**result, **found})
    judge.logbook.say(f"everything is in {settings.run.output_dir / 'robustness.json'}")


def score(judge: Judge, folder: Path, classes: Sequence[str], *, cut: bool, max_pixels: int) -> robust_utils.Score:
    """How the judge's network does on a folder of WordNet ids, choosing among `classes` only."""
    network = ChosenClasses(judge.network, judge.classes, classes).to(judge.place.device)
    seen = dataclasses.replace(judge.preprocessing, crop_pct=1.0) if cut else judge.preprocessing
    meter = ClassificationMeter(len(classes))
    figures = judge.figures(open_pictures(folder, eval_transform(seen), classes=classes, max_pixels=max_pixels), meter,
                            network=network)
    return robust_utils.Score(top1=figures["top1"], pictures=figures["pictures"], missing=[
        name for name, support in zip(classes, meter.support.tolist(), strict=True) if not support])


if __name__ == "__main__":
    sys.exit(main())
