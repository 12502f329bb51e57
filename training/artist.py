"""Training of networks that name the artist of an image: train_artist_style.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.class_mapping import read_class_mapping
from data.image_folder import ImageFolder
from data.loaders import sampling_weights
from data.transforms import Preprocessing
from evaluation.classification import classification_evaluation
from evaluation.evaluator import Evaluation
from evaluation.retrieval import add_retrieval
from losses import ClassificationLoss, ContrastiveLoss
from runtime.checkpoint import Checkpoint, check_classes
from runtime.class_parallel import DividedLoss
from runtime.networks import WithFeatures
from runtime.options import ArtistOptions, LongTailOptions
from runtime.placement import Placement
from runtime.processes import gather_rows
from training.augmentation import make_mix
from training.engine import Task
from training.run_folder import CLASS_MAPPING, SPLIT
from training.scale import divides_head
from training.teacher import add_teacher
from training.trainer import FolderSpec
from utils import UserError


class ArtistSpec(FolderSpec[ArtistOptions]):
    """One artist per image, monitored by top-1."""

    makes_split = True

    def make_task(self, train_set: ImageFolder, preprocessing: Preprocessing, placement: Placement) -> Task:
        """Classification with the options for artists with few images.

        Raises:
            UserError: flags that contradict one another.
        """
        long_tail, classes = self.options.long_tail, train_set.classes
        mix = make_mix(self.augmentation, len(classes))
        weights = sampling_weights(long_tail.sampler, train_set.targets)
        smoothing = self.augmentation.smoothing
        adjustment = logit_adjustment(long_tail, train_set.targets, weights, len(classes))
        label_loss = (DividedLoss(len(classes), smoothing, adjustment) if divides_head(self.scale)
                      else ClassificationLoss(smoothing, adjustment))
        criterion = add_teacher(label_loss, self.options.distillation, classes, preprocessing, placement)
        if long_tail.contrastive_weight:
            if mix:
                raise UserError("--contrastive-weight with --mixup or --cutmix", "one or the other",
                                "pictures with one artist each are compared; leave the mixing away")
            criterion = ContrastiveLoss(criterion, weight=long_tail.contrastive_weight,
                                        temperature=long_tail.contrastive_temperature, gather=gather_rows)
        return Task(criterion=criterion.to(placement.device), mix=mix, sampling_weights=weights,
                    evaluation=self.make_evaluation(classes, train_set.counts()),
                    wrap_model=WithFeatures if long_tail.contrastive_weight else None)

    def make_evaluation(self, classes: list[str], train_counts: np.ndarray | None = None) -> Evaluation:
        """Classification figures, and retrieval with --eval-retrieval."""
        evaluation = classification_evaluation(classes, train_counts)
        return add_retrieval(evaluation) if self.options.retrieval.eval_retrieval else evaluation

    def next_step(self, path: Path, val_set: ImageFolder, *, evaluated: bool) -> Sequence[object]:
        """Calibrate by the validation pictures of a split; without a split, name the artists of all pictures."""
        split = path.parent / SPLIT if self.split else self.data_path
        if (split / "train").is_dir() and (split / "val").is_dir():  # corrupted copies are a val/ alone
            return "tools/calibrate.py", "--checkpoint", path, "--data-path", split
        return "inference_artist.py", "--checkpoint", path, "--input", self.options.data.data_path, "--contact-sheet"

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """The artists of the checkpoint, or of the dataset's class_mapping.csv, which must not contradict it."""
        mapping = self.data_path / CLASS_MAPPING
        if mapping.exists():
            check_classes(checkpoint, read_class_mapping(mapping), mapping)
        return checkpoint.classes or read_class_mapping(mapping)


def logit_adjustment(options: LongTailOptions, targets: np.ndarray, weights: np.ndarray | None,
                     num_classes: int) -> torch.Tensor | None:
    """What --logit-adjustment adds to the logits, (classes,): by how often each class is drawn; 0 if it never is.

    Raises:
        UserError: all classes are drawn equally often, so it would change nothing.
    """
    if not options.logit_adjustment:
        return None
    if options.sampler == "balanced":
        raise UserError("--logit-adjustment with --sampler balanced, which draws all artists equally often",
                        "one or the other", "leave one of the two away")
    drawn = np.bincount(targets, weights, minlength=num_classes)
    share = np.where(drawn > 0, drawn / drawn.sum(), 1.0)
    return options.logit_adjustment * torch.from_numpy(np.log(share)).float()
