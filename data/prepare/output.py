"""Output folders and files: complete before they replace anything, and replacing only what earlier runs wrote."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from data.prepare.integrity import SCAN_CACHE
from data.side_files import parse_json
from utils import UserError, read_bytes, write_text

MARKER = ".lsnet_output.json"  # in every folder made here; lists its files
# These may be added to a folder later and are no loss: file managers and trainers make them again.
_IGNORED = {".DS_Store", "Thumbs.db", "desktop.ini", SCAN_CACHE}
_OUTSIDE_CAUSES = {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
                   getattr(errno, "EDQUOT", errno.ENOSPC)}


class _Marker(msgspec.Struct):
    """What `MARKER` must say."""

    files: list[str]


@contextlib.contextmanager
def new_folder(target: Path, *, made_by: str, overwrite: bool, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well, it replaces `target`.

    An existing folder is replaced only if an earlier run made it and nothing was added since, and after a question on
    standard input (a line that begins with y; end of input means no). It is untouched until the swap. A kill at any
    moment leaves it or the new one, and the next run deletes what a kill left beside it.

    Args:
        target: the folder to make.
        made_by: the command, for the marker.
        overwrite: do not ask.
        sources: folders that are read meanwhile; `target` may neither hold nor lie in one.

    Raises:
        UserError: `target` may not be replaced or cannot be written, or the answer was no.
    """
    target = Path(os.path.realpath(target))
    _refuse_overlap(target, sources)
    building, replaced = (target.parent / f".{target.name}.{part}" for part in ("partial", "replaced"))
    if replaced.exists() and not target.exists():  # a kill between the two renames of a swap
        os.rename(replaced, target)
    if _is_earlier_output(target) and not overwrite:
        confirm_replacement(target, "holds an earlier output")
    for leftover in (building, replaced):
        if leftover.exists():
            _listed_files(leftover)
            _delete(leftover)
    with report_write_errors(target):
        try:
            building.mkdir(parents=True)
            _mark(building, made_by)
            yield building
            _mark(building, made_by)
            if hasattr(os, "sync"):  # a power cut after the swap must not leave empty files
                os.sync()
            _swap(building, target, replaced)
        except BaseException:
            if building.exists():
                _delete(building)
            raise


def check_csv_outputs(*targets: Path, overwrite: bool) -> None:
    """Check that each of `targets` may be written, and ask before one that exists is replaced, unless `overwrite`.

    Raises:
        UserError: one has another ending than .csv, so that it may be a source; one is a folder; two are one file; or
            the answer was no.
    """
    for target in targets:
        if target.suffix.lower() != ".csv" or target.is_dir():
            raise UserError(f"the output {target}", "a file whose name ends in .csv", "correct the path")
    if len({os.path.realpath(target) for target in targets}) < len(targets):
        raise UserError(f"one file {targets[0]} for several outputs", "a file for each", "correct the paths")
    for target in targets:
        if target.exists() and not overwrite:
            confirm_replacement(target, "exists")


def confirm_replacement(target: Path, state: str) -> None:
    """Ask on standard input whether `target` may be replaced; `state` completes the sentence ("exists").

    Raises:
        UserError: the answer does not begin with y; the end of input is no answer.
    """
    print(f"{target} {state}. Replace it? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not sys.stdin.isatty():
        print(flush=True)  # a terminal would have shown the line's end
    if not answer.strip().lower().startswith("y"):
        raise UserError(f"{target} and the answer {answer.strip()!r}", "y to replace it",
                        "nothing was changed; answer y, give --overwrite or choose another place")


@contextlib.contextmanager
def report_write_errors(target: Path) -> Iterator[None]:
    """Turn a full disk, missing rights or a file that another program holds open into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OUTSIDE_CAUSES:
            raise
        raise UserError(f"{error.strerror} at {error.filename or target}", f"a place where {target} can be written",
                        "make room, check the rights and close programs that use it; nothing was changed") from error


def _refuse_overlap(target: Path, sources: Sequence[Path]) -> None:
    for source in sources:
        source = Path(os.path.realpath(source))
        if _lies_in(target, source) or _lies_in(source, target):
            raise UserError(f"the output folder {target} and the source folder {source}, one inside the other or equal",
                            "two folders apart from each other", "choose another output folder")
    if target.exists() and _lies_in(Path.cwd(), target):
        raise UserError(f"the output folder {target}, which is or holds the current folder", "another folder",
                        "choose another output folder or change to another folder first")


def _lies_in(inner: Path, outer: Path) -> bool:
    # Existing folders are compared by identity: on many systems two spellings of case or Unicode name one folder.
    return any(os.path.samefile(folder, outer) if folder.exists() and outer.exists() else folder == outer
               for folder in (inner, *inner.parents))


def _is_earlier_output(folder: Path) -> bool:
    """True if an earlier run made `folder` and nothing was added since; False if it is missing or empty.

    Raises:
        UserError: it is anything else.
    """
    if not os.path.lexists(folder):
        return False
    if not folder.is_dir():
        raise UserError(f"the file {folder}", "a folder, or nothing there yet", "choose another output folder")
    if not any(folder.iterdir()):
        return False
    listed = _listed_files(folder)
    added = next((name for name in _files_in(folder) if name not in listed), None)
    if added:
        raise UserError(f"{added} in {folder}, which no earlier run put there", "only files of the earlier run",
                        "move it to a safe place or choose another output folder")
    return True


def _listed_files(folder: Path) -> set[str]:
    try:
        return {MARKER, *parse_json(read_bytes(folder / MARKER), _Marker).files}
    except (OSError, ValueError):
        raise UserError(f"the folder {folder}, which holds something and carries no mark of an earlier run",
                        "a new or empty folder, or an earlier output", "choose another output folder") from None


def _files_in(folder: Path) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        for name in (*files, *links):
            if name not in _IGNORED:
                yield Path(parent, name).relative_to(folder).as_posix()


def _mark(folder: Path, made_by: str) -> None:
    content = {"about": "Lists what a later run with --overwrite may delete.", "made_by": made_by,
               "files": sorted(_files_in(folder))}
    write_text(folder / MARKER, json.dumps(content, indent=0))


def _swap(building: Path, target: Path, replaced: Path) -> None:
    if _is_earlier_output(target):  # checked again: minutes may have passed
        os.rename(target, replaced)
    elif target.exists():
        target.rmdir()
    try:
        os.rename(building, target)
    except OSError:
        if replaced.exists():
            os.rename(replaced, target)
        raise
    if replaced.exists():
        _delete(replaced)


def _delete(folder: Path) -> None:
    """Remove a folder that carries our marker; the marker goes last, so that a kill leaves a folder with it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    shutil.rmtree(folder)
