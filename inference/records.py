"""What inference says of a picture as plain Python, and matrices of features with the names of their rows."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.calibration import Calibration
from inference.predictor import Failure, Result
from search.vectors import FEATURES, NAMES
from utils import atomic_path, write_text

FOLDER_RESULTS = "batch_results.json"
NOTHING = np.empty((0, 0), np.float32)
Describe = Callable[[Sequence[Result]], list[dict[str, Any]]]


def record(result: Result, *, mode: str, top_k: int, threshold: float,
           calibration: Calibration | None = None) -> dict[str, Any]:
    """The JSON record of one picture: `classification` and `features` as `mode` asks.

    With `calibration`, each class named has its `calibrated_probability`, and the picture a `verdict`.
    """
    parts: dict[str, Any] = {}
    if mode != "cluster":
        parts["classification"] = result.top(top_k, threshold)
        if calibration:
            probabilities = calibration.probabilities(result.logits)
            for entry in parts["classification"]:
                entry["calibrated_probability"] = probabilities[entry["class_id"]].item()
            parts["verdict"] = calibration.verdict(probabilities.max().item())
    if mode != "classify":
        parts["features"] = result.features.tolist()
    return parts


def describe_each(results: Sequence[Result], **what: Any) -> list[dict[str, Any]]:
    """The `record` of each."""
    return [record(result, **what) for result in results]


def records(answers: Iterable[Result | Failure], folder: Path, describe: Describe, *,
            together: int = 1) -> Iterator[tuple[str, dict]]:
    """Each answer's path relative to `folder`, "/"-separated, and its record: `error`, or what `describe` says.

    `describe` is asked for `together` answers at a time.
    """
    answers = iter(answers)
    while group := list(itertools.islice(answers, together)):
        said = iter(describe([answer for answer in group if isinstance(answer, Result)]))
        for answer in group:
            found = {"error": answer.reason} if isinstance(answer, Failure) else next(said)
            yield answer.path.relative_to(folder).as_posix(), found


def extract_features(answers: Iterable[Result | Failure],
                     folder: Path) -> tuple[list[str], np.ndarray, list[Failure]]:
    """Names relative to `folder`, features (N, D) float32 in the same order, and what could not be read."""
    results: list[Result] = []
    failures: list[Failure] = []
    for answer in answers:
        (failures if isinstance(answer, Failure) else results).append(answer)
    names = [result.path.relative_to(folder).as_posix() for result in results]
    return names, np.stack([result.features.numpy() for result in results]) if results else NOTHING, failures


def write_features(folder: Path, names: Sequence[str], features: np.ndarray) -> None:
    """Write features.npy, (N, D) float32, and image_names.txt, whose lines name its rows."""
    with atomic_path(folder / FEATURES) as partial, open(partial, "wb") as file:
        np.save(file, features)
    write_text(folder / NAMES, "".join(map(name_line, names)))


def tell_failures(failures: Iterable[Failure]) -> None:
    """Name on stderr what could not be read, and why."""
    for failure in failures:
        print(f"not read: {failure.path} ({failure.reason})", file=sys.stderr)


def name_line(name: str) -> str:
    """The line of image_names.txt: a line break in a file name would shift every line after it, and is a space."""
    return " ".join(name.splitlines()) + "\n"
