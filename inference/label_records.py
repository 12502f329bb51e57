"""What a network of several labels says of each picture: confidences and shares, as JSON, JSON lines or CSV."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from data.csv_files import write_rows
from data.images import IMAGE_EXTENSIONS
from evaluation.thresholds import read_thresholds
from inference.predictor import Failure, Result
from utils import UserError, text_stream

Format = Literal["json", "jsonl", "csv"]
Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LabelChoice:
    """Which labels of a picture are told, and with what.

    Attributes:
        top_k: labels at most of those above their threshold, the most confident first.
        thresholds: least confidence of each label, (labels,) float64.
        ratio: shares of the labels that are told: of all labels, of those that are told, or none.
        raw: tell the confidences of all labels, too, in the order of their ids.
    """

    top_k: int
    thresholds: torch.Tensor
    ratio: Literal["all", "kept"] | None
    raw: bool


def choose_thresholds(text: str, classes: Sequence[str]) -> torch.Tensor:
    """The least confidence of each of `classes`, (labels,) float64: a number for all, or those of a thresholds.csv.

    Raises:
        UserError: neither a number from 0 to 1 nor a thresholds.csv of these classes.
    """
    if text.lower().endswith(".csv"):
        return torch.tensor(read_thresholds(text, classes), dtype=torch.float64)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"--threshold {text}", "a number from 0 to 1, or a thresholds.csv", "correct it")
    return torch.full((len(classes),), value, dtype=torch.float64)


def choose_format(output: Path, asked: Format | None) -> Format:
    """What was asked for, else what the ending of `output` says, else JSON.

    Raises:
        UserError: `output` is a folder or a picture.
    """
    if output.is_dir() or output.suffix.lower() in IMAGE_EXTENSIONS:
        raise UserError(f"the output {output}", "a file for the results", "name one, such as results.json")
    ending = output.suffix.lower().removeprefix(".")
    return asked or (ending if ending in get_args(Format) else "json")


def label_record(answer: Result | Failure, choice: LabelChoice) -> Record:
    """The record of one picture: `image`, and `labels` or `error`.

    A label's `confidence` is the sigmoid p of its output, the probability that the artist's hand is in the picture; its
    `ratio` is p / sum(p) over all labels, or over those told.
    """
    image = answer.path.as_posix()
    if isinstance(answer, Failure):
        return {"image": image, "error": answer.reason}
    confidences = answer.logits.double().sigmoid()
    told = confidences.where(confidences >= choice.thresholds, -1.0)
    best, ids = told.topk(min(choice.top_k, int((told >= 0).sum())))
    shares = best / (confidences if choice.ratio == "all" else best).sum()
    labels = [{"class_id": label, "label": answer.classes[label], "confidence": confidence} |
              ({"ratio": share} if choice.ratio else {})
              for label, confidence, share in zip(ids.tolist(), best.tolist(), shares.tolist(), strict=True)]
    return {"image": image, "labels": labels} | ({"raw_confidence": confidences.tolist()} if choice.raw else {})


def write_label_records(records: Iterable[Record], output: Path, style: Format) -> None:
    """Write the records as they come: a JSON list, JSON lines, or a CSV row for each label told.

    In CSV a picture without labels has one row, a failure one with `error`.
    """
    if style == "csv":
        write_rows(output, _rows(records))
        return
    start, between, end = ("[\n", ",\n", "\n]\n") if style == "json" else ("", "\n", "\n")
    with text_stream(output) as file:
        for number, record in enumerate(records):
            file.write((between if number else start) + json.dumps(record, ensure_ascii=False, allow_nan=False))
        file.write(end)


def _rows(records: Iterable[Record]) -> Iterator[Sequence[object]]:
    columns = ("image", "class_id", "label", "confidence", "ratio", "error")
    yield columns
    for record in records:
        for label in record.get("labels") or [{}]:
            row = {**record, **label}
            yield [row.get(column, "") for column in columns]
