"""A trainer's output folder: what an earlier run left there is checked, kept and never mixed with the new run's."""

from __future__ import annotations

from pathlib import Path

from data.class_mapping import first_difference, read_class_mapping, write_class_mapping
from data.multilabel.label_stats import LABEL_STATS
from data.prepare.dataset import DATASET_INFO
from drawing.confusion import CONFUSION
from evaluation.report import REPORT
from evaluation.thresholds import THRESHOLDS
from runtime.checkpoint import BEST, BEST_ALIAS, HUB_CONFIG, LATEST, WEIGHTS, Checkpoint, check_classes, read_checkpoint
from runtime.logbook import CURVES, LOG, METRICS
from runtime.options import RunOptions
from utils import UserError

CLASS_MAPPING = "class_mapping.csv"
AUTO = "auto"


def find_checkpoint(options: RunOptions) -> Checkpoint | None:
    """What --resume names: a checkpoint, or None without the flag or where `auto` finds nothing to resume."""
    if options.resume == AUTO:
        latest = options.output_dir / LATEST
        return read_checkpoint(latest) if latest.exists() else None
    return read_checkpoint(options.resume) if options.resume else None


def open_output(folder: Path, classes: list[str], resumed: Checkpoint | None) -> list[str]:
    """Make the folder ready for a run and write its class_mapping.csv; lines to tell the user.

    A run that does not go on with this folder's own checkpoint moves the earlier run into `previous_<n>/`, so that
    nothing is lost. A class mapping that contradicts the data set is named; with the checkpoint that depends on it, it
    moves too.

    Raises:
        UserError: the resumed checkpoint, or the mapping beside it, contradicts the data set.
    """
    if (folder / DATASET_INFO).exists():
        raise UserError(f"--output-dir {folder}, which holds a prepared data set", "a folder for checkpoints and logs",
                        "choose another --output-dir")
    mapping = folder / CLASS_MAPPING
    lines = []
    difference = first_difference(classes, read_class_mapping(mapping)) if mapping.exists() else None
    if resumed:
        check_classes(resumed, classes, "the data set")
    if difference and resumed:
        raise UserError(f"{mapping}, which contradicts the data set: {difference}",
                        "the mapping of the resumed checkpoint", "restore it, or choose another --output-dir")
    if difference:
        lines.append(f"warning: the data set contradicts {mapping}: {difference}")
    goes_on = resumed is not None and resumed.path.resolve().parent == folder.resolve()
    try:
        if not goes_on and any((folder / name).exists() for name in (LATEST, BEST)):
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
    kept = (LATEST, BEST, BEST_ALIAS, HUB_CONFIG, WEIGHTS, CLASS_MAPPING, LOG, METRICS, CURVES, REPORT, CONFUSION,
            LABEL_STATS, THRESHOLDS, "tensorboard")
    for path in [*(folder / name for name in kept), *folder.glob("checkpoint_*.pth")]:
        if path.exists():
            path.rename(aside / path.name)
    return aside
