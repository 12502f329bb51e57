"""Training of networks that name all artists of an image and their shares: train_artist_multilabel.py."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torchvision.transforms.functional import to_tensor

from data.multilabel.annotations import AnnotationRules
from data.multilabel.dataset import MultiLabelImageDataset, open_annotated, write_label_stats
from data.transforms import Preprocessing
from evaluation.evaluator import Evaluation, Evaluator
from evaluation.multilabel import FIGURES, MultiLabelMeter, figures_table, format_multilabel_line, write_figures
from evaluation.thresholds import THRESHOLDS, write_thresholds
from losses import MultiLabelLoss
from runtime.checkpoint import Checkpoint, check_classes
from runtime.options import MultiLabelTrainerOptions
from runtime.placement import Placement
from runtime.processes import rank
from training.augmentation import make_multilabel_mix
from training.engine import Task
from training.teacher import add_teacher
from training.trainer import TrainerSpec
from utils import UserError


class MultiLabelSpec(TrainerSpec[MultiLabelTrainerOptions, MultiLabelImageDataset]):
    """Several artists per image, monitored by macro mAP."""

    task = "multilabel"

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """The annotations say which pictures train; raises a `UserError` without them."""
        annotations, folder = self.options.annotations, self.options.data.data_path
        missing = [name for name, path in (("--train-ann", annotations.train_ann), ("--val-ann", annotations.val_ann))
                   if path is None and not (self.options.run.eval and name == "--train-ann")]
        if missing:
            raise UserError(f"no {' and '.join(missing)}", "CSV files image_path,labels of the pictures in --data-path",
                            f"make them from .txt files beside the pictures with tools/split_multilabel_dataset.py "
                            f"--input-dir {folder}; folders of one artist each are for train_artist_style.py")
        return []

    def open_train(self) -> tuple[MultiLabelImageDataset, list[str]]:
        """The images of --train-ann; their labels, in code-point order, are the classes."""
        return self._open(self.options.annotations.train_ann)

    def open_val(self, classes: list[str]) -> tuple[MultiLabelImageDataset, list[str]]:
        """The images of --val-ann."""
        return self._open(self.options.annotations.val_ann, classes)

    def _open(self, path: Path | None, classes: list[str] | None = None) -> tuple[MultiLabelImageDataset, list[str]]:
        annotations, data = self.options.annotations, self.options.data
        assert path is not None  # `find_data` has refused that
        rules = AnnotationRules(root=data.data_path, delimiter=annotations.label_delimiter,
                                label_format=annotations.label_format, allow_outside=annotations.allow_outside,
                                skip_invalid=annotations.skip_invalid)
        return open_annotated(path, rules, to_tensor, classes=classes, max_pixels=data.max_pixels)

    def make_task(self, train_set: MultiLabelImageDataset, preprocessing: Preprocessing, placement: Placement) -> Task:
        """Presence and shares of labels."""
        labels, classes = self.options.labels, train_set.classes
        counts = torch.from_numpy(train_set.counts())
        # A label of every image counts as missing from one image: it must be learned, too.
        balance = (len(train_set) - counts).clamp(min=1) / counts.clamp(min=1)
        label_loss = MultiLabelLoss(labels.loss, pos_weight=balance.clamp(max=labels.pos_weight_cap),
                                    ratio_weight=labels.ratio_weight, smoothing=self.augmentation.smoothing)
        criterion = add_teacher(label_loss, self.options.distillation, classes, preprocessing, placement,
                                multilabel=True)
        return Task(criterion=criterion.to(placement.device), evaluation=self.make_evaluation(classes, train_set),
                    mix=make_multilabel_mix(self.augmentation, len(classes)))

    def next_step(self, path: Path, val_set: MultiLabelImageDataset, *, evaluated: bool) -> Sequence[object]:
        """Tell the labels of a validation picture."""
        return ("predict_artist_multilabel.py", "--checkpoint", path, "--inputs", val_set.path(0), "--output",
                path.with_name("prediction.json"))

    def make_evaluation(self, classes: list[str], train_set: MultiLabelImageDataset | None = None) -> Evaluation:
        """Multi-label figures; the report has the label statistics of `train_set`, if there is one."""
        return Evaluation(
            make_meter=functools.partial(MultiLabelMeter, classes, self.options.labels.threshold), monitor="macro_map",
            title="macro mAP", format_line=format_multilabel_line,
            write_report=functools.partial(write_report, train_set))

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """The labels of --train-ann, which must not contradict the checkpoint, or else those of the checkpoint.

        Raises:
            UserError: they do, or neither names any.
        """
        path = self.options.annotations.train_ann
        if path is not None:
            classes = self._open(path)[0].classes
            check_classes(checkpoint, classes, path)
            return classes
        if not checkpoint.classes:
            raise UserError(f"{checkpoint.path}, which does not name its labels", "the annotations it was trained on",
                            "add --train-ann")
        return checkpoint.classes

    def finish_evaluation(self, evaluator: Evaluator, val_set: MultiLabelImageDataset, figures: dict[str, float],
                          meter: MultiLabelMeter) -> None:
        """Print a table, and write the figures and thresholds to the output folder."""
        folder = self.options.run.output_dir
        if rank() == 0:
            write_thresholds(folder, meter)
            write_figures(folder, figures)
            print("\n".join(figures_table(figures)))
            print(f"{FIGURES} and {THRESHOLDS} are in {folder}")


def write_report(train_set: MultiLabelImageDataset | None, folder: Path, meter: MultiLabelMeter) -> Mapping[str, Path]:
    """Write thresholds.csv and label_stats.csv to `folder`; no drawings."""
    write_thresholds(folder, meter)
    if train_set is not None:
        write_label_stats(folder, train_set)
    return {}
