"""Records of networks with several labels per picture: confidences and shares, as JSON, JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from data.csv_files import write_rows
from data.images import IMAGE_EXTENSIONS
from data.names import as_text
from evaluation.thresholds import THRESHOLDS, read_thresholds
from inference.journal import Record
from inference.predictor import Failure, Prediction
from runtime.options import ResultFormat
from utils import UserError, text_stream

COLUMNS = ("image", "class_id", "label", "confidence", "ratio", "error")


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Which labels of a picture are listed, and with which numbers.

    Attributes:
        top_k: how many at most: the most confident of those above their threshold.
        thresholds: least confidence of each label, (labels,) float64.
        ratio: the labels whose ratios add up to 1: all, or those listed (kept); None for no ratios.
        raw: list the confidences of all labels, too, in the order of their ids, and their names.
    """

    top_k: int
    thresholds: torch.Tensor
    ratio: Literal["all", "kept"] | None
    raw: bool


def parse_thresholds(text: str, classes: Sequence[str], checkpoint: Path) -> torch.Tensor:
    """The least confidence of each of `classes`, (labels,) float64: a number for all, or those of a thresholds.csv.

    `trained` is the one beside the file `checkpoint`.

    Raises:
        UserError: neither a number from 0 to 1 nor a thresholds.csv of these classes.
    """
    if text == "trained":
        text = str(checkpoint.with_name(THRESHOLDS))
    if text.lower().endswith(".csv"):
        return torch.tensor(read_thresholds(text, classes), dtype=torch.float64)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"--threshold {text}", "a number from 0 to 1, a thresholds.csv, or trained", "correct it")
    return torch.full((len(classes),), value, dtype=torch.float64)


def choose_format(output: Path, requested: ResultFormat | None) -> ResultFormat:
    """The requested format, else that of the extension of `output`, else JSON.

    Raises:
        UserError: `output` is a folder or a picture.
    """
    if output.is_dir() or output.suffix.lower() in IMAGE_EXTENSIONS:
        raise UserError(f"the output {output}", "a file for the results", "name one, such as results.json")
    extension = output.suffix.lower().removeprefix(".")
    if requested:
        return requested
    return next((name for name in get_args(ResultFormat) if name == extension), "json")


def make_label_record(answer: Prediction | Failure, choice: LabelChoice) -> Record:
    """The record of one picture: `image`, and `labels` or `error`.

    A label's `confidence` is the sigmoid p of its output: the probability that the artist contributed to the picture.
    Its `ratio` is p / sum(p) over all labels, or over those listed.
    """
    image = as_text(answer.path.as_posix())
    if isinstance(answer, Failure):
        return {"image": image, "error": answer.reason}
    logits = answer.logits.double()
    confidences = logits.sigmoid()
    kept = confidences.where(confidences >= choice.thresholds, -1.0)
    best, ids = kept.topk(min(choice.top_k, int((kept >= 0).sum())))
    log_p = F.logsigmoid(logits)  # its p may all be too small for a number above 0
    shares = (log_p[ids] - (log_p if choice.ratio == "all" else log_p[ids]).logsumexp(0)).exp()
    labels = [{"class_id": label, "label": answer.classes[label], "confidence": confidence} |
              ({"ratio": share} if choice.ratio else {})
              for label, confidence, share in zip(ids.tolist(), best.tolist(), shares.tolist(), strict=True)]
    raw = {"raw_confidence": confidences.tolist(), "raw_labels": [*answer.classes]} if choice.raw else {}
    return {"image": image, "labels": labels, **raw}


def format_labels(record: Record) -> list[str]:
    """The lines that are printed for a single picture."""
    return [f"{label['confidence']:7.2%}" + (f"  {label['ratio']:7.2%}" if "ratio" in label else "") +
            f"  {label['label']}" for label in record.get("labels", ())]


def make_label_records(answers: Iterable[Prediction | Failure],
                       choice: LabelChoice) -> Iterator[tuple[Path, Record]]:
    """Each picture and its record."""
    return ((answer.path, make_label_record(answer, choice)) for answer in answers)


def name_labels(entries: Iterable[tuple[Path, Record]]) -> Iterator[tuple[Path, list[str]]]:
    """Each picture that could be read, and its labels, the most confident first."""
    return ((path, [label["label"] for label in record["labels"]]) for path, record in entries if "labels" in record)


def write_label_records(entries: Iterable[tuple[Path, Record]], output: Path,
                        style: ResultFormat) -> list[tuple[Path, str]]:
    """Write the records of pictures as they come, and return those that could not be read, and why.

    The file is a JSON list, JSON lines, or CSV with a row for each label listed; a picture without labels has one row.
    """
    failures: list[tuple[Path, str]] = []

    def make_records() -> Iterator[Record]:
        for path, record in entries:
            if "error" in record:
                failures.append((path, record["error"]))
            yield record

    if style == "csv":
        write_rows(output, _make_rows(make_records()))
        return failures
    start, between, end = ("[\n", ",\n", "\n]\n") if style == "json" else ("", "\n", "\n")
    with text_stream(output) as file:
        for number, record in enumerate(make_records()):
            file.write((between if number else start) + json.dumps(record, ensure_ascii=False, allow_nan=False))
        file.write(end)
    return failures


def _make_rows(records: Iterable[Record]) -> Iterator[Sequence[object]]:
    yield COLUMNS
    for record in records:
        for label in record.get("labels") or [{}]:
            row = {**record, **label}
            yield [row.get(column, "") for column in COLUMNS]
