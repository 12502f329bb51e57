"""The journal of a run: its records so far, on disk, to resume the run or to merge shards."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np

from data.loaders import WorkersLost
from data.names import line_problem
from data.side_files import parse_json, read_json, unreadable, whole_lines
from search.vectors import FeatureSpace
from utils import Interrupted, UserError, check_regular_file, counted, signal_of, write_json

ABOUT, RECORDS, FEATURES = "about.json", "records.jsonl", "features.f32"
UNFINISHED = ".unfinished"  # folder of a journal below that of the results
LONGEST = 2**20  # numbers of a picture's features
BLOCK = 2**22  # numbers read at a time
Record = dict[str, Any]
Entry = tuple[str, Record]  # a picture's name and record
_Key = Annotated[str, msgspec.Meta(pattern=r"^[a-z_0-9]+\Z")]
_Plain = str | int | float | bool | None


class _Artist(msgspec.Struct):
    """What an entry of `classification` must say."""

    class_name: str
    probability: float


class _Vote(msgspec.Struct):
    """What an entry of `artists_by_neighbours` must say."""

    artist: str


class _Read(msgspec.Struct):
    """What is read of a record again, to sum up and to draw."""

    classification: list[_Artist] = []
    artists_by_neighbours: list[_Vote] = []
    verdict: Literal["confident", "possible", "unknown"] | None = None
    error: str = ""


class _Line(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A line of records.jsonl; what a record holds is plain, or a list of objects whose values are."""

    name: str
    record: dict[_Key, _Plain | list[dict[_Key, _Plain]]]
    length: Annotated[int, msgspec.Meta(ge=0, le=LONGEST)]

    def __post_init__(self) -> None:
        if line_problem(self.name):
            raise ValueError("a name that no line of image_names.txt can hold")
        msgspec.convert(self.record, _Read)


class _About(msgspec.Struct):
    """What about.json must say, beside what the records depend on."""

    pictures: Annotated[int, msgspec.Meta(ge=0)]
    model: str = ""
    space: FeatureSpace | None = None  # journals of earlier versions, and modes without features, do not say it


class Position(NamedTuple):
    """A point between two entries: how many come before it, and its offsets in both files, bytes."""

    entries: int = 0
    readable: int = 0  # entries without an error
    records_end: int = 0
    features_end: int = 0


@dataclass
class Journal:
    """Names and records in order, one JSON line each; their features, float32, in a file beside it.

    Attributes:
        folder: of the files.
        about: what the records depend on, and `pictures`, how many there will be.
        done: how many there are.
        length: of their features; 0 where there are none.
    """

    folder: Path
    about: dict[str, Any]
    done: int = 0
    length: int = 0

    @property
    def space(self) -> FeatureSpace:
        """Whose features its records hold, and which."""
        about = msgspec.convert(self.about, _About)
        return about.space or FeatureSpace(model=about.model)

    @classmethod
    def begin(cls, folder: Path, about: dict[str, Any]) -> Journal:
        """An empty journal; it replaces an earlier one."""
        for name in (ABOUT, RECORDS, FEATURES):  # about.json says what the others are: it goes first and comes last
            (folder / name).unlink(missing_ok=True)  # what a link names is no part of the journal
        folder.mkdir(parents=True, exist_ok=True)
        for name in (RECORDS, FEATURES):
            (folder / name).touch()
        write_json(folder / ABOUT, about)
        return cls(folder, about)

    @classmethod
    def resume(cls, folder: Path, about: dict[str, Any], *, batch_size: int) -> Journal:
        """The journal in `folder`, cut after its last whole batch of readable pictures; a new one if there is none.

        Raises:
            UserError: its records depend on something else than `about`.
        """
        if not os.path.lexists(folder / ABOUT):
            return cls.begin(folder, about)
        journal = cls.read(folder)
        for key, value in about.items():
            earlier = journal.about.get(key)
            if earlier != value:
                raise UserError(f"{key} {value} for the unfinished run in {folder}, which has {earlier}",
                                "the same pictures, network and flags",
                                "repeat the flags of the first start, or leave --resume away to begin again")
        kept = Position()
        for position, _ in journal._read_lines():
            if position.readable % batch_size == 0 or position.entries == about["pictures"]:
                kept = position
        for name, length in ((RECORDS, kept.records_end), (FEATURES, kept.features_end)):
            with open(folder / name, "rb+") as file:
                file.truncate(length)
        return cls(folder, about, kept.entries, journal.length)

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """The journal in `folder`, checked.

        Raises:
            UserError: there is none, its features have several lengths, or one is not finite.
        """
        told = {"expected": "a journal of inference, whole", "action": "copy it again, or run that part again"}
        about = read_json(folder / ABOUT, dict[str, Any], **told)
        try:
            journal = cls(folder, about)
            msgspec.convert(about, _About)
            for name in (RECORDS, FEATURES):
                if (folder / name).is_symlink():  # a resumed run would write to what it names
                    raise ValueError(f"{name} is a link")
                check_regular_file(folder / name)
            journal._check()
        except (OSError, ValueError) as error:
            raise unreadable(folder, error, **told) from error
        return journal

    def _check(self) -> None:
        """Set `done` and `length`; raises a `ValueError`, see `read`."""
        end, lengths = Position(), {0}
        for end, entry in self._read_lines():  # noqa: B007  # the last one is asked for below
            lengths.add(entry.length)
        self.done, self.length = end.entries, max(lengths)
        if len(lengths) > 2:
            raise ValueError(f"features of {' and '.join(map(str, sorted(lengths - {0})))} numbers")
        if self.done == self.about["pictures"] and (self.folder / FEATURES).stat().st_size > end.features_end:
            raise ValueError("more features than its records say")
        with open(self.folder / FEATURES, "rb") as file:
            while len(block := np.fromfile(file, np.float32, BLOCK)):
                if not np.isfinite(block).all():
                    raise ValueError("a feature that is not finite")

    def _read_lines(self) -> Iterator[tuple[Position, _Line]]:
        """Each entry that is whole in both files, without features but with their length, and the position after it."""
        size = (self.folder / FEATURES).stat().st_size
        position = Position()
        with open(self.folder / RECORDS, "rb") as lines:
            for line in whole_lines(lines):
                try:
                    entry = parse_json(line, _Line)
                except ValueError:  # torn by a power cut
                    return
                position = Position(position.entries + 1, position.readable + ("error" not in entry.record),
                                    position.records_end + len(line), position.features_end + 4 * entry.length)
                if not line.endswith(b"\n") or position.features_end > size:
                    return
                yield position, entry

    def extend(self, entries: Iterable[Entry], *, batch_size: int) -> None:
        """Write entries as they come; those of whole batches survive the end of this process.

        Raises:
            Interrupted: Ctrl-C, or another signal to end; what is written stays.
            WorkersLost: a process that loads pictures has died; the same holds.
        """
        with open(self.folder / FEATURES, "ab") as features, open(self.folder / RECORDS, "ab") as records:
            try:
                for name, record in entries:
                    row = np.asarray(record.get("features", ()), np.float32)
                    rest = {key: value for key, value in record.items() if key != "features"}
                    features.write(row.tobytes())
                    records.write(json.dumps([name, rest, len(row)]).encode() + b"\n")
                    self.done += 1
                    if self.done % batch_size == 0:
                        features.flush()
                        records.flush()
            except KeyboardInterrupt as error:
                raise Interrupted(signal_of(error), f"stopped by {signal_of(error).name} {self._kept()}") from None
            except WorkersLost as error:
                raise WorkersLost(f"{error}; stopped {self._kept()}") from error

    def _kept(self) -> str:
        whole = counted(self.about["pictures"], "picture")
        return f"after {self.done} of {whole}; the same command with --resume goes on"

    def lines(self) -> Iterator[tuple[str, Record, int]]:
        """Each entry's name, record without features, and length of its features."""
        return ((entry.name, entry.record, entry.length) for _, entry in self._read_lines())

    def entries(self) -> Iterator[Entry]:
        """Each entry's name and whole record."""
        with open(self.folder / FEATURES, "rb") as features:
            for name, record, length in self.lines():
                row = np.fromfile(features, np.float32, length)
                yield name, {**record, "features": row.tolist()} if length else record

    def copy_features(self, target: IO[bytes]) -> None:
        """Append the rows of all features to an open file."""
        with open(self.folder / FEATURES, "rb") as features:
            shutil.copyfileobj(features, target)

    def remove(self) -> None:
        """Delete the files, and the folder if nothing else is in it."""
        for name in (ABOUT, RECORDS, FEATURES):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
