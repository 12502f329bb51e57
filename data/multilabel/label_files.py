"""Label files: `sunset.txt` beside `sunset.jpg` holds the picture's labels."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from data.multilabel.annotations import Annotation, check_delimiter, parse_labels
from data.names import line_problem
from data.picture_files import list_images
from utils import UserError


@dataclass(kw_only=True)
class LabelledFolder:
    """What a folder of pictures with label files holds.

    Attributes:
        folder: the folder.
        annotations: the labelled pictures by their "/"-separated path relative to `folder`, sorted by it.
        left_out: path of a picture without labels → the reason.
        invalid: the errors of label files that were skipped with their pictures.
    """

    folder: Path
    annotations: list[Annotation] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)

    def with_paths(self, annotations: list[Annotation], *, relative: bool) -> list[Annotation]:
        """`annotations` with paths relative to the folder, or absolute ones."""
        root = Path(os.path.abspath(self.folder))
        return annotations if relative else [annotation._replace(path=(root / annotation.path).as_posix())
                                             for annotation in annotations]

    def report(self) -> list[str]:
        """One line for each picture that is left out, with the reason."""
        return [*(f"left out: {name} ({reason})" for name, reason in self.left_out.items()),
                *(f"left out: {error}" for error in self.invalid)]


def read_label_files(folder: Path, *, recursive: bool, delimiter: str, skip_invalid: bool) -> LabelledFolder:
    """The pictures of `folder` with the labels of their text files: UTF-8, one a line, or several between delimiters.

    `recursive` searches its sub-folders, too. With `skip_invalid` a picture whose text file has an error is left out.

    Raises:
        UserError: no such folder, no picture with a label in it, or a text file with an error.
    """
    check_delimiter(delimiter)
    found = LabelledFolder(folder=folder)
    for picture in list_images(folder, recursive=recursive):
        name, file = picture.relative_to(folder).as_posix(), picture.with_suffix(".txt")
        try:
            labels = _read_labels(file, delimiter)
        except UserError as error:
            if not skip_invalid:
                raise
            found.invalid.append(str(error))
            continue
        if problem := line_problem(name):
            found.left_out[name] = f"its name {problem}"
        elif labels:
            found.annotations.append(Annotation(name, labels))
        else:
            found.left_out[name] = f"{file.name} is empty" if file.is_file() else f"no {file.name}"
    if not found.annotations:
        raise UserError(f"no picture with a label in {folder}", "pictures with a .txt file of the same name each",
                        "check --input-dir, or add --recursive for its sub-folders")
    return found


def _read_labels(path: Path, delimiter: str) -> dict[str, float]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a text file that can be read", "check its rights") from error
    except UnicodeDecodeError as error:
        raise UserError(f"bytes that are not UTF-8 in {path}", "text saved as UTF-8", "convert it") from error
    weights: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        try:
            labels = parse_labels(line, delimiter) if line.strip() else {}
        except UserError as error:
            raise UserError(f"{error.found} in {path}, line {number}", error.expected, error.action) from error
        weights |= {label: weights.get(label, 0.0) + weight for label, weight in labels.items()}
    return weights
