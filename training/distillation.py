"""Distillation without labels: a student learns to tell its teacher's features of a picture: train_distillation.py.

A trainer of its own, and no mode of another: there are no classes, pictures lie in any folders, and the best network is
chosen by the cosine similarity of features. The adapter from the student's features to the teacher's is the head of a
`StyleNetwork`, one norm and one linear layer: so loop, optimiser, moving average and exact resume need not know of it.
checkpoint.pth holds it; model_best.pth and the folder hold the backbone alone.

**Source:** Romero et al., "FitNets", ICLR 2015, arXiv 1412.6550, for a regressor from the student's features to the
teacher's; Beyer et al., "A good teacher is patient and consistent", CVPR 2022, arXiv 2106.05237, for one view that both
see, and many epochs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.functional import to_tensor

from data.loaders import EvalBatches, make_loader
from data.train_val import has_sides
from data.transforms import Preprocessing, eval_transform
from data.unlabelled import UnlabelledFolder, hold_out, open_unlabelled
from evaluation.evaluator import Evaluation, evaluate_loader
from evaluation.features import FeatureMeter
from evaluation.similarity import similarity_evaluation
from losses import FeatureLoss
from model.style_network import StyleNetwork
from runtime.checkpoint import Checkpoint
from runtime.logbook import Logbook
from runtime.networks import Architecture, feature_blocks, features_and_logits, richest_kind
from runtime.next_step import PICTURES
from runtime.placement import Placement
from training.augmentation import train_transform
from training.distillation_options import MOST_VIEWED, TEACHER_VIEWS, FeatureDistillationOptions
from training.engine import Run, Task
from training.teacher import load_teacher
from training.trainer import TrainerSpec
from utils import UserError, counted

MOST_FITTED = 2000  # pictures that the teacher's features are standardised by, where it looks at none beforehand


class FeatureTeacher(torch.nn.Module):
    """A trained network that answers with standardised features.

    Attributes:
        own: its preprocessing.
        blocks: widths of consecutive groups of its features: each stage's statistics, then the pooled ones.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, network: Any, own: Preprocessing) -> None:
        """Wrap `network`; its features are raw until `standardise` is called."""
        super().__init__()
        self.network, self.own = network.eval().requires_grad_(False), own
        self.kind = richest_kind(network)
        self.blocks = feature_blocks(network, self.kind)
        self.register_buffer("mean", torch.zeros(sum(self.blocks)))
        self.register_buffer("deviation", torch.ones(sum(self.blocks)))

    def standardise(self, rows: np.ndarray) -> None:
        """From now on answer in deviations from the mean of `rows`, (N, D) raw features of pictures."""
        deviation = rows.std(axis=0, dtype=np.float64)
        self.mean.copy_(torch.from_numpy(rows.mean(axis=0, dtype=np.float64)))
        # A number that is the same for all pictures says nothing: it stays 0.
        self.deviation.copy_(torch.from_numpy(np.where(deviation > 1e-6, deviation, np.inf)))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (B, 3, T, T) made with `own` -> logits, which do not count, and features (B, D)."""
        features, logits = features_and_logits(self.network, images, self.kind)
        return logits, (features.float() - self.mean) / self.deviation


class DistillationSpec(TrainerSpec[FeatureDistillationOptions, UnlabelledFolder]):
    """A teacher's features of pictures without labels, monitored by cosine similarity."""

    task = "distillation"
    has_recipe = False
    has_labels = False

    @functools.cached_property
    def teacher(self) -> FeatureTeacher:
        """The teacher that the flags name; raises a `UserError` if they name none, or it cannot be had."""
        options = self.options.distillation
        if not (options.teacher_model or options.teacher_path):
            raise UserError("no teacher", "a trained network to learn from",
                            "add --teacher-model, for example --teacher-model tf_efficientnet_lite0, or --teacher-path")
        return FeatureTeacher(*load_teacher(options))

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """No data; raises a `UserError` if `checkpoint` learned from a teacher of another width."""
        outputs = sum(self.teacher.blocks)
        if checkpoint and (found := checkpoint.resolve().architecture.num_classes) != outputs:
            raise UserError(f"{checkpoint.path}, which learned {found} features of another teacher",
                            f"a run that learned {outputs}", "repeat the flags of the first start")
        return []

    @property
    def _has_val(self) -> bool:
        return all((self.data_path / side).is_dir() for side in ("train", "val"))

    @property
    def scan_folders(self) -> list[Path]:
        """The output folder only, where --data-path is a folder of pictures and nothing that a command prepared."""
        return super().scan_folders if has_sides(self.data_path) else [self.options.run.output_dir]

    def _open(self, root: Path) -> UnlabelledFolder:
        return open_unlabelled(root, to_tensor, seed=self.options.run.seed, exclude=self.options.search.exclude,
                               max_pixels=self.options.data.max_pixels)

    def open_train(self) -> tuple[UnlabelledFolder, list[str]]:
        """The images of train/ where there is a val/; else all, but for those that validate."""
        images = self._open(self.data_path / "train" if self._has_val else self.data_path)
        if not self._has_val:
            images.names, _ = hold_out(images.names, self.options.data.val_share)
        return images, images.passed_over

    def open_val(self, classes: list[str]) -> tuple[UnlabelledFolder, list[str]]:
        """The images of val/, or a share of all."""
        images = self._open(self.data_path / "val" if self._has_val else self.data_path)
        if self._has_val:
            return images, images.passed_over
        _, images.names = hold_out(images.names, self.options.data.val_share)
        return images, []

    def count_outputs(self, classes: list[str]) -> int:
        """As many as the teacher has features."""
        return sum(self.teacher.blocks)

    def make_task(self, train_set: UnlabelledFolder, preprocessing: Preprocessing, placement: Placement) -> Task:
        """Regression of the teacher's features."""
        # The view is the student's; the teacher sees it at its own size, with its own mean and deviation.
        self.teacher.own = replace(self.teacher.own, crop_pct=preprocessing.crop_pct, fit=preprocessing.fit)
        placement.move_network(self.teacher)
        train_set.teacher_transform = train_transform(self.teacher.own, self.augmentation)
        return Task(criterion=FeatureLoss(self.teacher, self.teacher.blocks).to(placement.device),
                    evaluation=self.make_evaluation([]), publish=backbone_of)

    def make_evaluation(self, classes: list[str]) -> Evaluation:
        """Cosine similarity of features."""
        return similarity_evaluation(self.teacher.blocks)

    def begin(self, run: Run, logbook: Logbook) -> None:
        """Let the teacher look at the validation pictures, and at the training pictures' views if they are few.

        Raises:
            UserError: pictures that could be read at the start cannot be read any more.
        """
        train_set, val_set, views = run.train_set, run.val_set, self.options.distillation.teacher_views
        assert isinstance(train_set, UnlabelledFolder)  # `open_train` and `open_val` have opened them
        assert isinstance(val_set, UnlabelledFolder)
        if views is None:
            views = TEACHER_VIEWS if len(train_set) <= MOST_VIEWED else 0
        logbook.log(f"teacher: {sum(self.teacher.blocks)} numbers ({self.teacher.kind} features) at "
                    f"{self.teacher.own.input_size} px of "
                    + (f"{counted(views, 'view')} of each picture, to begin with" if views else
                       "a new view of each picture in every step"))
        sample = copy.copy(train_set)
        if not views:
            sample.names = sample.names[::-(-len(sample) // MOST_FITTED)]
        found = np.stack([self._features(run, sample, logbook, f"teacher, view {view + 1}/{max(views, 1)}", view)
                          for view in range(max(views, 1))])
        self.teacher.standardise(found.reshape(-1, found.shape[2]))
        if views:
            found -= self.teacher.mean.cpu().numpy()
            found /= self.teacher.deviation.cpu().numpy()
            train_set.features = torch.from_numpy(found)
        val_set.features = torch.from_numpy(self._features(run, val_set, logbook, "teacher, validation"))[None]

    def _features(self, run: Run, images: UnlabelledFolder, logbook: Logbook, title: str,
                  view: int | None = None) -> np.ndarray:
        """The teacher's features, (N, D) float32, of `images` as evaluation sees them, or of a random `view`."""
        seen = copy.copy(images)
        seen.transform = eval_transform(self.teacher.own) if view is None else images.teacher_transform
        seen.teacher_transform = lambda _: torch.zeros(0)
        loading, meter = run.train_batches.loading, FeatureMeter()
        batches = EvalBatches(len(seen), loading, seed=None if view is None else (images.seed, view))
        evaluate_loader(self.teacher, make_loader(seen, batches, loading), meter, run.placement, logbook, title=title)
        features, _ = meter.collect()
        if len(features) < len(seen):
            raise UserError("pictures that could be read the first time only", "pictures that stay",
                            "check the disk and start again")
        return features

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """None."""
        return []

    def next_step(self, path: Path, val_set: UnlabelledFolder, *, evaluated: bool) -> Sequence[object]:
        """Train on labels from here."""
        data = self.data_path if has_sides(self.data_path) else PICTURES
        return "train_artist_style.py", "--finetune-from", path.parent, "--data-path", data


def backbone_of(network: torch.nn.Module, architecture: Architecture) -> tuple[torch.nn.Module, Architecture]:
    """The student without its adapter, and what builds it."""
    assert isinstance(network, StyleNetwork)
    arguments = {key: value for key, value in architecture.model_args.items() if key != "style_head"}
    return network.backbone, replace(architecture, num_classes=0, model_args=arguments)
