"""The published robustness protocols: ImageNet-C, -A, -R and -Sketch.

This module knows which folders a protocol consists of, which of the 1000 classes it asks for, and how its figures are
computed. Whoever calls it brings the evaluation, and so the pictures and the network.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from utils import UserError

ASSETS = Path(__file__).resolve().parent / "data" / "assets"
SEVERITIES = ("1", "2", "3", "4", "5")
ALL_CLASSES = "imagenet_1k"
CORRUPTED = "imagenet_c"
SHIFTED = {"imagenet_a": "imagenet_a", "imagenet_r": "imagenet_r", "imagenet_sketch": ALL_CLASSES}  # and their classes
TITLES = {CORRUPTED: "ImageNet-C", "imagenet_a": "ImageNet-A", "imagenet_r": "ImageNet-R",
          "imagenet_sketch": "ImageNet-Sketch"}
NAMED = 3  # missing parts that a line names before it counts the others
Row = Sequence[object]


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one folder of pictures gave.

    Attributes:
        top1: share recognised, %.
        pictures: how many were seen.
        missing: classes of which none was seen.
    """

    top1: float
    pictures: int
    missing: Sequence[str] = ()


class Evaluate(Protocol):
    """How the caller evaluates a network on one folder."""

    def __call__(self, folder: Path, classes: Sequence[str], *, cut: bool) -> Score:
        """Score the pictures of `folder`, one sub-folder per class, by the logits of `classes` alone.

        Args:
            folder: its sub-folders are named by WordNet ids, in any order.
            classes: the WordNet ids to choose from.
            cut: the pictures have the input's shape already: resized where the size differs, never cut.
        """


@functools.cache
def wordnet_ids(name: str) -> tuple[str, ...]:
    """The classes of `imagenet_1k`, in the order of published networks' logits, or the 200 of `imagenet_a` or `_r`."""
    return tuple((ASSETS / f"{name}_wnids.txt").read_text(encoding="ascii").split())


@functools.cache
def alexnet_errors() -> Mapping[str, float]:
    """AlexNet's error of each of the 15 corruptions, mean over the severities, as a fraction.

    **Source:** Hendrycks and Dietterich, arXiv 1903.12261.
    """
    with open(ASSETS / "imagenet_c_alexnet_error.csv", encoding="utf-8", newline="") as file:
        return {row["folder"]: float(row["alexnet_error"]) for row in csv.DictReader(file)}


def check_folders(folders: Mapping[str, Path]) -> None:
    """Raise a `UserError` unless the folder of every protocol, by its name, is there."""
    for name, folder in folders.items():
        if not folder.exists():
            raise UserError(f"no folder {folder}", f"the folder of {TITLES[name]}", "check the path")


def evaluate_protocols(folders: Mapping[str, Path], evaluate: Evaluate) -> dict[str, Any]:
    """Every protocol whose folder is given, as plain Python.

    Args:
        folders: `imagenet_c`, `imagenet_a`, `imagenet_r`, `imagenet_sketch` -> where it lies.
        evaluate: scores one folder.

    Raises:
        UserError: a folder holds nothing of its protocol.
    """
    return {name: evaluate_corruptions(folder, evaluate) if name == CORRUPTED else
            evaluate_shift(folder, SHIFTED[name], evaluate) for name, folder in folders.items()}


@dataclass
class _Corruption:
    """The severities of one corruption, as far as they are there."""

    top1: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def figures(self, alexnet: float) -> dict[str, Any]:
        """Error and corruption error, %; None unless all five severities are whole."""
        error = None if self.missing else 100 - sum(self.top1.values()) / len(SEVERITIES)
        return {"top1": self.top1, "error": error, "ce": None if error is None else error / alexnet}


def evaluate_corruptions(root: Path, evaluate: Evaluate) -> dict[str, Any]:
    """ImageNet-C, from `root`/<corruption>/<severity>/<WordNet id>: top-1, error and CE of each corruption, and mCE, %.

    CE is the error relative to AlexNet's, and mCE the mean CE of all 15 corruptions. What is incomplete has no mean:
    it is None, and `missing` says why.

    Raises:
        UserError: none of the corruptions is there.
    """
    found = {}
    for name in alexnet_errors():
        corruption = found[name] = _Corruption()
        for severity in SEVERITIES:
            folder = root / name / severity
            if not folder.is_dir():
                corruption.missing.append(f"{name}/{severity}")
                continue
            score = evaluate(folder, wordnet_ids(ALL_CLASSES), cut=True)
            corruption.top1[severity] = score.top1
            if score.missing:
                corruption.missing.append(f"{len(score.missing)} classes of {name}/{severity}")
    if not any(corruption.top1 for corruption in found.values()):
        raise UserError(f"no corruption of ImageNet-C in {root}", f"{root / next(iter(found)) / '1'} and its like",
                        "name the folder that holds the corruptions")
    figures = {name: corruption.figures(alexnet_errors()[name]) for name, corruption in found.items()}
    missing = [part for corruption in found.values() for part in corruption.missing]
    ratios = [each["ce"] for each in figures.values()]
    return {"mce": None if missing else sum(ratios) / len(ratios), "corruptions": figures, "missing": missing}


def evaluate_shift(root: Path, classes: str, evaluate: Evaluate) -> dict[str, Any]:
    """ImageNet-A, -R or -Sketch, from `root`/<WordNet id>: top-1, %, of choosing among the protocol's classes only."""
    score = evaluate(root, wordnet_ids(classes), cut=False)
    return {"top1": score.top1, "pictures": score.pictures, "classes": len(wordnet_ids(classes)),
            "missing": list(score.missing)}


def table(result: Mapping[str, Any]) -> list[Row]:
    """The rows of a table of what `evaluate_protocols` returned; an incomplete mean is a dash."""
    rows: list[Row] = []
    if CORRUPTED in result:
        rows += [(f"{TITLES[CORRUPTED]}: top-1, %", *SEVERITIES, "error", "CE"), ()]
        for name, each in result[CORRUPTED]["corruptions"].items():
            rows.append((name.replace("_", " "), *(_shown(each["top1"].get(severity)) for severity in SEVERITIES),
                         _shown(each["error"]), _shown(each["ce"])))
        rows += [(), ("mean (mCE)", *[""] * len(SEVERITIES), "", _shown(result[CORRUPTED]["mce"]))]
    return rows


def lines(result: Mapping[str, Any]) -> list[str]:
    """What stands below the table: the other protocols, and what is missing."""
    told = []
    for name, each in result.items():
        if name in SHIFTED:
            told.append(f"{TITLES[name]} top-1 {each['top1']:.3f} of {each['pictures']} pictures, "
                        f"{each['classes']} classes")
        if each["missing"]:
            more = f" and {len(each['missing']) - NAMED} more" if len(each["missing"]) > NAMED else ""
            told.append(f"{TITLES[name]} is incomplete; missing: {', '.join(each['missing'][:NAMED])}{more}")
    return told


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
