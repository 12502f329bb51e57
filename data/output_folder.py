"""Where commands write: one at a time in a place, half-made folders of their own, and what may be replaced."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from data.prepare.integrity import SCAN_CACHE
from data.side_files import parse_json
from utils import UserError, is_disk_full, read_bytes, sync_folder, write_text

if TYPE_CHECKING:
    import filelock

MARKER = ".lsnet_output.json"  # in every folder made here; lists its files
# These may be added to a folder later and are no loss: file managers and trainers make them again.
_IGNORED = re.compile(rf"\.DS_Store|Thumbs\.db|desktop\.ini|{re.escape(SCAN_CACHE)}|\..+\.(lock|partial)")
_OUTSIDE_CAUSES = {errno.ENOSPC, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
                   getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_LOCKS = {getattr(errno, name) for name in ("ENOLCK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS") if hasattr(errno, name)}
_LONGEST_NOTE = 300  # bytes
Result = TypeVar("Result")


class _Marker(msgspec.Struct):
    """What `MARKER` must say."""

    files: list[str]


# ---- locks -----------------------------------------------------------------------------------------------------------

_held: set[Path] = set()  # places that this process has locked: a lock is taken once, by whoever needs it first


@contextlib.contextmanager
def output_lock(*places: Path, wait: bool = False) -> Iterator[None]:
    """Inside the block no other command writes to any of `places`, folders or files.

    The lock is on the file `.NAME.lock` beside each place, or in a folder whose surroundings may not be written to; it
    says who holds it. The system releases it when the process ends, however it ends; a lock file that a kill leaves
    locks nothing. It is `flock`, on Windows `LockFileEx`. On a network drive it holds between machines where the drive
    passes it on: NFS from version 4 and SMB do, unless mounted with `nolock` or `nobrl`. Where a drive has no locks at
    all, a line says so and the command goes on.

    Args:
        places: need not exist; a place that this process has locked already is not locked again.
        wait: where another command holds one, say for whom and wait.

    Raises:
        UserError: another command holds one of them, and `wait` is false; or there may not be a file beside it.
    """
    with contextlib.ExitStack() as locks:
        for place in sorted({Path(os.path.realpath(place)) for place in places} - _held):  # one order: no deadlock
            locks.enter_context(_lock(place, wait))
        yield


@contextlib.contextmanager
def _lock(place: Path, wait: bool) -> Iterator[None]:
    import filelock  # it takes a tenth of a second, and --help does without

    path = _lock_path(place)
    new = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    lock = filelock.FileLock(path)
    try:
        _take(lock, path, place, wait)
        _held.add(place)
        yield
    finally:
        _held.discard(place)
        if lock.is_locked:
            with contextlib.suppress(OSError):  # Windows: released first, and deleted then
                path.unlink()  # whoever has it open finds it without a name, and opens a new one
            lock.release()
        for folder in new:
            with contextlib.suppress(OSError):  # somebody wrote there
                folder.rmdir()


def _lock_path(place: Path) -> Path:
    beside = next(folder for folder in place.parents or [place] if folder.exists())
    inside = place.is_dir() and not (place.name and os.access(beside, os.W_OK | os.X_OK))
    return place / ".lsnet.lock" if inside else place.with_name(f".{place.name}.lock")


def _take(lock: filelock.FileLock, path: Path, place: Path, wait: bool) -> None:
    """Acquire `lock` and write into its file who holds it."""
    import filelock

    holder = _read_note(path)  # before it is tried: some versions of filelock empty the file when they open it
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch()  # filelock would take a place where no file can be, such as /proc, for one that is locked
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = holder or _read_note(path, patience=40) or "another command"
            if not wait:
                raise UserError(f"{place}, to which {holder} is writing", "one command at a time in one place",
                                "wait until that has ended, or choose another place") from None
            print(f"waiting for {holder}, which is writing to {place}", flush=True)
            lock.acquire()
        with contextlib.suppress(OSError), open(path, "r+b", buffering=0) as file:  # the disk may be full
            file.seek(1)  # Windows locks the first byte against reading, too
            file.write(f"{Path(sys.argv[0]).name} (process {os.getpid()} on {platform.node()})\n".encode())
    except OSError as error:
        if is_disk_full(error):
            raise
        if error.errno not in _NO_LOCKS:
            raise UserError(f"{path}, which cannot be written ({error.strerror})", f"a place beside {place} where this "
                            "user may write", "choose another place, or check the rights") from error
        print(f"the drive of {place} has no locks: let no other command write there", flush=True)


def _read_note(path: Path, patience: int = 0) -> str:
    """Who holds the lock; its holder writes that once it has it, for which `patience` times 50 ms are waited."""
    for _ in range(patience + 1):
        with contextlib.suppress(OSError), open(path, "rb", buffering=0) as file:
            file.seek(1)
            if note := (file.read(_LONGEST_NOTE) or b"").decode(errors="replace").partition("\n")[0]:
                return note
        if patience:
            time.sleep(0.05)
    return ""


# ---- folders ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def new_folder(target: Path, *, made_by: str, overwrite: bool, sources: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well, it replaces `target`, which is locked meanwhile.

    An existing folder is replaced only if an earlier run made it and nothing was added since, and after a question on
    standard input (a line that begins with y; end of input means no). It is untouched until the swap. A kill at any
    moment leaves it or the new one, and the next run deletes what a kill left beside it.

    Args:
        target: the folder to make.
        made_by: the command, for the marker.
        overwrite: do not ask.
        sources: folders that are read meanwhile; `target` may neither hold nor lie in one.

    Raises:
        UserError: `target` may not be replaced or cannot be written, another command writes it, or the answer was no.
    """
    target = Path(os.path.realpath(target))
    check_apart(target, sources)
    if target.exists() and _lies_in(Path.cwd(), target):
        raise UserError(f"the output folder {target}, which is or holds the current folder", "another folder",
                        "choose another output folder or change to another folder first")
    with output_lock(target), report_write_errors(target):
        _tidy(target)
        if _is_earlier_output(target) and not overwrite:
            confirm_replacement(target, "holds an earlier output")
        building = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        building.mkdir()
        identity = _identity(building)
        try:
            mark_output(building, made_by)
            yield building
            mark_output(building, made_by)
            if hasattr(os, "sync"):  # a power cut after the swap must not leave empty files
                os.sync()
            if _identity(building) != identity or set(_files_in(building)) != _listed_files(building):
                raise UserError(f"{building}, which another program changed while it was made", "it left alone",
                                "run this again; nothing was changed")
            _swap(building, target)
        finally:
            if _identity(building) == identity:  # it has not become the target, nor another program's folder
                _delete(building)


@contextlib.contextmanager
def replace_together(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well, its files replace those of `folder` that are called `names`.

    Such files must agree: a kill at any moment leaves those of one run. It may leave only the first of `names`, or
    none, but only within the few renames at the end: an error or a kill before leaves all as they were.

    Args:
        folder: the output folder, which the caller has locked.
        names: all that may be among the files; those that the block does not write are deleted in `folder`, too.
    """
    for leftover in folder.glob(".????????.partial"):  # of a killed process
        _delete_files(leftover)
    building = folder / f".{secrets.token_hex(4)}.partial"
    building.mkdir(parents=True)
    try:
        yield building
        for name in reversed(names):
            if name != names[0] or not (building / name).exists():
                (folder / name).unlink(missing_ok=True)
        for name in names:
            if (building / name).exists():
                os.replace(building / name, folder / name)
        sync_folder(folder)
    finally:
        _delete_files(building)


def read_swapped(folder: Path, read: Callable[[Path], Result]) -> Result:
    """`read(folder)`, of one state of a folder that `new_folder` may swap meanwhile.

    Where a swap has taken the folder away and not yet brought the new one, or was killed there, it is the old state.
    """
    while True:
        state = _identity(folder)
        try:
            result = read(folder if state else next(_leftovers(folder.resolve(), "replaced"), folder))
        except UserError:
            if _identity(folder) == state:
                raise
        else:
            if _identity(folder) == state:
                return result


def check_apart(target: Path, sources: Sequence[Path]) -> None:
    """Raise a `UserError` if the output folder `target` is or holds one of the folders `sources`, or lies in one."""
    target = Path(os.path.realpath(target))
    for source in sources:
        source = Path(os.path.realpath(source))
        if _lies_in(target, source) or _lies_in(source, target):
            raise UserError(f"the output folder {target} and the source folder {source}, one inside the other or equal",
                            "two folders apart from each other", "choose another output folder")


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
            if not _IGNORED.fullmatch(name):
                yield Path(parent, name).relative_to(folder).as_posix()


def mark_output(folder: Path, made_by: str, coming: Sequence[str] = ()) -> None:
    """Note the files of `folder`, and those that are `coming`, as made by the command `made_by`.

    A later run may delete them with the folder.
    """
    content = {"about": "Lists what a later run with --overwrite may delete.", "made_by": made_by,
               "files": sorted({*_files_in(folder), *coming})}
    write_text(folder / MARKER, json.dumps(content, indent=0))


def _swap(building: Path, target: Path) -> None:
    replaced = target.with_name(f".{target.name}.{secrets.token_hex(4)}.replaced")
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
        os.rename(replaced, building)  # what is half deleted must never come back
        _delete(building)


def _tidy(target: Path) -> None:
    """Bring `target` back from a swap that was killed, and delete the half-made folders of dead processes."""
    for replaced in _leftovers(target, "replaced"):
        if not target.exists():
            os.rename(replaced, target)
    for leftover in _leftovers(target, "partial|replaced"):
        # A kill may have come before the first marker, or after the last; a folder without one that holds anything
        # else is not ours.
        if (leftover / MARKER).is_file() or {path.name for path in leftover.iterdir()} <= {f".{MARKER}.partial"}:
            _delete(leftover)


def _leftovers(target: Path, kinds: str) -> Iterator[Path]:
    """Folders beside `target` with the temporary names of these kinds; in earlier versions they had no number."""
    name = re.compile(rf"\.{re.escape(target.name)}(\.[0-9a-f]{{8}})?\.({kinds})")
    return (path for path in [*target.parent.glob(".*")] if name.fullmatch(path.name) and path.is_dir())


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from another that comes under its name; None if it is not there."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _delete(folder: Path) -> None:
    """Remove a folder that carries our marker; the marker goes last, so that a kill leaves a folder with it."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != MARKER:
            entry.unlink()
    shutil.rmtree(folder)


def _delete_files(folder: Path) -> None:
    """Delete the files in `folder`, and it, unless something else is in it."""
    if folder.is_dir():
        for path in folder.iterdir():
            if not path.is_dir():
                path.unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()


# ---- files -----------------------------------------------------------------------------------------------------------


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


def confirm_replacement(target: object, state: str) -> None:
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
