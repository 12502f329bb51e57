"""Records: what inference says of each picture as plain Python, and the files that hold them.

The files of a folder are written while its journals are read, so memory does not grow with the number of pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, get_args

import numpy as np
import torch

from data.csv_files import write_rows
from data.names import as_text, fit_file_name
from data.output_folder import replace_together
from data.picture_files import PictureFolder
from data.side_files import parse_json, read_lines
from inference.journal import Entry, Journal, Record
from inference.modes import InferenceRequest, Mode
from inference.predictor import Failure, Prediction, Predictor
from inference.tally import KnownArtists, Tally
from runtime.options import InferenceOptions, ResultFormat, ResultOptions
from runtime.progress import progress
from search.gallery_search import Search, format_matches
from search.vectors import FEATURES, NAMES, SPACE, Vectors
from utils import EXIT_DONE, EXIT_PARTIAL, atomic_path, counted, text_stream, write_json

RESULTS, SHEET, NEIGHBOURS_SHEET = "batch_results.json", "contact_sheet.png", "neighbours.png"
SOURCES = ".result_sources.jsonl"  # which picture each <stem>_result file is of


def make_entries(answers: Iterable[Prediction | Failure], folder: Path, request: InferenceRequest, *,
                 batch_size: int = 1) -> Iterator[Entry]:
    """Each picture's path below `folder`, `as_text`, and its record, or one with `error`.

    A gallery is searched for `batch_size` pictures at a time.
    """
    answers = iter(answers)
    while batch := list(itertools.islice(answers, batch_size)):
        predictions = [answer for answer in batch if isinstance(answer, Prediction)]
        if request.search and predictions:
            records = _find(request.search, predictions, request)
        else:
            records = (make_record(prediction, request) for prediction in predictions)
        for answer in batch:
            record = {"error": answer.reason} if isinstance(answer, Failure) else next(records)
            yield as_text(answer.path, below=folder), record


def _find(search: Search, predictions: Sequence[Prediction], request: InferenceRequest) -> Iterator[Record]:
    """The record of each prediction in mode search."""
    features = torch.stack([prediction.features for prediction in predictions]).numpy()
    matches = search.find(features, request.top_k)
    if request.verdicts is None:
        return iter(matches)
    verdicts = request.verdicts.tell(matches, features)
    return ({**match, "verdict": verdict} for match, verdict in zip(matches, verdicts, strict=True))


def make_record(prediction: Prediction, request: InferenceRequest) -> Record:
    """The record of a prediction in every mode but search: artists, features, or both."""
    record: Record = {}
    if request.mode.names_artists:
        record["classification"] = prediction.top(request.top_k, request.threshold)
        if request.calibration:
            probabilities = request.calibration.probabilities(prediction.logits)
            for entry in record["classification"]:
                entry["calibrated_probability"] = probabilities[entry["class_id"]].item()
            record["verdict"] = request.calibration.verdict(probabilities.max().item(), prediction.score)
    if request.mode.writes_features:
        record["features"] = prediction.features.tolist()
        if request.space and request.space.feature_kind != "pooled":
            record["feature_kind"] = request.space.feature_kind
    return record


def extract_features(answers: Iterable[Prediction | Failure], folder: Path) -> tuple[Vectors, list[Failure]]:
    """The features, named by path relative to `folder`, in order; and the files that could not be read."""
    names: list[str] = []
    rows: list[np.ndarray] = []
    failures: list[Failure] = []
    for answer in answers:
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            names.append(as_text(answer.path, below=folder))
            rows.append(answer.features.numpy())
    return Vectors(names, np.stack(rows) if rows else np.empty((0, 0), np.float32)), failures


def extract_folder(predictor: Predictor, found: PictureFolder,
                   options: InferenceOptions) -> tuple[Vectors, list[tuple[Path, str]]]:
    """The features of a folder's pictures, as `extract_features`; and the pictures and folders that are unreadable.

    Prints what is passed over.
    """
    for line in found.report():
        print(line)
    answers = progress(predictor.predict(found.images, options), len(found.images))
    vectors, failures = extract_features(answers, found.root)
    return replace(vectors, space=predictor.space), [*failures, *found.unreadable]


# ---- printed ---------------------------------------------------------------------------------------------------------


def format_record(record: Record) -> list[str]:
    """The lines that are printed for a single picture."""
    lines = []
    for entry in record.get("classification", ()):
        calibrated = f" (calibrated {entry['calibrated_probability']:.2%})" if "calibrated_probability" in entry else ""
        lines.append(f"{entry['probability']:7.2%}  {entry['class_name']}{calibrated}")
    if "pictures" in record:
        lines += format_matches(record)
    if "verdict" in record:
        lines.append(f"verdict: {record['verdict']}")
    return lines


def print_failures(failures: Iterable[tuple[Path | str, str]]) -> None:
    """Print files that could not be read, or names as records have them, and the reasons, to stderr."""
    for path, reason in failures:
        print(f"not read: {path if isinstance(path, str) else as_text(str(path))} ({reason})", file=sys.stderr)


def print_outcome(pictures: int, failures: Sequence[tuple[Path | str, str]], output: Path, how: str = "",
                  folders: Sequence[tuple[Path, str]] = ()) -> int:
    """Print the failures, of pictures and of whole folders, and the last line of a command; returns its exit code."""
    print_failures([*failures, *folders])
    print(f"{pictures - len(failures)} of {counted(pictures, 'picture')}{how}; results are in {output}")
    return EXIT_PARTIAL if failures or folders else EXIT_DONE


# ---- files -----------------------------------------------------------------------------------------------------------


@dataclass
class Summary:
    """What must be known of all records before the first line is written.

    Attributes:
        pictures: number of records.
        failures: name and reason of pictures that could not be read.
        rows: number of records with features.
        length: of a feature vector.
        longest_name: letters of the longest name of a row, at least 1.
        columns: of the CSV file, in order.
        tally: counts of artists and verdicts.
    """

    pictures: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    rows: int = 0
    length: int = 0
    longest_name: int = 1
    columns: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def of(cls, journals: Sequence[Journal], known: KnownArtists | None = None) -> Summary:
        """Read the journals once, without their features."""
        summary, columns = cls(), {"image": None}
        for name, record, length in itertools.chain.from_iterable(journal.lines() for journal in journals):
            summary.pictures += 1
            if "error" in record:
                summary.failures.append((name, record["error"]))
            if length:
                summary.rows, summary.length = summary.rows + 1, length
                summary.longest_name = max(summary.longest_name, len(name))
            columns |= dict.fromkeys(_flatten(record))
            summary.tally.add(record, known.find(name) if known else None)
        summary.columns = sorted(columns, key=_rank)
        return summary


def write_results(journals: Sequence[Journal], output: Path, files: ResultOptions, mode: Mode,
                  known: KnownArtists | None = None) -> Summary:
    """Write the result files of a run in `mode` to the folder `output`, from the journals of its parts in order.

    They are batch_results.json, .jsonl or .csv, and for features features.npy with image_names.txt, or features.npz.
    """
    summary = Summary.of(journals, known)
    if mode.writes_features:
        array = Path(FEATURES).with_suffix(f".{files.features_format}").name
        write_features, names = {"npz": (_write_npz, ()), "npy": (_write_npy, (NAMES,))}[files.features_format]
        with replace_together(output, (array, SPACE, *names)) as building:
            write_features(journals, building, summary)
            journals[0].space.write(building)
    entries = itertools.chain.from_iterable(journal.entries() for journal in journals)
    _write_records(entries, (output / RESULTS).with_suffix(f".{files.format}"), files.format, summary.columns)
    return summary


def write_single(picture: Path, record: Record, output: Path, files: ResultOptions) -> Path:
    """Write the record of one picture to a file in `output`, called as `_name_single` says; returns its path.

    In JSON it is the record alone, without the name of the picture.
    """
    output.mkdir(parents=True, exist_ok=True)
    path = output / _name_single(picture, output, f"_result.{files.format}")
    with open(output / SOURCES, "a", encoding="ascii") as sources:
        sources.write(json.dumps([path.name, os.path.abspath(picture)]) + "\n")
    if files.format == "json":
        write_json(path, record)
    else:
        _write_records([(as_text(picture.name), record)], path, files.format, ["image", *_flatten(record)])
    return path


def _name_single(picture: Path, output: Path, ending: str) -> str:
    """`<stem>_result.json`, or `<name>_result.json` where that file is another picture's, or the latter with a digest.

    A picture gets its own file again. Names that the file system cannot have are shortened.
    """
    own = os.path.abspath(picture)
    digest = hashlib.blake2b(os.fsencode(own), digest_size=4).hexdigest()
    names = [fit_file_name(start, ending, output) for start in (picture.stem, picture.name, f"{picture.name}-{digest}")]
    sources = _read_sources(output)
    there = [name for name in names if (output / name).exists()]
    mine = [name for name in there if sources.get(name) == own]
    unknown = [name for name in names[:1] if name not in sources]  # written before sources were
    free = [name for name in names if name not in there]
    return [*mine, *unknown, *free, names[-1]][0]


def _read_sources(output: Path) -> dict[str, str]:
    """Name of a single picture's result → the picture, absolute; later lines count. A line that a kill cut is none."""
    sources: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in read_lines(output / SOURCES):
            with contextlib.suppress(ValueError):
                name, picture = parse_json(line, tuple[str, str])
                sources[name] = picture
    return sources


def find_earlier_results(output: Path, started: float) -> list[str]:
    """Names of result files in `output` that are older than the time `started`: an earlier run wrote them."""
    names = [Path(RESULTS).with_suffix(f".{kind}").name for kind in get_args(ResultFormat)]
    names += [FEATURES, Path(FEATURES).with_suffix(".npz").name, NAMES, SHEET, NEIGHBOURS_SHEET]
    return [name for name in names if (output / name).is_file() and (output / name).stat().st_mtime < started]


def _write_records(entries: Iterable[Entry], path: Path, kind: ResultFormat, columns: Sequence[str]) -> None:
    if kind == "csv":
        cells = ({"image": name, **_flatten(record)} for name, record in entries)
        write_rows(path, itertools.chain([columns], ([row.get(column, "") for column in columns] for row in cells)))
        return
    with text_stream(path) as file:
        if kind == "json":
            file.writelines(_format_json(entries))
        else:
            file.writelines(json.dumps({"image": name, **record}, ensure_ascii=False, allow_nan=False) + "\n"
                            for name, record in entries)


def _format_json(entries: Iterable[Entry]) -> Iterator[str]:
    """The pieces of one JSON object, as `json.dumps` with indent 2 would write it whole."""
    start = "{\n"
    for name, record in entries:
        text = json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False).replace("\n", "\n  ")
        yield f"{start}  {json.dumps(name, ensure_ascii=False)}: {text}"
        start = ",\n"
    yield "{}\n" if start == "{\n" else "\n}\n"


def _flatten(record: Record) -> Record:
    """The values of a record without its features, named by their path in the JSON: `classification.1.class_name`."""
    cells: Record = {}
    for key, value in record.items():
        if isinstance(value, list):
            cells |= {f"{key}.{rank}.{name}": each for rank, entry in enumerate(value, 1) if isinstance(entry, dict)
                      for name, each in entry.items()}
        else:
            cells[key] = value
    return cells


def _rank(column: str) -> int:
    return int(column.split(".")[1]) if "." in column else 0


def _write_npy(journals: Sequence[Journal], output: Path, summary: Summary) -> None:
    with atomic_path(output / FEATURES) as partial, open(partial, "wb") as file:
        _write_rows(journals, summary, file)
    with text_stream(output / NAMES) as lines:
        lines.writelines(f"{name}\n" for name in _row_names(journals))


def _write_npz(journals: Sequence[Journal], output: Path, summary: Summary) -> None:
    with (atomic_path((output / FEATURES).with_suffix(".npz")) as partial,
          zipfile.ZipFile(partial, "w", allowZip64=True) as archive):
        with archive.open("features.npy", "w", force_zip64=True) as file:
            _write_rows(journals, summary, file)
        with archive.open("image_names.npy", "w", force_zip64=True) as file:
            _write_header(file, f"<U{summary.longest_name}", (summary.rows,))
            for name in _row_names(journals):
                file.write(name.encode("utf-32-le").ljust(4 * summary.longest_name, b"\0"))


def _write_rows(journals: Sequence[Journal], summary: Summary, file: IO[bytes]) -> None:
    _write_header(file, "<f4", (summary.rows, summary.length))
    for journal in journals:
        journal.copy_features(file)


def _write_header(file: IO[bytes], dtype: str, shape: tuple[int, ...]) -> None:
    """The head of a .npy file, for values that follow one by one."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _row_names(journals: Sequence[Journal]) -> Iterator[str]:
    return (name for journal in journals for name, _, length in journal.lines() if length)
