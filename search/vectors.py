"""Named feature vectors and their files: those that the commands here write, and plain NumPy files."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils import UserError, write_array, write_text

FEATURES, NAMES = "features.npy", "image_names.txt"  # a matrix, and the names of its rows
READABLE = ".npy, .npz, .json or .jsonl"


@dataclass(frozen=True, eq=False)
class Vectors:
    """Feature vectors, each with a name.

    Attributes:
        names: one per row.
        rows: (N, D) float32; a memory map where one .npy file holds them all.
    """

    names: Sequence[str]
    rows: np.ndarray


def write_features(folder: Path, names: Sequence[str], features: np.ndarray) -> None:
    """Write features.npy, (N, D) float32, and image_names.txt, whose lines name its rows."""
    write_array(folder / FEATURES, features)
    write_text(folder / NAMES, "".join(map(name_line, names)))


def name_line(name: str) -> str:
    """The line of image_names.txt; a line break in a file name becomes a space, so that rows and lines still match."""
    return " ".join(name.splitlines()) + "\n"


def read_vectors(paths: Sequence[Path]) -> Vectors:
    """The vectors of files and folders, in the order given; at least one.

    - `.npy`: one vector, called like the file, or a matrix. The lines of image_names.txt beside features.npy, and of
      X.txt beside any other X.npy, name its rows; without such a file they are `X.npy[0]`, `X.npy[1]` and so on.
    - `.npz`: `features`, and `image_names` where there are names.
    - `.json`: a record of one picture or of a folder's, cluster_assignments.json (the centroids), or plain lists;
      `.jsonl`: a record on each line.
    - A folder: its features.npy; without one, all its .npy and .npz files; without any, its .json and .jsonl.

    Raises:
        UserError: nothing to read, a file that holds no vectors, other names than rows, numbers that are not finite, or
            vectors of different lengths.
    """
    parts = [(file, _read(file)) for path in paths for file in _files(path)]
    parts = [(file, part) for file, part in parts if len(part.rows)]
    if not parts:
        raise UserError(f"no vector in {', '.join(map(str, paths))}", f"at least one, in {READABLE} files",
                        "check the paths")
    first, expected = parts[0][0], parts[0][1].rows.shape[1]
    for file, part in parts:
        if part.rows.shape[1] != expected:
            raise UserError(f"vectors of {part.rows.shape[1]} numbers in {file}", f"{expected}, as in {first}",
                            "compare features of one model")
        _check_finite(file, part)
    if len(parts) == 1:
        return parts[0][1]
    return Vectors([name for _, part in parts for name in part.names], np.concatenate([part.rows for _, part in parts]))


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"no {path}", f"a {READABLE} file, or a folder of them", "check the path")
    if not path.is_dir():
        return [path]
    if (path / FEATURES).is_file():
        return [path / FEATURES]
    arrays = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".npz"))
    return arrays or sorted(file for file in path.iterdir() if file.suffix in (".json", ".jsonl"))


def _read(file: Path) -> Vectors:
    readers = {".npy": _from_npy, ".npz": _from_npz, ".json": _from_json, ".jsonl": _from_json}
    if file.suffix not in readers:
        raise _malformed(file, "is no file of vectors")
    try:
        return readers[file.suffix](file)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _malformed(file, f"holds no vectors that can be read ({error})") from error


def _from_npy(file: Path) -> Vectors:
    values = np.load(file, mmap_mode="r")
    if values.ndim == 1:
        return Vectors([file.as_posix()], _matrix(values[None]))
    beside = file.with_name(NAMES) if file.name == FEATURES else file.with_suffix(".txt")
    return _named(file, values, beside.read_text(encoding="utf-8").splitlines() if beside.is_file() else None)


def _from_npz(file: Path) -> Vectors:
    with np.load(file) as archive:
        names = archive["image_names"].tolist() if "image_names" in archive else None
        return _named(file, archive["features"], names)


def _named(file: Path, values: np.ndarray, names: list[str] | None) -> Vectors:
    rows = _matrix(values)
    if names is None:
        names = [f"{file.as_posix()}[{row}]" for row in range(len(rows))]
    if len(names) != len(rows):
        raise UserError(f"{len(names)} names for the {len(rows)} rows of {file}", "one name per row",
                        "keep the two files of one run together")
    return Vectors(names, rows)


def _from_json(file: Path) -> Vectors:
    text = file.read_text(encoding="utf-8")
    content = {record["image"]: record for record in map(json.loads, text.split("\n")[:-1])} \
        if file.suffix == ".jsonl" else json.loads(text)
    found = list(_vectors_in(content, file.as_posix()))
    return Vectors([name for name, _ in found], _matrix([vector for _, vector in found] or np.empty((0, 0))))


def _vectors_in(content: Any, file: str) -> Iterator[tuple[str, Any]]:
    if isinstance(content, list):
        many = bool(content) and isinstance(content[0], list)
        yield from ((f"{file}[{row}]", vector) for row, vector in enumerate(content)) if many else [(file, content)]
    elif "features" in content:
        yield file, content["features"]
    elif "clusters" in content:
        yield from ((f"cluster {each['cluster_id']}", each["centroid"]) for each in content["clusters"])
    else:
        yield from ((name, record["features"]) for name, record in content.items() if "features" in record)


def _matrix(values: Any) -> np.ndarray:
    """`values` as (N, D) float32, without a copy where they are that already."""
    array = np.asanyarray(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise ValueError(f"shape {array.shape}, type {array.dtype}")
    return array.astype(np.float32, copy=False)


def _check_finite(file: Path, part: Vectors) -> None:
    bad = np.flatnonzero(~np.isfinite(part.rows.sum(axis=1, dtype=np.float64)))
    if len(bad):
        raise UserError(f"a number that is not finite in {part.names[bad[0]]}, row {bad[0]} of {file}",
                        "finite numbers", "extract the features again")


def _malformed(file: Path, problem: str) -> UserError:
    return UserError(f"{file}, which {problem}", f"a {READABLE} file of numbers", "check the path")
