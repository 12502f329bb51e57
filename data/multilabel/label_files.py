"""Pictures whose labels stand in a text file of the same name: `sunset.jpg` and `sunset.txt`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from data.csv_files import fits_a_line
from data.images import list_images
from data.multilabel.annotations import Annotation, checked_delimiter, parse_labels
from utils import UserError


@dataclass(kw_only=True)
class LabelledPictures:
    """What a folder holds.

    Attributes:
        folder: the folder.
        annotations: the pictures with labels by their "/"-separated path relative to `folder`, sorted by it.
        left_out: path of a picture without labels → why it has none.
        invalid: the errors of label files that were skipped with their pictures.
    """

    folder: Path
    annotations: list[Annotation] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)

    def located(self, annotations: list[Annotation], *, relative: bool) -> list[Annotation]:
        """`annotations` with paths relative to the folder, or absolute ones."""
        root = Path(os.path.abspath(self.folder))
        return annotations if relative else [annotation._replace(path=(root / annotation.path).as_posix())
                                             for annotation in annotations]


def read_label_files(folder: Path, *, recursive: bool, delimiter: str, skip_invalid: bool) -> LabelledPictures:
    """The pictures of `folder` with the labels of their text files: UTF-8, one a line, or several between delimiters.

    Args:
        folder: pictures and text files.
        recursive: search its sub-folders, too.
        delimiter: what stands between labels on a line.
        skip_invalid: leave a picture out whose text file has an error, instead of refusing it.

    Raises:
        UserError: no such folder, no picture with a label in it, or a text file with an error.
    """
    checked_delimiter(delimiter)
    found = LabelledPictures(folder=folder)
    for picture in list_images(folder, recursive=recursive):
        name, file = picture.relative_to(folder).as_posix(), picture.with_suffix(".txt")
        try:
            labels = _read_labels(file, delimiter)
        except UserError as error:
            if not skip_invalid:
                raise
            found.invalid.append(str(error))
            continue
        if not fits_a_line(name):
            found.left_out[name] = "its name holds control characters or no valid Unicode"
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
