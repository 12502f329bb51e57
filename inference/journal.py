"""The journal of a run: its records so far, on disk, to resume the run or to merge shards."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from utils import Interrupted, UserError, write_json

ABOUT, RECORDS, FEATURES = "about.json", "records.jsonl", "features.f32"
UNFINISHED = ".unfinished"  # folder of a journal below that of the results
Record = dict[str, Any]
Entry = tuple[str, Record]  # a picture's name and record


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
    """

    folder: Path
    about: dict[str, Any]
    done: int = 0

    @classmethod
    def begin(cls, folder: Path, about: dict[str, Any]) -> Journal:
        """An empty journal; it replaces an earlier one."""
        write_json(folder / ABOUT, about)
        for name in (RECORDS, FEATURES):
            (folder / name).write_bytes(b"")
        return cls(folder, about)

    @classmethod
    def resume(cls, folder: Path, about: dict[str, Any], *, batch_size: int) -> Journal:
        """The journal in `folder`, cut after its last whole batch of readable pictures; a new one if there is none.

        Raises:
            UserError: its records depend on something else than `about`.
        """
        if not (folder / ABOUT).is_file():
            return cls.begin(folder, about)
        journal = cls.read(folder)
        for key, value in about.items():
            earlier = journal.about.get(key)
            if earlier != value:
                raise UserError(f"{key} {value} for the unfinished run in {folder}, which has {earlier}",
                                "the same pictures, network and flags",
                                "repeat the flags of the first start, or leave --resume away to begin again")
        kept = Position()
        for position in journal._positions():
            if position.readable % batch_size == 0 or position.entries == about["pictures"]:
                kept = position
        for name, length in ((RECORDS, kept.records_end), (FEATURES, kept.features_end)):
            with open(folder / name, "rb+") as file:
                file.truncate(length)
        return cls(folder, about, kept.entries)

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """The journal in `folder`; raises a `UserError` if there is none."""
        try:
            journal = cls(folder, json.loads((folder / ABOUT).read_text(encoding="utf-8")))
            journal.done = sum(1 for _ in journal._positions())
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}, which holds no readable journal ({error})", "the folder of a shard, whole",
                            "copy it again, or run that shard again") from error
        return journal

    def _positions(self) -> Iterator[Position]:
        """The position after each entry that is whole in both files."""
        size = (self.folder / FEATURES).stat().st_size
        position = Position()
        with open(self.folder / RECORDS, "rb") as lines:
            for line in lines:
                try:
                    _, record, length = json.loads(line)
                    position = Position(position.entries + 1, position.readable + ("error" not in record),
                                        position.records_end + len(line), position.features_end + 4 * length)
                except (ValueError, LookupError, TypeError):  # torn by a power cut
                    return
                if not line.endswith(b"\n") or position.features_end > size:
                    return
                yield position

    def extend(self, entries: Iterable[Entry], *, batch_size: int) -> None:
        """Write entries as they come; those of whole batches survive the end of this process.

        Raises:
            Interrupted: Ctrl-C; what is written stays.
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
            except KeyboardInterrupt:
                raise Interrupted(signal.SIGINT, f"stopped after {self.done} of {self.about['pictures']} pictures; the "
                                                 "same command with --resume goes on") from None

    def lines(self) -> Iterator[tuple[str, Record, int]]:
        """Each entry's name, record without features, and length of its features."""
        with open(self.folder / RECORDS, encoding="ascii") as lines:
            yield from map(json.loads, lines)

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
