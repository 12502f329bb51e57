"""Named feature vectors and their files: those that the commands here write, and plain NumPy files."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import IO, Annotated, Any

import msgspec
import numpy as np

from data.names import from_text, named_file
from data.side_files import parse_json, read_json, read_lines, split_lines
from runtime.options import FeatureKind
from utils import UserError, check_regular_file, read_bytes, write_array, write_json, write_text

FEATURES, NAMES = "features.npy", "image_names.txt"  # a matrix, and the names of its rows
SPACE = "features.json"  # beside them: whose features they are, and which
READABLE = ".npy, .npz, .json or .jsonl"
LONGEST = 2**20  # numbers of a vector
LARGEST_NUMBER = 1e15  # float32 holds the sum of the squares of so many of them
MOST_JSON = 2**32  # bytes
MOST_UNPACKED, MOST_PACKED = 2**30, 20  # bytes of an array in an .npz, unless it is packed by no more than this factor
MOST_HEADER = 2**16  # bytes
BLOCK = 2**14  # rows
# All that NumPy and zipfile raise on damaged files; RuntimeError is for encrypted ones.
_READER_ERRORS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, SyntaxError, MemoryError,
                  RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, struct.error)


class FeatureSpace(msgspec.Struct, frozen=True, kw_only=True):
    """Whose features vectors are, and which; the content of features.json.

    Attributes:
        model: the network's fingerprint; empty where it is not known.
        feature_kind: which of its features.
        blocks: widths of consecutive groups of numbers that count alike, see `block_scale`; empty for one group.
    """

    model: str = ""
    feature_kind: FeatureKind = "pooled"
    blocks: list[Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]] = []

    def widths(self, length: int) -> list[int]:
        """The blocks of vectors of `length` numbers."""
        return self.blocks or [length]

    def write(self, folder: Path) -> None:
        """Write features.json to `folder`."""
        write_json(folder / SPACE, msgspec.to_builtins(self))

    @classmethod
    def read(cls, folder: Path, length: int | None = None) -> FeatureSpace | None:
        """That of the features in `folder`, of `length` numbers where they are known; None where it says nothing.

        Raises:
            UserError: it cannot be read, or is of features of another length.
        """
        if not os.path.lexists(folder / SPACE):
            return None
        action = "keep the files of one run together, or extract the features again"
        space = read_json(folder / SPACE, cls, expected="whose features they are", action=action)
        if length is not None and sum(space.widths(length)) != length:
            raise UserError(f"{folder / SPACE} of {sum(space.blocks)} numbers for features of {length}",
                            "one of these features", action)
        return space

    def check(self, other: FeatureSpace, found: object, expected: object) -> None:
        """Raise a `UserError` unless features of `other`, those in `found`, can be compared with these, in `expected`.

        What is not known does not count.
        """
        if other.feature_kind != self.feature_kind:
            raise UserError(f"{other.feature_kind} features in {found}", f"{self.feature_kind} ones, as in {expected}",
                            f"take --feature-kind {self.feature_kind}")
        if self.model and other.model and other.model != self.model:
            raise UserError(f"features of another network ({other.model[:8]}…) in {found}",
                            f"those of the network of {expected} ({self.model[:8]}…)", "extract them with one network")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Feature vectors, each with a name.

    Attributes:
        names: one per row; those of our pictures are as `as_text` writes them.
        rows: (N, D) float32; a memory map where one .npy file holds them all.
        files: where the rows were read, in order: each file and its number of rows.
        space: whose features they are; None where no file says it.
    """

    names: Sequence[str]
    rows: np.ndarray
    files: Sequence[tuple[Path, int]] = ()
    space: FeatureSpace | None = None


def write_features(folder: Path, names: Sequence[str], features: np.ndarray, space: FeatureSpace) -> None:
    """Write features.npy, (N, D) float32, image_names.txt, whose lines name its rows, and features.json."""
    write_array(folder / FEATURES, features)
    write_text(folder / NAMES, "".join(f"{name}\n" for name in names))
    space.write(folder)


def read_vectors(paths: Sequence[Path]) -> Vectors:
    """The vectors of files and folders, in the order given; at least one.

    - `.npy`: one vector, called like the file, or a matrix. The lines of image_names.txt beside features.npy, and of
      X.txt beside any other X.npy, name its rows; without such a file they are `X.npy[0]`, `X.npy[1]` and so on.
    - `.npz`: `features`, and `image_names` where there are names.
    - `.json`: a record of one picture or of a folder's, cluster_assignments.json (the centroids), or plain lists;
      `.jsonl`: a record on each line.
    - A folder: its features.npy; without one, all its .npy and .npz files; without any, its .json and .jsonl.

    features.json beside them says whose they are.

    Raises:
        UserError: nothing to read, a file that holds no vectors, other names than rows, numbers that are not finite, or
            vectors of different lengths, networks or kinds.
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
        check_numbers(file, part.rows)
    files = [(file, len(part.rows)) for file, part in parts]
    space = _common_space([file for file, _ in files], expected)
    if len(parts) == 1:
        return replace(parts[0][1], files=files, space=space)
    return Vectors([name for _, part in parts for name in part.names], np.concatenate([part.rows for _, part in parts]),
                   files, space)


def _common_space(files: Sequence[Path], length: int) -> FeatureSpace | None:
    """The space of the vectors in `files`, as far as they say it."""
    told = [(file, space) for file in files if (space := FeatureSpace.read(file.parent, length))]
    for file, space in told:
        told[0][1].check(space, file, told[0][0])
    return told[0][1] if told else None


def check_numbers(file: object, rows: np.ndarray) -> None:
    """Raise a `UserError` if `rows`, (N, D) of `file`, hold NaN, infinity or more than `LARGEST_NUMBER`."""
    for start in range(0, len(rows), BLOCK):
        block = rows[start:start + BLOCK]
        bad = np.flatnonzero(~((block.max(axis=1) <= LARGEST_NUMBER) & (block.min(axis=1) >= -LARGEST_NUMBER)))
        if len(bad):
            raise UserError(f"a number that is not finite, or huge, in row {start + bad[0]} of {file}",
                            f"numbers up to {LARGEST_NUMBER:g}", "extract the features again")


def same_rows(queries: Vectors, references: Vectors) -> Iterator[list[int]]:
    """For each of `queries` the rows of `references` that are not only equal but the same row of the same file."""
    starts: dict[str, list[int]] = defaultdict(list)
    start = 0
    for file, count in references.files:
        starts[os.path.realpath(file)].append(start)
        start += count
    for file, count in queries.files:
        yield from ([start + row for start in starts[os.path.realpath(file)]] for row in range(count))


def missing_pictures(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` that are no file in `folder`.

    Raises:
        UserError: one leaves `folder`, or there is none of them.
    """
    for name in names:
        path = PurePath(from_text(name))
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise UserError(f"the picture {name!r} of the features, which does not lie in {folder}",
                            "names relative to --images-dir", "extract the features again")
    missing = [name for name in names if not named_file(folder, name).is_file()]
    if names and len(missing) == len(names):
        raise UserError(f"no {folder / names[0]}, nor another picture of the features",
                        "the folder that they were extracted from", "check --images-dir")
    return missing


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
    readers = {".npy": _from_npy, ".npz": _from_npz, ".json": _from_json, ".jsonl": _from_lines}
    if file.suffix not in readers:
        raise _malformed(file, "is no file of vectors")
    try:
        return readers[file.suffix](file)
    except _READER_ERRORS as error:
        raise _no_vectors(file, error) from error


def _from_npy(file: Path) -> Vectors:
    values = _map_array(file)
    if values.ndim == 1:
        return Vectors([file.as_posix()], _matrix(values[None]))
    beside = file.with_name(NAMES) if file.name == FEATURES else file.with_suffix(".txt")
    names = split_lines(read_bytes(beside).decode("utf-8-sig")) if os.path.lexists(beside) else None
    return _named(file, values, names)


def _from_npz(file: Path) -> Vectors:
    check_regular_file(file)
    with zipfile.ZipFile(file) as archive:
        names = _unpack(archive, "image_names") if "image_names.npy" in archive.namelist() else None
        if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
            raise ValueError(f"image_names of shape {names.shape}, type {names.dtype}")
        return _named(file, _unpack(archive, "features"), None if names is None else names.tolist())


def _named(file: Path, values: np.ndarray, names: list[str] | None) -> Vectors:
    rows = _matrix(values)
    if names is None:
        names = [f"{file.as_posix()}[{row}]" for row in range(len(rows))]
    if len(names) != len(rows):
        raise UserError(f"{len(names)} names for the {len(rows)} rows of {file}", "one name per row",
                        "keep the two files of one run together")
    return Vectors(names, rows)


def _matrix(values: Any) -> np.ndarray:
    """`values` as (N, D) float32, without a copy where they are that already."""
    array = np.asanyarray(values)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or (len(array) and not 0 < array.shape[1] <= LONGEST):
        raise ValueError(f"shape {array.shape}, type {array.dtype}")
    with np.errstate(over="ignore"):  # `check_numbers` finds the infinities
        return array.astype(np.float32, copy=False)


def _no_vectors(file: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _malformed(file, f"holds no vectors that can be read ({reason[:300]})")


def _malformed(file: Path, problem: str) -> UserError:
    return UserError(f"{file}, which {problem}", f"a {READABLE} file of numbers", "check the path")


# ---- arrays ----------------------------------------------------------------------------------------------------------


def read_matrix(file: Path) -> np.ndarray:
    """The matrix in a .npy file, (N, D) float32; as a memory map if it is float32 there.

    Raises:
        UserError: it cannot be read, holds something else, or see `check_numbers`.
    """
    try:
        rows = _matrix(_map_array(file))
    except _READER_ERRORS as error:
        raise _no_vectors(file, error) from error
    check_numbers(file, rows)
    return rows


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The matrices called `names` in an .npz, each (N, D) float32.

    Raises:
        UserError: it cannot be read, lacks one, or see `check_numbers`.
    """
    try:
        check_regular_file(file)
        with zipfile.ZipFile(file) as archive:
            arrays = {name: _matrix(_unpack(archive, name)) for name in names}
    except _READER_ERRORS as error:
        raise _no_vectors(file, error) from error
    for rows in arrays.values():
        check_numbers(file, rows)
    return arrays


def read_texts(file: Path, names: Sequence[str]) -> dict[str, list[str]]:
    """The texts in the arrays called `names` of an .npz.

    Raises:
        UserError: it cannot be read, or lacks one.
    """
    return {name: array.tolist() for name, array in _read_lists(file, names, "U").items()}


def read_counts(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The whole numbers in the arrays called `names` of an .npz, (N,) each; raises a `UserError` as `read_texts`."""
    return _read_lists(file, names, "iu")


def _read_lists(file: Path, names: Sequence[str], kinds: str) -> dict[str, np.ndarray]:
    try:
        check_regular_file(file)
        with zipfile.ZipFile(file) as archive:
            arrays = {name: _unpack(archive, name) for name in names}
        if odd := [name for name, array in arrays.items() if array.ndim != 1 or array.dtype.kind not in kinds]:
            raise ValueError(f"{odd[0]} of shape {arrays[odd[0]].shape}, type {arrays[odd[0]].dtype}")
    except _READER_ERRORS as error:
        raise _no_vectors(file, error) from error
    return arrays


def _map_array(path: Path) -> np.ndarray:
    """The array in a .npy file as a memory map."""
    size = check_regular_file(path)
    with open(path, "rb") as file:
        start, shape, by_column, dtype = _read_header(file, size)
    return np.memmap(path, dtype, "r", start, shape, "F" if by_column else "C")


def _unpack(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array of an .npz, in memory."""
    member = archive.getinfo(f"{name}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # NumPy writes no other
        raise ValueError(f"{name} is packed in another way than NumPy packs it")
    if member.file_size > max(MOST_UNPACKED, MOST_PACKED * member.compress_size):
        raise ValueError(f"{name} unpacks to {member.file_size >> 20} MiB")
    with archive.open(member) as file:
        _read_header(file, member.file_size)
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _read_header(file: IO[bytes], size: int) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """Of an open .npy file of `size` bytes: where its data start, their shape, whether by columns, and their type."""
    head = io.BytesIO(file.read(MOST_HEADER))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):  # the third is for names in other scripts, which no plain array has
        raise ValueError(f"version {version} of .npy")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_column, dtype = read(head)
    if dtype.kind not in "fiuU" or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}, type {dtype}")
    found, declared = size - head.tell(), math.prod(map(int, shape)) * dtype.itemsize
    if found != declared:
        raise ValueError(f"{found} bytes for shape {shape}, type {dtype}")
    return head.tell(), shape, by_column, dtype


# ---- JSON ------------------------------------------------------------------------------------------------------------


class _Record(msgspec.Struct):
    """One picture's record; other keys are passed over."""

    features: list[float] | None = None


class _Line(_Record, kw_only=True):
    image: str


class _Centroid(msgspec.Struct):
    cluster_id: int
    centroid: list[float]


def _from_lines(file: Path) -> Vectors:
    lines = [parse_json(line, _Line) for line in read_lines(file) if line.strip()]
    return _of_pairs([(line.image, line.features) for line in lines if line.features is not None])


def _from_json(file: Path) -> Vectors:
    content = parse_json(read_bytes(file, MOST_JSON), list[Any] | dict[str, Any])
    return _of_pairs(list(_vectors_in(content, file.as_posix())))


def _vectors_in(content: list[Any] | dict[str, Any], file: str) -> Iterator[tuple[str, list[float]]]:
    if isinstance(content, dict) and "features" in content:
        content = msgspec.convert(content["features"], list[float])
    if isinstance(content, list):
        if content and isinstance(content[0], list):
            rows = msgspec.convert(content, list[list[float]])
            yield from ((f"{file}[{row}]", vector) for row, vector in enumerate(rows))
        else:
            yield file, msgspec.convert(content, list[float])
    elif "clusters" in content:
        clusters = msgspec.convert(content["clusters"], list[_Centroid])
        yield from ((f"cluster {each.cluster_id}", each.centroid) for each in clusters)
    else:
        records = msgspec.convert(content, dict[str, _Record])
        yield from ((name, record.features) for name, record in records.items() if record.features is not None)


def _of_pairs(pairs: Sequence[tuple[str, list[float]]]) -> Vectors:
    return Vectors([name for name, _ in pairs], _matrix([vector for _, vector in pairs] or np.empty((0, 0))))
