"""Annotation files: CSV with the columns image_path, labels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.csv_files import find_columns, malformed, read_rows, write_rows
from data.multilabel.grammar import (
    DEFAULT_DELIMITER,
    LabelFormat,
    LabelGrammar,
    Labels,
    format_labels,
    read_labels,
)
from data.names import line_problem
from utils import UserError, atomic_path, counted

COLUMNS = ("image_path", "labels")


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
        label_format: see `LabelGrammar`.
        allow_outside: relative paths may leave `root`.
        skip_invalid: rows with an error are left out instead of refused.
    """

    root: Path
    delimiter: str = DEFAULT_DELIMITER
    label_format: LabelFormat | None = None
    allow_outside: bool = False
    skip_invalid: bool = False


def read_annotations(path: str | os.PathLike[str], rules: AnnotationRules) -> tuple[list[Annotation], list[str]]:
    """The pictures of a CSV file in its order, and the errors of the rows that `rules.skip_invalid` left out.

    Columns other than image_path and labels are ignored. A row with one bad label is left out as a whole: the rest of
    its labels would teach that the bad one is absent.

    Raises:
        UserError: the file is missing or no such CSV, holds no picture, or has an error that must not be skipped.
    """
    rows = read_rows(path, COLUMNS)
    line, header = next(rows)
    places = find_columns(path, line, header, COLUMNS)
    annotations, invalid = [], []
    seen: dict[str, int] = {}
    for line, row in rows:
        try:
            annotations.append(_read_row(row, header, places, rules, seen, line))
        except UserError as error:
            with_line = UserError(f"{error.found} in {path}, line {line}", error.expected, error.action)
            if not rules.skip_invalid:
                raise with_line from error
            invalid.append(str(with_line))
    if not annotations:
        raise malformed(path, line, "no picture", "one row per picture")
    return annotations, invalid


def _read_row(row: list[str], header: list[str], places: list[int], rules: AnnotationRules, seen: dict[str, int],
              line: int) -> Annotation:
    if len(row) != len(header):
        raise UserError(counted(len(row), "cell"), f"{len(header)}: {','.join(header)}",
                        f"put labels between quotes: \"artist_A{rules.delimiter}artist_B\"")
    path, text = (row[place] for place in places)
    key = _normalise_path(path, rules)
    labels = read_labels(text, LabelGrammar(delimiter=rules.delimiter, format=rules.label_format))
    if not labels:
        raise UserError(f"{text!r}, a list without a label", "at least one label", "add one, or remove the row")
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


def write_annotated_split(sides: Mapping[Path, Iterable[Annotation]], delimiter: str = DEFAULT_DELIMITER) -> None:
    """Write the files of a split, see `write_annotations`; a kill leaves no side of one split beside that of another.

    Raises:
        UserError: a label holds the delimiter.
    """
    with contextlib.ExitStack() as whole:
        for path, annotations in sides.items():
            write_annotations(whole.enter_context(atomic_path(path)), annotations, delimiter)
        for path in sides:
            path.unlink(missing_ok=True)
