"""Which pictures a user means: files, folders, and lists of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data.images import list_images
from utils import UserError


def find_pictures(inputs: Sequence[str], *, recursive: bool) -> list[Path]:
    """The files that `inputs` name, in their order; a folder stands for its pictures.

    Args:
        inputs: paths of files and folders, and `@` before the path of a text file with one such path a line, in UTF-8,
            relative to the current folder like those on the command line.
        recursive: search the sub-folders of folders, too.

    Raises:
        UserError: an input or a list is missing, or no picture is found. A missing line of a list is no error: it
            becomes a file that cannot be read.
    """
    found: list[Path] = []
    for text in inputs:
        if text.startswith("@"):
            for line in _lines(Path(text[1:])):
                found += _pictures(Path(line), recursive)
        elif Path(text).exists():
            found += _pictures(Path(text), recursive)
        else:
            raise UserError(f"no {text}", "a picture, a folder of pictures or @list.txt", "check --inputs")
    if not found:
        raise UserError(f"no picture in {' '.join(inputs)}", "at least one", "check --inputs, or add --recursive")
    return found


def _pictures(path: Path, recursive: bool) -> list[Path]:
    return list_images(path, recursive=recursive) if path.is_dir() else [path]


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"the list {path}: {error.strerror}", "a text file with one path a line",
                        "check --inputs") from error
    except UnicodeDecodeError as error:
        raise UserError(f"bytes that are not UTF-8 in the list {path}", "a text file in UTF-8",
                        "save it as UTF-8 (PowerShell: Set-Content -Encoding utf8)") from error
    return [line for line in text.splitlines() if line.strip()]
