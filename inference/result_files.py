"""The results of a folder as files: records as JSON, JSON lines or CSV, features as .npy or .npz.

Everything is written as it is read from the journals of a run, so memory does not grow with the number of pictures.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from inference.journal import Entry, Journal
from inference.records import FOLDER_RESULTS, name_line
from runtime.options import ResultOptions
from search.vectors import FEATURES, NAMES
from utils import atomic_path, write_json

SHEET = "contact_sheet.png"


@dataclass
class Overview:
    """What must be known before the first line is written.

    Attributes:
        pictures: how many answers there are.
        failures: name and reason of those that could not be read.
        rows: how many have features, each of `length` numbers.
        longest: letters of the longest of their names.
        columns: of the CSV file, in its order.
    """

    pictures: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    rows: int = 0
    length: int = 0
    longest: int = 1
    columns: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, journals: Sequence[Journal]) -> Overview:
        """Read the journals once, features aside."""
        found, columns = cls(), {"image": None}
        for name, record, length in itertools.chain.from_iterable(journal.lines() for journal in journals):
            found.pictures += 1
            if "error" in record:
                found.failures.append((name, record["error"]))
            if length:
                found.rows, found.length = found.rows + 1, length
                found.longest = max(found.longest, len(name))
            columns |= dict.fromkeys(flat(record))
        found.columns = sorted(columns, key=_rank)
        return found


def write_results(journals: Sequence[Journal], output: Path, files: ResultOptions, *, has_features: bool) -> Overview:
    """Write batch_results.json, .jsonl or .csv and, with `has_features`, features.npy and image_names.txt, or .npz.

    Args:
        journals: of the parts of one run, in order.
        output: folder for the files.
        files: their formats.
        has_features: whether the run extracted features, even if no picture could be read.
    """
    found = Overview.of(journals)
    if has_features:
        _write_features(journals, output, found, files.features_format)
    path = (output / FOLDER_RESULTS).with_suffix(f".{files.format}")
    with _open_text(path) as file:
        write_records(itertools.chain.from_iterable(journal.entries() for journal in journals), file,
                      kind=files.format, columns=found.columns)
    return found


def left_behind(output: Path, started: float) -> list[str]:
    """Result files of an earlier run in `output`, which this run, begun at the time `started`, left there."""
    names = (*(Path(FOLDER_RESULTS).with_suffix(f".{kind}").name for kind in ("json", "jsonl", "csv")), FEATURES,
             Path(FEATURES).with_suffix(".npz").name, NAMES, SHEET)
    return [name for name in names if (output / name).is_file() and (output / name).stat().st_mtime < started]


def write_single(name: str, record: dict[str, Any], output: Path, files: ResultOptions) -> Path:
    """Write the record of one picture to `<stem>_result.json`, .jsonl or .csv in `output`; the path written.

    In JSON it is the record alone, without the name of the picture.
    """
    path = output / f"{Path(name).stem}_result.{files.format}"
    if files.format == "json":
        write_json(path, record)
        return path
    with _open_text(path) as file:
        write_records([(name, record)], file, kind=files.format, columns=["image", *flat(record)])
    return path


def write_records(entries: Iterable[Entry], file: TextIO, *, kind: str, columns: Sequence[str] = ()) -> None:
    """Write entries to an open file as json, jsonl or csv; `columns` are those of a CSV file."""
    if kind == "json":
        file.writelines(_json(entries))
    elif kind == "jsonl":
        file.writelines(json.dumps({"image": name, **record}, ensure_ascii=False, allow_nan=False) + "\n"
                        for name, record in entries)
    else:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows({"image": name, **flat(record)} for name, record in entries)


@contextlib.contextmanager
def _open_text(path: Path) -> Iterator[TextIO]:
    with atomic_path(path) as partial, open(partial, "w", encoding="utf-8", errors="backslashreplace",
                                            newline="\n") as file:
        yield file


def _json(entries: Iterable[Entry]) -> Iterator[str]:
    start = "{\n"
    for name, record in entries:
        text = json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False).replace("\n", "\n  ")
        yield f"{start}  {json.dumps(name, ensure_ascii=False)}: {text}"
        start = ",\n"
    yield "{}\n" if start == "{\n" else "\n}\n"


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """The values of a record without its features, under their way in the JSON, as in `classification.1.class_name`."""
    cells: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, list):
            cells |= {f"{key}.{rank}.{name}": each for rank, entry in enumerate(value, 1) if isinstance(entry, dict)
                      for name, each in entry.items()}
        else:
            cells[key] = value
    return cells


def _rank(column: str) -> int:
    rank = re.search(r"\.(\d+)\.", column)
    return int(rank[1]) if rank else 0


def _write_features(journals: Sequence[Journal], output: Path, found: Overview, kind: str) -> None:
    if kind == "npz":
        with (atomic_path((output / FEATURES).with_suffix(".npz")) as partial,
              zipfile.ZipFile(partial, "w", allowZip64=True) as archive):
            with archive.open("features.npy", "w", force_zip64=True) as file:
                _write_rows(journals, found, file)
            with archive.open("image_names.npy", "w", force_zip64=True) as file:
                _write_header(file, f"<U{found.longest}", (found.rows,))
                for name in _names(journals):
                    file.write(name.encode("utf-32-le", "surrogatepass").ljust(4 * found.longest, b"\0"))
        return
    with atomic_path(output / FEATURES) as partial, open(partial, "wb") as file:
        _write_rows(journals, found, file)
    with _open_text(output / NAMES) as file:
        file.writelines(map(name_line, _names(journals)))


def _write_rows(journals: Sequence[Journal], found: Overview, file: BinaryIO) -> None:
    _write_header(file, "<f4", (found.rows, found.length))
    for journal in journals:
        journal.copy_features(file)


def _write_header(file: BinaryIO, descr: str, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})


def _names(journals: Sequence[Journal]) -> Iterator[str]:
    return (name for journal in journals for name, _, length in journal.lines() if length)
