"""A trainer's output folder: which files a run has, and what happens to those of an earlier run."""

from __future__ import annotations

from pathlib import Path

from data.class_mapping import CLASS_MAPPING, first_difference, read_class_mapping, write_class_mapping
from data.multilabel.dataset import LABEL_STATS
from data.prepare.dataset import DATASET_INFO
from drawing.confusion import CONFUSION
from evaluation.report import REPORT
from evaluation.thresholds import THRESHOLDS
from runtime.checkpoint import BEST, BEST_ALIAS, HUB_CONFIG, LATEST, WEIGHTS, Checkpoint, check_classes, read_checkpoint
from runtime.logbook import LOG, METRICS
from runtime.options import RunOptions
from utils import UserError

CURVES, EPOCH_CHECKPOINT = "curves.png", "checkpoint_{}.pth"
RUN_FILES = (LATEST, EPOCH_CHECKPOINT.format("*"), BEST, BEST_ALIAS, HUB_CONFIG, WEIGHTS, CLASS_MAPPING, LOG, METRICS,
             CURVES, REPORT, CONFUSION, LABEL_STATS, THRESHOLDS, "tensorboard")


def find_checkpoint(options: RunOptions) -> Checkpoint | None:
    """The checkpoint that --resume names; None without the flag, or if `auto` finds none."""
    if options.class_csv and not (options.resume or options.finetune_from):
        raise UserError("--class-csv without a checkpoint", "the file whose artists it names",
                        "add --finetune-from or --resume, or leave it away")
    class_csv = None if options.finetune_from else options.class_csv
    if options.resume == "auto":
        latest = options.output_dir / LATEST
        return read_checkpoint(latest, class_csv) if latest.exists() else None
    return read_checkpoint(options.resume, class_csv) if options.resume else None


def open_output(folder: Path, classes: list[str], resumed: Checkpoint | None) -> list[str]:
    """Prepare the folder for a run and write its class_mapping.csv; lines for the log.

    Unless the run resumes this folder's own checkpoint, the files of an earlier run move to `previous_<n>/`, together
    with its class mapping. A mapping that contradicts the dataset is named in a warning.

    Raises:
        UserError: the resumed checkpoint, or the mapping beside it, contradicts the dataset.
    """
    if (folder / DATASET_INFO).exists():
        raise UserError(f"--output-dir {folder}, which holds a prepared data set", "a folder for checkpoints and logs",
                        "choose another --output-dir")
    mapping, lines = folder / CLASS_MAPPING, []
    difference = first_difference(classes, read_class_mapping(mapping)) if mapping.exists() else None
    if resumed:
        check_classes(resumed, classes, "the data set")
    if difference and resumed:
        raise UserError(f"{mapping}, which contradicts the data set: {difference}",
                        "the mapping of the resumed checkpoint", "restore it, or choose another --output-dir")
    if difference:
        lines.append(f"warning: the data set contradicts {mapping}: {difference}")
    is_resumed_here = resumed is not None and resumed.path.resolve().parent == folder.resolve()
    try:
        if not is_resumed_here and any((folder / name).exists() for name in (LATEST, BEST)):
            lines.append(f"the earlier run in {folder} moves to {_move_aside(folder).name}/")
        write_class_mapping(mapping, classes)
    except OSError as error:
        raise UserError(f"{error.filename or folder}, which cannot be written ({error.strerror})",
                        "an output folder that this user may write and no other program holds open",
                        "choose another --output-dir, or close what uses this one") from error
    return lines


def _move_aside(folder: Path) -> Path:
    number = 1
    while (aside := folder / f"previous_{number}").exists():
        number += 1
    aside.mkdir()
    for path in [path for name in RUN_FILES for path in folder.glob(name)]:
        path.rename(aside / path.name)
    return aside
