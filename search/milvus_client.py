"""A connection to Milvus, a server or a file of Milvus Lite, whose errors are told in one line."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import re
from pathlib import Path
from typing import Any

import filelock

from utils import UserError

TOKEN = "MILVUS_TOKEN"  # environment variable: a key, or user:password; a flag would show it to other users
DEFAULT_NAME = "lsnet_gallery"
CONNECT_SECONDS, CALL_SECONDS = 10, 300  # until a server counts as gone
_OF_LOADED = ("query", "search", "delete")  # what needs a collection to be loaded
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


def library() -> Any:
    """The package pymilvus, which logs no errors from now on: they are told here; a `UserError` where it is missing."""
    for name in ("pymilvus", "milvus_lite", "grpc._server"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        found = importlib.import_module("pymilvus")
    except ImportError as error:
        raise UserError("no package pymilvus", "those of requirements-milvus.txt",
                        "run pip install -r requirements-milvus.txt") from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)  # importing it sets a level
    return found


class Connection:
    """A Milvus server, or a file of Milvus Lite, and the name of a gallery there.

    Attributes:
        uri: http://HOST:PORT, https://…, or the path of a file.
        name: of the gallery, and of its first collection.
        is_lite: whether it is a file.
    """

    def __init__(self, address: str) -> None:
        """Take `address`, a URI or path, with #NAME behind it for another name; nothing is opened yet.

        Raises:
            UserError: it is no such address.
        """
        self.uri, _, name = address.partition("#")
        self.name = name or DEFAULT_NAME
        self.is_lite = "://" not in self.uri
        self._loaded: set[str] = set()
        if not _NAME.fullmatch(self.name):
            raise UserError(f"the name {self.name!r} of a gallery in Milvus", "letters, digits and _, no digit first",
                            "choose another name behind the #")
        if not re.match(r"https?://[^/@]+(/[^/@]*)?$", self.uri) if not self.is_lite else not self.uri.endswith(".db"):
            raise UserError(f"--gallery milvus:{address}", "http://HOST:PORT of a server, or the path of a Milvus Lite "
                            "file that ends in .db", f"check the address; a password goes into {TOKEN}")

    @functools.cached_property
    def _client(self) -> Any:
        pymilvus = library()
        if self.is_lite:
            self._check_file()
        try:
            return pymilvus.MilvusClient(self.uri, token=os.environ.get(TOKEN, ""),
                                         timeout=CALL_SECONDS if self.is_lite else CONNECT_SECONDS)
        except pymilvus.exceptions.ConnectionConfigException as error:
            raise self._not_opened() from error
        except pymilvus.MilvusException as error:
            raise UserError(f"no Milvus server that answers at {self.uri} ({_reason(error)})", "one that runs",
                            f"start it, check the address, or set {TOKEN} if it asks for a password") from error

    def _check_file(self) -> None:
        if importlib.util.find_spec("milvus_lite") is None:
            raise UserError("no package milvus-lite, which runs on Linux and macOS",
                            "it, or http://HOST:PORT of a Milvus server", "run pip install -r requirements-milvus.txt")
        path = Path(self.uri)
        if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "collections").is_dir()):
            raise UserError(f"{path}, which Milvus Lite did not make", "a new name, or a folder that it made",
                            "choose another name")
        if not path.absolute().parent.is_dir():
            raise UserError(f"no folder {path.absolute().parent}", "one for the file of Milvus Lite", "make it first")

    def _not_opened(self) -> UserError:
        """Why a file of Milvus Lite does not open: most often another process has it."""
        try:
            with filelock.FileLock(Path(self.uri) / "LOCK", timeout=0):
                return UserError(f"{self.uri}, which Milvus Lite cannot open", "a folder that it made",
                                 "check the path and the rights")
        except filelock.Timeout:
            return UserError(f"{self.uri}, which another process has open", "one process at a time, as Milvus Lite "
                             "allows", "wait until that has ended, or run a Milvus server")

    def ask(self, method: str, *arguments: Any, **settings: Any) -> Any:
        """What the method of this name of `pymilvus.MilvusClient` returns.

        Raises:
            UserError: there is no server that answers, or it refuses.
        """
        client = self._client
        try:
            if method in _OF_LOADED and arguments[0] not in self._loaded:
                client.load_collection(arguments[0], timeout=CALL_SECONDS)  # Milvus Lite forgets that it was
                self._loaded.add(arguments[0])
            return getattr(client, method)(*arguments, timeout=CALL_SECONDS, **settings)
        except library().MilvusException as error:
            raise self._refusal(error) from error

    def rows(self, collection: str, fields: list[str], condition: str) -> list[dict[str, Any]]:
        """`fields` of the rows of a collection that meet the `condition`, in any order; raises a `UserError` as `ask`.

        One request for all: Milvus Lite looks at every row of a collection for each.
        """
        return self.ask("query", collection, filter=condition, output_fields=fields)

    def _refusal(self, error: Exception) -> UserError:
        return UserError(f"Milvus at {self.uri}, which refuses or does not answer ({_reason(error)})",
                         "a server that works", "see its log, then run this again")

    def close(self) -> None:
        """End the connection; another process may then open the file of Milvus Lite."""
        self._loaded.clear()
        if client := self.__dict__.pop("_client", None):
            client.close()
        if self.is_lite and importlib.util.find_spec("milvus_lite"):
            importlib.import_module("milvus_lite.server_manager").server_manager_instance.release_server(self.uri)


@functools.cache
def connect(address: str) -> Connection:
    """The connection of this process to `address`, see `Connection`: Milvus Lite may be opened once."""
    return Connection(address)


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "message", error)).split())[:300]
