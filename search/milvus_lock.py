"""One writer at a time on a gallery of a Milvus server, from whatever machine."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from data.side_files import parse_json
from search.milvus_client import Connection
from utils import UserError

KEY = "lock"  # of the row that a writer writes, and writes again as long as it lives


class _Note(msgspec.Struct):
    """Who writes, and how often it has said so."""

    holder: str
    token: str
    beat: int = 0


class ServerLock:
    """Held by a row of the gallery's first collection; one that does not change for `patience` is of a dead process."""

    patience, beat, settle = 30.0, 5.0, 1.0  # seconds: until a holder is dead, between signs of life, to see others

    def __init__(self, milvus: Connection, prepare: Callable[[], None], *, wait: bool) -> None:
        """`prepare` makes the collection if need be; `wait` for another writer, or refuse.

        Raises:
            UserError: on entering, if another command writes and `wait` is false.
        """
        self._milvus, self._prepare, self._wait = milvus, prepare, wait
        self._note = _Note(holder=f"{Path(sys.argv[0]).name} (process {os.getpid()} on {platform.node()})",
                           token=secrets.token_hex(8))
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._live, daemon=True)
        self._outer = False

    def __enter__(self) -> None:
        held = _held.get(self._milvus)
        if held:  # by this process, which takes it once
            self._outer = True
            return
        self._prepare()
        self._take()
        _held[self._milvus] = self
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._outer:
            return
        self._ended.set()
        self._thread.join()
        _held.pop(self._milvus, None)
        with contextlib.suppress(UserError):  # the server has gone: the row dies by itself
            if (found := self._read()) and found.token == self._note.token:
                self._milvus.ask("delete", self._milvus.name, filter=f'key == "{KEY}"')

    def _take(self) -> None:
        told, seen, since = False, None, time.monotonic()
        while True:
            found = self._read()
            if found != seen:
                moved = seen is not None and found is not None
                seen, since = found, time.monotonic()
                if moved and not self._wait:  # it lives
                    raise UserError(f"{self._milvus.name} in {self._milvus.uri}, to which {found.holder} is writing",
                                    "one command at a time in one place", "wait until that has ended")
                if moved and not told:
                    print(f"waiting for {found.holder}, which is writing to {self._milvus.name}", flush=True)
                    told = True
            if found is None or time.monotonic() - since > self.patience:
                self._write()
                time.sleep(self.settle)
                if (found := self._read()) and found.token == self._note.token:
                    return
            time.sleep(self.settle / 2)

    def _live(self) -> None:
        while not self._ended.wait(self.beat):
            with contextlib.suppress(UserError):
                self._write()

    def _write(self) -> None:
        self._note.beat += 1
        self._milvus.ask("upsert", self._milvus.name, [{
            "key": KEY, "text": msgspec.json.encode(self._note).decode(), "vector": [1.0, 0.0]}])

    def _read(self) -> _Note | None:
        found = self._milvus.rows(self._milvus.name, ["text"], f'key == "{KEY}"')
        if not found:
            return None
        try:
            return parse_json(found[0]["text"].encode(), _Note)
        except ValueError:
            return _Note(holder="another command", token="")


_held: dict[Connection, ServerLock] = {}
