"""The grammar of weighted labels, and annotation files: CSV with the columns image_path, labels.

A delimiter separates labels (a comma unless the user names another). Spaces around labels do not count. A label that is
given twice has the sum of both weights. `(label:number)` is `label` with that weight; any other text is a label of
weight 1, whatever colons and parentheses it holds. So `(re:zero:1.4)` is `re:zero` with 1.4, while `a:0.6`, `:)`,
`(o)_(o)` and `user:2024` are labels as they stand. A label that looks like a weighted one, `(a:2)`, is written
`((a:2):1)`. A label cannot hold the delimiter, and there is no quoting, because people get a second escape inside a CSV
cell wrong; they name a delimiter that no label holds.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.csv_files import malformed, read_rows, write_rows
from data.names import line_problem, nfc
from utils import UserError

DEFAULT_DELIMITER = ","
COLUMNS = ("image_path", "labels")
Labels = Mapping[str, float]  # label → weight, in order of first mention

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE)
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-30, 1e30  # float32 can hold them, their sums and their shares


class Annotation(NamedTuple):
    """One picture and its labels; `path` as the CSV file spells it."""

    path: str
    labels: Labels


@dataclass(frozen=True, kw_only=True)
class AnnotationRules:
    """How annotations are read.

    Attributes:
        root: the folder that relative paths start from.
        delimiter: separates labels.
        allow_outside: relative paths may leave `root`.
        skip_invalid: rows with an error are left out instead of refused.
    """

    root: Path
    delimiter: str = DEFAULT_DELIMITER
    allow_outside: bool = False
    skip_invalid: bool = False


# ---- the grammar -----------------------------------------------------------------------------------------------------


def parse_labels(text: str, delimiter: str = DEFAULT_DELIMITER) -> dict[str, float]:
    """Label → weight of a text such as `(re:zero:1.4),artist_C`; labels come out in Unicode's NFC.

    `parse_labels(format_labels(labels))` is `labels`.

    Raises:
        UserError: no label, an empty one, one that no line can hold, or a weight that is not a positive number.
    """
    check_delimiter(delimiter)
    weights: dict[str, float] = {}
    for entry in text.split(delimiter):
        label, weight = _parse_entry(entry.strip())
        label = nfc(label)
        _check_label(label, delimiter)
        weights[label] = _checked_weight(weights.get(label, 0.0) + _checked_weight(weight, entry), entry)
    return weights


def format_labels(labels: Labels, delimiter: str = DEFAULT_DELIMITER) -> str:
    """The text that `parse_labels` reads as `labels`; weights of 1 are omitted where possible.

    Raises:
        UserError: a label holds the delimiter, or cannot be a label.
    """
    check_delimiter(delimiter)
    for label in labels:
        _check_label(label, delimiter)
    return delimiter.join(label if weight == 1 and _parse_entry(label) == (label, 1.0) else
                          f"({label}:{repr(float(weight)).removesuffix('.0')})" for label, weight in labels.items())


def check_delimiter(delimiter: str) -> None:
    """Refuse a delimiter that weighted labels may hold.

    Raises:
        UserError: it is empty, or holds a letter, a digit, white space other than a tab, or one of ().:+-.
    """
    if not delimiter or any(sign.isalnum() or (sign.isspace() and sign != "\t") or sign in "().:+-"
                            for sign in delimiter):
        raise UserError(f"the delimiter {delimiter!r}", "signs such as , ; | or a tab; no letters, digits, spaces or "
                        "().:+-, which labels and weights need", "name another --label-delimiter")


def _parse_entry(entry: str) -> tuple[str, float]:
    if entry.startswith("(") and entry.endswith(")"):
        label, colon, number = entry[1:-1].rpartition(":")
        if colon and _NUMBER.fullmatch(number.strip()):
            return label.strip(), float(number)
    return entry, 1.0


def _check_label(label: str, delimiter: str) -> None:
    if not label.strip():
        raise UserError("an empty label", "a name between two delimiters", "write it, or remove a delimiter")
    if delimiter in label:
        raise UserError(f"the label {label!r}, which holds the delimiter {delimiter!r}", "a delimiter that no label "
                        "holds", "name another --label-delimiter")
    if line_problem(label):
        raise UserError(f"the label {label!r}, which holds a control character", "a name on one line", "rename it")


def _checked_weight(weight: float, entry: str) -> float:
    if not (math.isfinite(weight) and _LEAST_WEIGHT <= weight <= _MOST_WEIGHT):
        raise UserError(f"the weight {weight:g} of {entry.strip()!r}", "a number above 0",
                        "correct it, or add a weight of its own if this is a label: ((a:0):1)")
    return weight


# ---- the files -------------------------------------------------------------------------------------------------------


def read_annotations(path: str | os.PathLike[str], rules: AnnotationRules) -> tuple[list[Annotation], list[str]]:
    """The pictures of a CSV file in its order, and the errors of the rows that `rules.skip_invalid` left out.

    Columns other than image_path and labels are ignored. A row with one bad label is left out as a whole: the rest of
    its labels would teach that the bad one is absent.

    Raises:
        UserError: the file is missing or no such CSV, holds no picture, or has an error that must not be skipped.
    """
    rows = read_rows(path, COLUMNS)
    line, header = next(rows)
    header = [cell.strip() for cell in header]
    if any(header.count(column) != 1 for column in COLUMNS):
        raise malformed(path, line, f"the header {','.join(header)!r}", f"the columns {','.join(COLUMNS)}, each once")
    annotations, invalid = [], []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            annotations.append(_read_row(row, header, rules, seen, line))
        except UserError as error:
            with_line = UserError(f"{error.found} in {path}, line {line}", error.expected, error.action)
            if not rules.skip_invalid:
                raise with_line from error
            invalid.append(str(with_line))
    if not annotations:
        raise malformed(path, line, "no picture", "one row per picture")
    return annotations, invalid


def _read_row(row: list[str], header: list[str], rules: AnnotationRules, seen: dict[str, int], line: int) -> Annotation:
    if len(row) != len(header):
        raise UserError(f"{len(row)} cell(s)", f"{len(header)}: {','.join(header)}",
                        f"put labels between quotes: \"artist_A{rules.delimiter}artist_B\"")
    path, text = (row[header.index(column)] for column in COLUMNS)
    key = _normalise_path(path, rules)
    labels = parse_labels(text, rules.delimiter)
    if seen.setdefault(key, line) != line:
        raise UserError(f"the picture {path!r} of line {seen[key]} again", "one row per picture",
                        "join their labels in one row")
    return Annotation(path, labels)


def _normalise_path(path: str, rules: AnnotationRules) -> str:
    """The picture's absolute path, the same for all spellings; nothing is opened."""
    if not path.strip() or line_problem(path):
        raise UserError(f"the image_path {path!r}", "the path of a picture", "correct it")
    root, file = Path(os.path.abspath(rules.root)), Path(os.path.abspath(rules.root / path))
    if not (Path(path).is_absolute() or rules.allow_outside or file.is_relative_to(root)):
        raise UserError(f"the image_path {path!r}, which leaves {root}", "a path below --data-path",
                        "correct it, or give --allow-outside if you trust the file")
    return os.path.normcase(file)


def write_annotations(path: str | os.PathLike[str], annotations: Iterable[Annotation],
                      delimiter: str = DEFAULT_DELIMITER) -> None:
    """Write a CSV file that `read_annotations` reads, atomically.

    Raises:
        UserError: a label holds the delimiter.
    """
    write_rows(path, [COLUMNS, *((picture, format_labels(labels, delimiter)) for picture, labels in annotations)])
