"""Picture files below a folder: which files count, and in which order."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from data.images import IMAGE_EXTENSIONS
from utils import UserError


def list_images(folder: str | os.PathLike[str], *, recursive: bool = True,
                extensions: Collection[str] = IMAGE_EXTENSIONS) -> list[Path]:
    """The picture files below `folder`, sorted by relative path (`/`-separated, by code point).

    `extensions` are lower case with a dot and match in any case. Names that start with a dot are skipped. Links to
    folders are followed, but each real folder is read once.

    Raises:
        UserError: the folder, or one below it, is missing or cannot be read.
    """
    root = Path(folder)
    found = [path for path in _walk(root, recursive)
             if path.suffix.lower() in extensions and not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _walk(root: Path, recursive: bool) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        raise UserError(f"the folder {error.filename}: {error.strerror}", "a folder that can be read", "check the path")

    visited = set()
    for parent, folders, files in os.walk(root, onerror=unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = sorted(name for name in folders if recursive and real not in visited and not name.startswith("."))
        yield from (Path(parent, name) for name in files if real not in visited)
        visited.add(real)


def expand_inputs(inputs: Sequence[str], *, recursive: bool) -> list[Path]:
    """The files that `inputs` name, in their order; a folder stands for its pictures.

    Args:
        inputs: paths of files and folders, or `@` and the path of a UTF-8 text file with one such path a line. All are
            relative to the current folder.
        recursive: search the sub-folders of folders, too.

    Raises:
        UserError: an input or a list is missing, or no picture is found. A missing file in a list is no error here: it
            is found when it is read.
    """
    paths: list[Path] = []
    for text in inputs:
        if text.startswith("@"):
            paths += map(Path, _read_list(Path(text[1:])))
        elif Path(text).exists():
            paths.append(Path(text))
        else:
            raise UserError(f"no {text}", "a picture, a folder of pictures or @list.txt", "check --inputs")
    found = [file for path in paths for file in (list_images(path, recursive=recursive) if path.is_dir() else [path])]
    if not found:
        raise UserError(f"no picture in {' '.join(inputs)}", "at least one", "check --inputs, or add --recursive")
    return found


def _read_list(path: Path) -> list[str]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"the list {path}: {error.strerror}", "a text file with one path a line",
                        "check --inputs") from error
    except UnicodeDecodeError as error:
        raise UserError(f"bytes that are not UTF-8 in the list {path}", "a text file in UTF-8",
                        "save it as UTF-8 (PowerShell: Set-Content -Encoding utf8)") from error
    return [line for line in text.splitlines() if line.strip()]
