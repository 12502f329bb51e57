"""Pictures sorted into a folder per artist, as links or copies; sorted.csv lists every file made, and undoes it.

File names are unique in the whole sorted folder, so a picture that a person moves to another artist is known by its
name. Needs no torch.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, get_args

from data.csv_files import malformed, read_table, write_rows
from data.names import as_text, fit_file_name, folder_name, folder_name_problem, from_text, nfc
from data.output_folder import check_apart, output_lock
from data.prepare.fix_list import Fix
from data.prepare.integrity import file_digest
from runtime.arguments import flag
from utils import UserError, atomic_path, counted

SORTED, UNSORTED = "sorted.csv", "_unknown"
COLUMNS = ("file", "source", "artist", "method", "digest")
Method = Literal["hardlink", "symlink", "copy"]


@dataclass(frozen=True, kw_only=True)
class SortOptions:
    """Sorted folder."""

    sort_into: Path | None = flag(None, "make a folder per predicted artist here; pictures of unknown artists go to "
                                        "_unknown, and sorted.csv lists every file", writes="folder", metavar="FOLDER",
                                  common=True)
    sort_by: Method = flag("hardlink", "hardlink takes no room, and copies if the drives differ; symlink; or copy")
    dry_run: bool = flag(False, "only print what --sort-into or --undo-sort would do")

    def check(self, sources: Sequence[Path]) -> None:
        """Raise a `UserError` unless pictures of the folders `sources` may be sorted so."""
        if not self.sort_into:
            if self.dry_run:
                raise UserError("--dry-run without --sort-into", "both", "leave --dry-run away")
            return
        check_apart(self.sort_into, sources)
        if self.sort_into.is_dir() and not (self.sort_into / SORTED).is_file() and (
                others := sorted(path.name for path in self.sort_into.iterdir() if not path.name.startswith("."))):
            raise UserError(f"{others[0]} in {self.sort_into}, which no sorting made",
                            f"a new or empty folder, or one with the {SORTED} of an earlier sorting",
                            "choose another folder for --sort-into")


class SortedFile(NamedTuple):
    """One file of a sorted folder; as text, a row of sorted.csv.

    Attributes:
        file: its path below that folder, `artist/name`.
        source: the picture, an absolute path.
        artist: whose it was taken for; empty for an unknown one.
        method: how it was to be made; a hard link may have become a copy.
        digest: of the picture's content, hexadecimal.
    """

    file: str
    source: str
    artist: str
    method: str
    digest: str


@dataclass(kw_only=True)
class Outcome:
    """What was done.

    Attributes:
        folder: the sorted folder.
        undo: whether files were removed, not made.
        done: the files that were made, or removed.
        there: number of files that an earlier run had made.
        copied: number of hard links that became copies.
        left: files that were left as they are, and why.
        failed: pictures that could not be read, and why.
    """

    folder: Path
    undo: bool = False
    done: list[SortedFile] = field(default_factory=list)
    there: int = 0
    copied: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def lines(self, *, dry_run: bool) -> Iterator[str]:
        """What is printed of it; after a dry run, every file."""
        if dry_run:
            yield from (f"would {'remove' if self.undo else 'make'} {as_text(row.file)}"
                        + ("" if self.undo else f" of {as_text(row.source)}") for row in self.done)
        yield from (f"not sorted: {as_text(str(path))} ({reason})" for path, reason in self.failed)
        yield from (f"left as it is: {as_text(name)} ({reason})" for name, reason in self.left)
        details = [f"{self.there} were there"] * bool(self.there) + [
            f"{self.copied} copied, as they cannot be linked here"] * bool(self.copied)
        made = "removed from" if self.undo else "sorted into"
        yield (f"{counted(len(self.done), 'picture')} {'would be ' * dry_run}{made} {self.folder}"
               + (f" ({'; '.join(details)})" if details else ""))


# ---- sorting ---------------------------------------------------------------------------------------------------------


def sort_pictures(pictures: Iterable[tuple[Path, str | None]], folder: Path, options: SortOptions) -> Outcome:
    """Sort `pictures`, each with its artist or None, into `folder`; what an earlier run has made there is kept.

    sorted.csv is written first, so that a run after a kill completes what it lists, and makes nothing twice. A picture
    that a person has moved to another folder stays there.

    Raises:
        UserError: another command writes there; sorted.csv says something else of a picture; two artists would have
            one folder; or links are not possible.
    """
    outcome = Outcome(folder=folder)
    with output_lock(folder) if not options.dry_run else contextlib.nullcontext():
        earlier = read_sorted(folder) if (folder / SORTED).is_file() else []
        there = find_files(folder)
        rows, outcome.failed = plan_sort(pictures, folder, options.sort_by, earlier, there)
        if not options.dry_run:
            folder.mkdir(parents=True, exist_ok=True)
            write_rows(folder / SORTED, [COLUMNS, *(map(as_text, row) for row in [*earlier, *rows])])
        for row in [*earlier, *rows]:
            if places := there.get(PurePosixPath(row.file).name):
                outcome.there += 1
                if folder / row.file in places and not is_unchanged(folder, row):
                    outcome.left.append((row.file, "changed since it was sorted"))
            elif options.dry_run or _make(folder, row, outcome):
                outcome.done.append(row)
    return outcome


def plan_sort(pictures: Iterable[tuple[Path, str | None]], folder: Path, method: Method, earlier: Sequence[SortedFile],
              there: Collection[str]) -> tuple[list[SortedFile], list[tuple[Path, str]]]:
    """The rows of the pictures that are not among the `earlier` ones, and which pictures cannot be read.

    No name is one of `there`, whatever its case.
    """
    rows = {row.source: row for row in earlier}
    taken = {nfc(name).casefold() for name in [*there, *(PurePosixPath(row.file).name for row in earlier)]}
    folders = {nfc(PurePosixPath(row.file).parts[0]).casefold(): row.artist for row in earlier}
    others: list[str] = []
    failed: list[tuple[Path, str]] = []
    for path, artist in pictures:
        try:
            answer = (artist or "", method, file_digest(path).hex())
        except OSError as error:
            failed.append((path, error.strerror or str(error)))
            continue
        source = os.path.abspath(path)
        if source in rows:
            others += [source] * (rows[source][2:] != answer)
            continue
        parent = _folder_of(artist or "", folders, folder)
        name = _free_name(path.name, taken, _existing(folder))
        taken.add(nfc(name).casefold())
        rows[source] = SortedFile(f"{parent}/{name}", source, *answer)
    if others:
        raise UserError(f"{counted(len(others), 'picture')} of which {folder / SORTED} gives another artist, way or "
                        f"content, such as {others[0]}", "the same as at the earlier sorting",
                        f"first --undo-sort {folder / SORTED}, or choose another folder")
    return list(rows.values())[len(earlier):], failed


def _folder_of(artist: str, folders: dict[str, str], folder: Path) -> str:
    """The folder of an artist below `folder`; `folders` knows whose they are, and learns it."""
    name = folder_name(artist, _existing(folder)) if artist else UNSORTED
    other = folders.setdefault(nfc(name).casefold(), artist)
    if other != artist:
        raise UserError(f"one folder {name} for {artist or 'unknown artists'} and {other or 'unknown artists'}",
                        "names that give different folders", "rename one of them, or do without --sort-into")
    return name


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def _free_name(name: str, taken: Collection[str], folder: Path) -> str:
    own = PurePosixPath(name)
    names = itertools.chain([name], (fit_file_name(f"{own.stem}-{number}", own.suffix, folder)
                                     for number in itertools.count(2)))
    return next(name for name in names if nfc(name).casefold() not in taken)


def _make(folder: Path, row: SortedFile, outcome: Outcome) -> bool:
    """Make one file; False, and a line in `outcome`, if its picture cannot be read any more."""
    target = folder / row.file
    target.parent.mkdir(exist_ok=True)
    if row.method == "symlink":
        try:
            os.symlink(row.source, target)
        except OSError as error:
            raise UserError(f"{error.strerror} when linking {row.source}", "a place and a user that may make symbolic "
                            "links", "take --sort-by hardlink or copy, after --undo-sort") from error
        return True
    if row.method == "hardlink":
        with contextlib.suppress(OSError):  # another drive, too many links, or somebody else's file
            os.link(os.path.realpath(row.source), target)
            return True
    try:
        status = os.stat(row.source)
        with atomic_path(target) as partial:
            shutil.copyfile(row.source, partial)
            os.utime(partial, ns=(status.st_atime_ns, status.st_mtime_ns))
    except FileNotFoundError as error:
        outcome.failed.append((Path(row.source), error.strerror or "gone"))
        return False
    outcome.copied += row.method == "hardlink"
    return True


# ---- reading it ------------------------------------------------------------------------------------------------------


def read_sorted(folder: Path) -> list[SortedFile]:
    """The rows of `folder`/sorted.csv.

    Raises:
        UserError: it is missing, or no such file; or it names a file outside of the folder.
    """
    rows = []
    for line, cells in read_table(folder / SORTED, COLUMNS):
        row = SortedFile(*map(from_text, cells))
        parts = PurePosixPath(row.file).parts
        if len(parts) != 2 or folder_name_problem(parts[0]) or Path(row.file).parts != parts or parts[1] == "..":
            raise malformed(folder / SORTED, line, f"the file {row.file!r}", "artist/name")
        if row.method not in get_args(Method) or not os.path.isabs(row.source):
            raise malformed(folder / SORTED, line, f"{row.method} of {row.source!r}",
                            f"one of {', '.join(get_args(Method))}, of an absolute path")
        rows.append(row)
    return rows


def find_files(folder: Path) -> dict[str, list[Path]]:
    """Name → places of the files below `folder` that are not hidden."""
    found: dict[str, list[Path]] = {}
    for parent, _, files in os.walk(folder):
        for name in files:
            if not name.startswith(".") and Path(parent, name) != folder / SORTED:
                found.setdefault(name, []).append(Path(parent, name))
    return found


def is_unchanged(folder: Path, row: SortedFile) -> bool:
    """Whether the file of `row` is what was made; one behind a link to another folder is not."""
    path = folder / row.file
    if path.parent.is_symlink():
        return False
    if row.method == "symlink":
        return path.is_symlink() and os.readlink(path) == row.source
    try:
        return not path.is_symlink() and file_digest(path).hex() == row.digest
    except OSError:
        return False


def read_corrections(folder: Path, source: Path) -> tuple[list[Fix], list[Path]]:
    """Whose each picture of a sorted folder is now, by the folder in which a person left it; and files of no sorting.

    A picture is known by its name, or where that was changed by its content. What was deleted, or lies in no artist's
    folder, is left out.

    Args:
        folder: the sorted folder.
        source: the folder that paths are relative to.

    Raises:
        UserError: see `read_sorted`; or a picture lies in two places, or is none of `source`.
    """
    rows, there = read_sorted(folder), find_files(folder)
    names = {PurePosixPath(row.file).name for row in rows}
    strangers = [path for name, paths in there.items() if name not in names for path in paths]
    renamed = {file_digest(path).hex(): path for path in strangers} if names - there.keys() else {}
    artists = {PurePosixPath(row.file).parts[0]: row.artist for row in rows} | {UNSORTED: ""}
    fixes = []
    for row in rows:
        places = there.get(PurePosixPath(row.file).name) or [
            path for digest, path in renamed.items() if digest == row.digest]
        if len(places) > 1:
            raise UserError(f"{places[0]} and {places[1]}", "each picture in one place", "delete one of them")
        parts = places[0].relative_to(folder).parts if places else ()
        artist = artists.get(parts[0], nfc(parts[0])) if len(parts) > 1 else ""
        reason = "deleted" if not places else "as sorted" if artist == row.artist else f"moved from {row.artist}"
        fixes.append(Fix(_below(row.source, source), artist, reason))
    known = {renamed[row.digest] for row in rows if row.digest in renamed}
    return fixes, [path for path in strangers if path not in known]


def _below(path: str, folder: Path) -> str:
    root = Path(os.path.abspath(folder))
    if not Path(path).is_relative_to(root):
        raise UserError(f"the sorted picture {path}", f"pictures below {folder}", "check --source-dir")
    return Path(path).relative_to(root).as_posix()


# ---- undoing ---------------------------------------------------------------------------------------------------------


def undo_sort(manifest: Path, *, dry_run: bool) -> Outcome:
    """Remove the unchanged files that `manifest`, a sorted.csv, lists, and the folders that are empty then.

    What was moved or changed stays, and so does the last copy of a picture whose source is gone; sorted.csv then lists
    these.

    Raises:
        UserError: see `read_sorted`; or another command writes there.
    """
    folder, kept = manifest.parent, []
    outcome = Outcome(folder=folder, undo=True)
    if manifest.name != SORTED:
        raise UserError(f"--undo-sort {manifest}", f"the {SORTED} that --sort-into wrote", "check the path")
    with output_lock(folder):
        rows, there = read_sorted(folder), find_files(folder)
        for row in rows:
            if reason := _reason_to_stay(folder, row, there):
                outcome.left.append((row.file, reason))
                kept.append(row)
            elif os.path.lexists(folder / row.file):
                outcome.done.append(row)
                if not dry_run:
                    (folder / row.file).unlink()
        if not dry_run:
            _tidy(folder, rows, kept)
    return outcome


def _reason_to_stay(folder: Path, row: SortedFile, there: Mapping[str, Sequence[Path]]) -> str | None:
    places = there.get(PurePosixPath(row.file).name, [])
    if not os.path.lexists(folder / row.file):
        return f"moved to {places[0].relative_to(folder).as_posix()}" if places else None
    if not is_unchanged(folder, row):
        return "changed since it was sorted"
    if row.method != "symlink" and not os.path.exists(row.source):
        return f"the last one: {as_text(row.source)} is gone"
    return None


def _tidy(folder: Path, rows: Sequence[SortedFile], kept: Sequence[SortedFile]) -> None:
    """Remove what a killed run left half-copied, empty folders, and sorted.csv where nothing is `kept`."""
    for row in rows:
        target = folder / row.file
        if not target.parent.is_symlink():
            target.with_name(f".{target.name}.partial").unlink(missing_ok=True)
    for parent in {(folder / row.file).parent for row in rows}:
        with contextlib.suppress(OSError):  # something is in it
            parent.rmdir()
    if kept:
        write_rows(folder / SORTED, [COLUMNS, *(map(as_text, row) for row in kept)])
    else:
        (folder / SORTED).unlink()
        with contextlib.suppress(OSError):
            folder.rmdir()
