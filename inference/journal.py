"""The answers of a run so far, on disk: what an interruption leaves behind, and what several machines hand in."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from utils import Interrupted, UserError, write_json

ABOUT, RECORDS, FEATURES = "about.json", "records.jsonl", "features.f32"
UNFINISHED = ".unfinished"  # the folder of a journal in that of the results
Entry = tuple[str, dict[str, Any]]  # name and record
START_AGAIN = "repeat the flags of the first start, or leave --resume away to begin again"


class Journal:
    """Names and records in order, one JSON line each; their features, float32, in a file beside it.

    Attributes:
        folder: of the files.
        about: what the answers depend on, and `pictures`, how many there will be.
        done: how many there are.
    """

    def __init__(self, folder: Path, about: dict[str, Any], done: int) -> None:
        """See `begin`, `resume` and `read`."""
        self.folder, self.about, self.done = folder, about, done

    @classmethod
    def begin(cls, folder: Path, about: dict[str, Any]) -> Journal:
        """A journal without answers, in the place of any that was there."""
        write_json(folder / ABOUT, about)
        for name in (RECORDS, FEATURES):
            (folder / name).write_bytes(b"")
        return cls(folder, about, 0)

    @classmethod
    def resume(cls, folder: Path, about: dict[str, Any], *, batch_size: int) -> Journal:
        """The journal with the answers of its whole batches of readable pictures; a new one where there is none.

        Raises:
            UserError: its answers depend on something else than `about` says.
        """
        if not (folder / ABOUT).is_file():
            return cls.begin(folder, about)
        found = cls.read(folder)
        different = [key for key, value in about.items() if found.about.get(key) != value]
        if different:
            key = different[0]
            raise UserError(f"{key} {about[key]} for the unfinished run in {folder}, which has {found.about.get(key)}",
                            "the same pictures, network and flags", START_AGAIN)
        kept = [0, 0, 0, 0]  # as of the last whole batch of readable pictures
        for now in found._positions():
            if now[3] % batch_size == 0 or now[0] == about["pictures"]:
                kept = now
        for name, length in ((RECORDS, kept[1]), (FEATURES, kept[2])):
            with open(folder / name, "rb+") as file:
                file.truncate(length)
        return cls(folder, about, kept[0])

    @classmethod
    def read(cls, folder: Path) -> Journal:
        """The journal that lies in `folder`.

        Raises:
            UserError: there is none.
        """
        try:
            about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            journal = cls(folder, about, 0)
            journal.done = sum(1 for _ in journal._positions())
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}, which holds no readable journal ({error})", "the folder of a shard, whole",
                            "copy it again, or run that shard again") from error
        return journal

    def _positions(self) -> Iterator[list[int]]:
        """After each answer that is whole: how many, the lengths of both files, bytes, and how many could be read."""
        there = (self.folder / FEATURES).stat().st_size
        position = [0, 0, 0, 0]
        with open(self.folder / RECORDS, "rb") as lines:
            for line in lines:
                try:
                    _, record, length = json.loads(line)
                    position[2] += 4 * length
                except (ValueError, LookupError, TypeError):  # torn by a power cut
                    return
                if not line.endswith(b"\n") or position[2] > there:
                    return
                position[0], position[1] = position[0] + 1, position[1] + len(line)
                position[3] += "error" not in record
                yield position.copy()

    def extend(self, entries: Iterable[Entry], *, batch_size: int) -> None:
        """Write entries as they come; after each batch they outlive this process.

        Raises:
            Interrupted: Ctrl-C; what is written stays.
        """
        with open(self.folder / FEATURES, "ab") as features, open(self.folder / RECORDS, "ab") as records:
            try:
                for name, record in entries:
                    row = np.float32(record.get("features", ()))
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

    def lines(self) -> Iterator[tuple[str, dict[str, Any], int]]:
        """Each answer's name, record without features, and how many numbers its features are."""
        with open(self.folder / RECORDS, encoding="ascii") as lines:
            yield from map(json.loads, lines)

    def entries(self) -> Iterator[Entry]:
        """Each answer's name and record."""
        with open(self.folder / FEATURES, "rb") as features:
            for name, record, length in self.lines():
                row = np.fromfile(features, np.float32, length)
                yield name, {**record, "features": row.tolist()} if length else record

    def copy_features(self, target: Any) -> None:
        """Append the rows of all features to an open file."""
        with open(self.folder / FEATURES, "rb") as features:
            shutil.copyfileobj(features, target)

    def remove(self) -> None:
        """Delete the files; the folder, too, if nothing else is in it."""
        for name in (ABOUT, RECORDS, FEATURES):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()
