"""A trainer's output folder: which files a run has, and what happens to those of an earlier run."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

from data.class_mapping import CLASS_MAPPING, first_difference, read_class_mapping, write_class_mapping
from data.multilabel.dataset import LABEL_STATS
from data.output_folder import MARKER, replace_together
from data.prepare.dataset import DATASET_INFO
from drawing.confusion import CONFUSION
from evaluation.calibration import CALIBRATION, STATISTICS
from evaluation.multilabel import FIGURES
from evaluation.report import REPORT
from evaluation.thresholds import THRESHOLDS
from evaluation.validation_answers import ANSWERS, FEATURES
from runtime.checkpoint import BEST, BEST_ALIAS, HUB_CONFIG, LATEST, WEIGHTS, Checkpoint, check_classes, read_checkpoint
from runtime.logbook import LOG, METRICS
from runtime.options import RunOptions
from utils import UserError, atomic_path

CURVES, EPOCH_CHECKPOINT, ROBUSTNESS = "curves.png", "checkpoint_{}.pth", "robustness.json"
REPORT_PAGE = "report.html"
SPLIT = "split"  # the data set that a run has made of folders of artists
# What the best network so far has: its weights, and the figures on the way to it.
PUBLISHED = (BEST, BEST_ALIAS, HUB_CONFIG, WEIGHTS, REPORT, CONFUSION, LABEL_STATS, THRESHOLDS, ANSWERS,
             FEATURES)
BEST_FILES = (*PUBLISHED, METRICS)
BEGINNING = (CLASS_MAPPING, LOG, "tensorboard", SPLIT)  # there is no more of a run that ended in its first epoch
RUN_FILES = (LATEST, EPOCH_CHECKPOINT.format("*"), *BEST_FILES, CURVES, FIGURES, ROBUSTNESS, REPORT_PAGE, CALIBRATION,
             STATISTICS, str(Path(CALIBRATION).with_suffix(".png")), *BEGINNING)


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


def open_output(folder: Path, classes: list[str], resumed: Checkpoint | None,
                data_path: Path | None = None) -> list[str]:
    """Prepare the folder for a run and write its class_mapping.csv, if it has classes; lines for the log.

    Unless the run resumes this folder's own checkpoint, the files of an earlier run move to `previous_<n>/`, together
    with its class mapping. A mapping that contradicts the dataset is named in a warning. A run that resumes in another
    folder takes its best network so far along. The data set at `data_path` stays where it is.

    Raises:
        UserError: the resumed checkpoint, or the mapping beside it, contradicts the dataset.
    """
    if (folder / DATASET_INFO).exists():
        raise UserError(f"--output-dir {folder}, which holds a prepared data set", "a folder for checkpoints and logs",
                        "choose another --output-dir")
    mapping, lines = folder / CLASS_MAPPING, []
    difference = first_difference(classes, read_class_mapping(mapping)) if classes and mapping.exists() else None
    if resumed:
        check_classes(resumed, classes, "the data set")
    if difference and resumed:
        raise UserError(f"{mapping}, which contradicts the data set: {difference}",
                        "the mapping of the resumed checkpoint", "restore it, or choose another --output-dir")
    if difference:
        lines.append(f"warning: the data set contradicts {mapping}: {difference}")
    is_resumed_here = resumed is not None and resumed.path.resolve().parent == folder.resolve()
    try:
        if not is_resumed_here:
            lines += _move_aside(folder, data_path) + (_bring_best(folder, resumed) if resumed else [])
        if classes:
            write_class_mapping(mapping, classes)
    except OSError as error:
        raise UserError(f"{error.filename or folder}, which cannot be written ({error.strerror})",
                        "an output folder that this user may write and no other program holds open",
                        "choose another --output-dir, or close what uses this one") from error
    return lines


def _move_aside(folder: Path, data_path: Path | None) -> list[str]:
    """Move an earlier run's files to a folder of their own; a line for the log, unless the run had just begun.

    The folder gets its name when it is complete: what a kill left is completed first.
    """
    files, moving = [path for name in RUN_FILES for path in folder.glob(name)
                     if path.name != SPLIT or _is_own_split(path, data_path)], folder / ".previous.partial"
    if all(path.name in BEGINNING for path in files) and not moving.exists():
        return []
    number = 1
    while (aside := folder / f"previous_{number}").exists():
        number += 1
    moving.mkdir(exist_ok=True)
    for path in files:
        path.rename(moving / path.name)
    moving.rename(aside)
    return [f"the earlier run in {folder} moves to {aside.name}/"]


def _is_own_split(folder: Path, data_path: Path | None) -> bool:
    """Whether a command made this folder, and the run does not read it."""
    read = data_path is not None and data_path.resolve().is_relative_to(folder.resolve())
    return (folder / MARKER).is_file() and not read


def _bring_best(folder: Path, resumed: Checkpoint) -> list[str]:
    """Copy the best network that `resumed` knows of, where it lies beside it; a line for the log."""
    source = resumed.path.resolve().parent
    if not _holds_best(source, resumed.content.get("best_metric", -math.inf)):
        return []
    with replace_together(folder, BEST_FILES) as building:
        for name in BEST_FILES:
            if (source / name).is_file():
                with atomic_path(building / name) as partial:
                    shutil.copyfile(source / name, partial)
    return [f"the best network so far comes along from {source}"]


def _holds_best(folder: Path, metric: float) -> bool:
    """Whether the model_best.pth in `folder` is the network that reached `metric`."""
    try:
        return math.isfinite(metric) and read_checkpoint(folder / BEST).content.get("best_metric") == metric
    except UserError:  # there is none, or it cannot be read
        return False


def closing_lines(folder: Path, title: str, metric: float, *, improved: bool) -> list[str]:
    """What to say at the end of a run in `folder`.

    Args:
        folder: the output folder.
        title: of the monitored figure.
        metric: its best value.
        improved: whether that was reached since the run began or resumed.
    """
    best, calibration = f"best {title} {metric:.3f}", folder / CALIBRATION
    if not _holds_best(folder, metric):
        return [f"{best}, reached before the resumed checkpoint: these weights are not in {folder}, all else is"]
    stale = [f"{calibration} is of earlier weights: run tools/calibrate.py again"]
    return [*(stale if improved and calibration.exists() else []), f"{best}; everything is in {folder}"]
