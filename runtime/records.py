"""What inference writes: a JSON record per picture, a matrix of features and the names of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.predictor import Failure, Result
from runtime.vectors import FEATURES, NAMES
from utils import atomic_path, write_json, write_text

FOLDER_RESULTS = "batch_results.json"
NOTHING = np.empty((0, 0), np.float32)


def record(answer: Result | Failure, *, mode: str, top_k: int, threshold: float) -> dict[str, Any]:
    """The JSON record of one picture: `classification` and `features` as `mode` asks, or `error`."""
    if isinstance(answer, Failure):
        return {"error": answer.reason}
    parts: dict[str, Any] = {}
    if mode != "cluster":
        parts["classification"] = answer.top(top_k, threshold)
    if mode != "classify":
        parts["features"] = answer.features.tolist()
    return parts


def write_single(answer: Result | Failure, output: Path, *, mode: str, top_k: int, threshold: float) -> Path:
    """Write the record of one picture to `<stem>_result.json` in `output`; the path written."""
    path = output / f"{answer.path.stem}_result.json"
    write_json(path, record(answer, mode=mode, top_k=top_k, threshold=threshold))
    return path


def write_folder(answers: Iterable[Result | Failure], folder: Path, output: Path, *, mode: str, top_k: int,
                 threshold: float) -> list[Failure]:
    """Write the records of a folder's pictures to batch_results.json, and their features unless `mode` is classify.

    Keys are paths relative to `folder`, "/"-separated, in the order of `answers`.

    Returns:
        the failures among the answers.
    """
    records: dict[str, dict[str, Any]] = {}
    names: list[str] = []
    rows: list[np.ndarray] = []
    failures: list[Failure] = []
    for answer in answers:
        name = answer.path.relative_to(folder).as_posix()
        records[name] = record(answer, mode=mode, top_k=top_k, threshold=threshold)
        if isinstance(answer, Failure):
            failures.append(answer)
        elif mode != "classify":
            names.append(name)
            rows.append(answer.features.numpy())
    write_json(output / FOLDER_RESULTS, records)
    if mode != "classify":
        write_features(output, names, np.stack(rows) if rows else NOTHING)
    return failures


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
    """Write features.npy, (N, D) float32, and image_names.txt, whose lines name its rows.

    A line break in a file name would shift every line after it: it is written as a space.
    """
    with atomic_path(folder / FEATURES) as partial, open(partial, "wb") as file:
        np.save(file, features)
    write_text(folder / NAMES, "".join(" ".join(name.splitlines()) + "\n" for name in names))
