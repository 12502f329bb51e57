"""Label files: `sunset.txt` beside `sunset.jpg` holds the picture's labels; so do the others of `SIDECARS`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.multilabel.annotations import Annotation
from data.multilabel.grammar import (
    SPACED_TAGS,
    LabelGrammar,
    check_delimiter,
    find_spaced_tags,
    is_list,
    looks_foreign,
    read_labels,
    weight_notes,
)
from data.names import as_text, line_problem, nfc
from data.picture_files import find_pictures
from data.side_files import split_lines
from utils import UserError, read_bytes

SIDECARS = ("{name}.txt", "{stem}.txt", "{name}.caption", "{stem}.caption")  # of a picture; the first there is, is read


@dataclass(kw_only=True)
class LabelledFolder:
    """What a folder of pictures with label files holds.

    Attributes:
        folder: the folder.
        annotations: the labelled pictures by their "/"-separated path relative to `folder`, sorted by it.
        left_out: path of a picture without labels → the reason.
        invalid: the errors of label files that were skipped with their pictures.
        unreadable: folders that could not be read, and the reasons.
        passed_over: lines on what is neither a picture nor a label file, and on label files beside the one read.
    """

    folder: Path
    annotations: list[Annotation] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    invalid: list[str] = field(default_factory=list)
    unreadable: Sequence[tuple[Path, str]] = ()
    passed_over: list[str] = field(default_factory=list)

    def with_paths(self, annotations: list[Annotation], *, relative: bool) -> list[Annotation]:
        """`annotations` with paths relative to the folder, or absolute ones."""
        root = Path(os.path.abspath(self.folder))
        return annotations if relative else [annotation._replace(path=(root / annotation.path).as_posix())
                                             for annotation in annotations]

    def report(self) -> list[str]:
        """One line for each picture that is left out, with the reason, and what is passed over."""
        return [*self.passed_over, *(f"left out: {as_text(name)} ({reason})" for name, reason in self.left_out.items()),
                *(f"left out: {error}" for error in self.invalid),
                *weight_notes(label for annotation in self.annotations for label in annotation.labels)]


def read_label_files(folder: Path, *, recursive: bool, grammar: LabelGrammar, skip_invalid: bool,
                     exclude: Sequence[str] = ()) -> LabelledFolder:
    """The pictures of `folder` with the labels of their text files: UTF-8, one a line, or several between delimiters.

    `recursive` searches its sub-folders, too, and `exclude` is that of `find_pictures`. With `skip_invalid` a picture
    whose text file has an error is left out. The normal form of labels and their format are the `grammar`'s.

    Raises:
        UserError: no such folder, no picture with a label in it, or a text file with an error.
    """
    check_delimiter(grammar.delimiter)
    pictures = find_pictures(folder, recursive=recursive, exclude=exclude)
    sidecars = {picture: _find_sidecars(picture) for picture in pictures.images}
    used = {pictures.name(file) for files in sidecars.values() for file in files}
    found = LabelledFolder(folder=folder, unreadable=pictures.unreadable, passed_over=pictures.report(used=used) + [
        f"passed over: {pictures.name(other)} ({files[0].name} is read)" for files in sidecars.values()
        for other in files[1:]])
    contents: dict[Path, list[str]] = {}  # lines of each label file
    errors: dict[Path, UserError] = {}
    for file in (files[0] for files in sidecars.values() if files):
        try:
            contents[file] = _read_lines(file, grammar)
        except UserError as error:
            errors[file] = error
    spaced = find_spaced_tags(list(contents.values()), grammar.delimiter) if grammar.format is None else set()
    for picture, files in sidecars.items():
        name = picture.relative_to(folder).as_posix()
        try:
            if files and files[0] in errors:
                raise errors[files[0]]
            labels = _parse_lines(files[0], contents[files[0]], grammar, spaced) if files else {}
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
            found.left_out[name] = f"{files[0].name} is empty" if files else f"no {picture.stem}.txt"
    if not found.annotations:
        raise UserError(f"no picture with a label in {folder}", "pictures with a .txt or .caption file of the same "
                        "name each", "check --input-dir, or add --recursive for its sub-folders")
    return found


def read_folder_labels(folder: Path, *, exclude: Sequence[str] = ()) -> LabelledFolder:
    """The pictures below `folder`, each labelled with the first folder that it lies in, which is its artist.

    Raises:
        UserError: no such folder, or no picture in a folder in it.
    """
    pictures = find_pictures(folder, recursive=True, exclude=exclude)
    found = LabelledFolder(folder=folder, unreadable=pictures.unreadable, passed_over=pictures.report())
    for picture in pictures.images:
        name = picture.relative_to(folder).as_posix()
        if problem := line_problem(name):
            found.left_out[name] = f"its name {problem}"
        elif "/" in name:
            found.annotations.append(Annotation(name, {nfc(name.partition("/")[0]): 1.0}))
        else:
            found.left_out[name] = "in no artist's folder"
    if not found.annotations:
        raise UserError(f"no picture in a folder of {folder}", "a folder of pictures per artist", "check --input-dir")
    return found


def _find_sidecars(picture: Path) -> list[Path]:
    """The picture's label files, the one to read first."""
    return [file for file in _sidecars(picture) if file.is_file()]


def _sidecars(picture: Path) -> list[Path]:
    return [picture.with_name(pattern.format(name=picture.name, stem=picture.stem)) for pattern in SIDECARS]


def choose_label_file(picture: Path, *, shared: bool) -> Path:
    """The label file to write for a picture: the one that would be read, else `sunset.txt`.

    `shared` says that another picture has the same stem: then it is `sunset.jpg.txt`, which is read before it.
    """
    files = _sidecars(picture)
    return files[0] if shared else next((file for file in files if os.path.lexists(file)), files[1])


def _read_lines(path: Path, grammar: LabelGrammar) -> list[str]:
    """The lines of a label file; a list in JSON or Python is one line."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a text file that can be read", "check its rights") from error
    except UnicodeDecodeError as error:
        raise UserError(f"bytes that are not UTF-8 in {path}", "text saved as UTF-8", "convert it") from error
    if is_list(text) and grammar.format in ("json", None):
        return [text]
    return split_lines(text)


def _parse_lines(path: Path, lines: Sequence[str], grammar: LabelGrammar, spaced: Collection[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        try:
            if line in spaced:
                raise looks_foreign(line, SPACED_TAGS, "danbooru")
            labels = read_labels(line, grammar) if line.strip() else {}
        except UserError as error:
            raise UserError(f"{error.found} in {path}, line {number}", error.expected, error.action) from error
        weights |= {label: weights.get(label, 0.0) + weight for label, weight in labels.items()}
    return weights
