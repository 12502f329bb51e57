"""The published robustness protocols ImageNet-C, -A, -R and -Sketch: their folders, classes and figures.

The caller provides the evaluation of a network on one folder.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.csv_files import read_table
from utils import UserError, counted

ASSETS = Path(__file__).resolve().parent / "data" / "assets"
SEVERITIES = ("1", "2", "3", "4", "5")
ALL_CLASSES = "imagenet_1k"
CORRUPTED = "imagenet_c"
SHIFTED = {"imagenet_a": "imagenet_a", "imagenet_r": "imagenet_r", "imagenet_sketch": ALL_CLASSES}  # -> classes
TITLES = {CORRUPTED: "ImageNet-C", "imagenet_a": "ImageNet-A", "imagenet_r": "ImageNet-R",
          "imagenet_sketch": "ImageNet-Sketch"}
NAMED = 3  # missing parts that a line names before it counts the others
Row = Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Score:
    """The result of a network on one folder.

    Attributes:
        top1: accuracy, %.
        pictures: number of images.
        missing: classes without an image.
    """

    top1: float
    pictures: int
    missing: Sequence[str] = ()


class Evaluate(Protocol):
    """How the caller evaluates a network on one folder."""

    def __call__(self, folder: Path, classes: Sequence[str], *, resize_only: bool) -> Score:
        """Score the images of `folder` by the logits of `classes` only.

        Args:
            folder: with one sub-folder per class, named by WordNet ids.
            classes: the WordNet ids to choose from.
            resize_only: the images are cropped already: resize them if their size differs, but do not crop.
        """


@functools.cache
def wordnet_ids(name: str) -> tuple[str, ...]:
    """The 1000 classes of `imagenet_1k` in the order of published logits, or the 200 of `imagenet_a` or `_r`."""
    return tuple((ASSETS / f"{name}_wnids.txt").read_text(encoding="ascii").split())


@functools.cache
def alexnet_errors() -> Mapping[str, float]:
    """AlexNet's error for each of the 15 corruptions, mean over the severities, as a fraction.

    **Source:** Hendrycks and Dietterich, arXiv 1903.12261.
    """
    columns = ("folder", "alexnet_error")
    rows = read_table(ASSETS / "imagenet_c_alexnet_error.csv", columns)
    return {folder: float(error) for _, (folder, error) in rows}


def check_folders(folders: Mapping[str, Path]) -> None:
    """Raise a `UserError` if the folder of a protocol is missing."""
    for name, folder in folders.items():
        if not folder.exists():
            raise UserError(f"no folder {folder}", f"the folder of {TITLES[name]}", "check the path")


def evaluate_protocols(folders: Mapping[str, Path], evaluate: Evaluate) -> dict[str, Any]:
    """The figures of every protocol with a folder, as plain Python.

    Args:
        folders: by protocol: `imagenet_c`, `imagenet_a`, `imagenet_r`, `imagenet_sketch`.
        evaluate: scores one folder.

    Raises:
        UserError: a folder holds nothing of its protocol.
    """
    return {name: evaluate_corruptions(folder, evaluate) if name == CORRUPTED else
            evaluate_shift(folder, SHIFTED[name], evaluate) for name, folder in folders.items()}


def evaluate_corruptions(root: Path, evaluate: Evaluate) -> dict[str, Any]:
    """ImageNet-C, from `root`/<corruption>/<severity>/<WordNet id>: top-1, error and CE of each corruption, and mCE, %.

    CE is the error relative to AlexNet's, and mCE the mean CE of all 15 corruptions. An incomplete mean is None, and
    `missing` says why.

    Raises:
        UserError: there is no corruption.
    """
    corruptions: dict[str, dict[str, Any]] = {}
    missing: list[str] = []
    for name, alexnet in alexnet_errors().items():
        top1, known = {}, len(missing)
        for severity in SEVERITIES:
            folder = root / name / severity
            if not folder.is_dir():
                missing.append(f"{name}/{severity}")
                continue
            score = evaluate(folder, wordnet_ids(ALL_CLASSES), resize_only=True)
            top1[severity] = score.top1
            if score.missing:
                missing.append(f"{len(score.missing)} classes of {name}/{severity}")
        error = 100 - sum(top1.values()) / len(SEVERITIES) if len(missing) == known else None
        corruptions[name] = {"top1": top1, "error": error, "ce": None if error is None else error / alexnet}
    if not any(each["top1"] for each in corruptions.values()):
        raise UserError(f"no corruption of ImageNet-C in {root}",
                        f"{root / next(iter(corruptions)) / SEVERITIES[0]} and its like",
                        "name the folder that holds the corruptions")
    mce = None if missing else sum(each["ce"] for each in corruptions.values()) / len(corruptions)
    return {"mce": mce, "corruptions": corruptions, "missing": missing}


def evaluate_shift(root: Path, classes: str, evaluate: Evaluate) -> dict[str, Any]:
    """ImageNet-A, -R or -Sketch, from `root`/<WordNet id>: top-1, %, among the protocol's classes only."""
    score = evaluate(root, wordnet_ids(classes), resize_only=False)
    return {"top1": score.top1, "pictures": score.pictures, "classes": len(wordnet_ids(classes)),
            "missing": list(score.missing)}


def table_rows(result: Mapping[str, Any]) -> list[Row]:
    """The ImageNet-C table of an `evaluate_protocols` result; an incomplete mean is a dash."""
    rows: list[Row] = []
    if CORRUPTED in result:
        rows += [(f"{TITLES[CORRUPTED]}: top-1, %", *SEVERITIES, "error", "CE"), ()]
        for name, each in result[CORRUPTED]["corruptions"].items():
            rows.append((name.replace("_", " "), *(_format(each["top1"].get(severity)) for severity in SEVERITIES),
                         _format(each["error"]), _format(each["ce"])))
        rows += [(), ("mean (mCE)", *[""] * len(SEVERITIES), "", _format(result[CORRUPTED]["mce"]))]
    return rows


def format_lines(result: Mapping[str, Any]) -> list[str]:
    """The lines below the table: the other protocols, and what is missing."""
    lines = []
    for name, each in result.items():
        if name in SHIFTED:
            lines.append(f"{TITLES[name]} top-1 {each['top1']:.3f} of {counted(each['pictures'], 'picture')}, "
                         f"{each['classes']} classes")
        if each["missing"]:
            more = f" and {len(each['missing']) - NAMED} more" if len(each["missing"]) > NAMED else ""
            lines.append(f"{TITLES[name]} is incomplete; missing: {', '.join(each['missing'][:NAMED])}{more}")
    return lines


def _format(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
