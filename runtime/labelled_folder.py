"""A folder of pictures with label files, as the tools that read one are told of it and tell of it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

from data.multilabel.annotations import DEFAULT_DELIMITER
from data.multilabel.label_files import LabelledPictures, read_label_files
from runtime.arguments import flag


@dataclass(frozen=True, kw_only=True)
class LabelledFolderOptions:
    """Pictures and labels."""

    input_dir: Path = flag(MISSING, "folder of pictures, each with its labels in a .txt file of the same name: one a "
                                    "line, or several between delimiters")
    recursive: bool = flag(False, "search its sub-folders, too")
    relative_paths: bool = flag(False, "write paths relative to --input-dir, then the --data-path of training; without "
                                       "it, absolute ones")
    label_delimiter: str = flag(DEFAULT_DELIMITER, "what stands between labels, read and written")
    skip_invalid: bool = flag(False, "leave out, and list, pictures whose label file has an error")
    overwrite: bool = flag(False, "replace earlier files without asking")


def open_labelled(options: LabelledFolderOptions) -> LabelledPictures:
    """The folder's pictures and labels; what is left out is printed.

    Raises:
        UserError: no picture with a label, or a label file with an error.
    """
    found = read_label_files(options.input_dir, recursive=options.recursive, delimiter=options.label_delimiter,
                             skip_invalid=options.skip_invalid)
    print_left_out(found.left_out)
    for error in found.invalid:
        print(f"left out: {error}")
    return found


def print_left_out(reasons: dict[str, str]) -> None:
    """One line for each picture, with the reason."""
    for name, reason in reasons.items():
        print(f"left out: {name} ({reason})")
