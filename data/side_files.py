"""Text that others may have made: lines, and JSON read as the type that is asked for, or refused.

`msgspec` checks types, ranges and lengths. It does not read the text, since it refuses the lone surrogates that stand
for file names which are no valid Unicode.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from typing import IO, Any, TypeVar

import msgspec

from utils import LARGEST, UserError, check_regular_file, read_bytes

LONGEST_LINE = 2**26  # bytes of a line of JSON
Kind = TypeVar("Kind")


def parse_json(text: str | bytes, kind: type[Kind]) -> Kind:
    """The JSON `text`, UTF-8, as a `kind`: a dataclass, or any type that `msgspec.convert` knows.

    Raises:
        ValueError: it is no JSON, nested too deep, has a key twice or a number that is not finite, or is no `kind`.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return msgspec.convert(_DECODER.decode(text), kind)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(path: str | os.PathLike[str], kind: type[Kind], *, expected: str, action: str,
              most: int = LARGEST) -> Kind:
    """The JSON file `path` of at most so many bytes as a `kind`.

    Raises:
        UserError: it cannot be read, see `utils.read_bytes`, or its content not, see `parse_json`; `expected` and
            `action` complete the message.
    """
    try:
        return parse_json(read_bytes(path, most), kind)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, expected=expected, action=action) from error


def read_large_json(path: str | os.PathLike[str], kind: type[Kind], *, expected: str, action: str) -> Kind:
    """`read_json` for files of millions of numbers: by msgspec itself, in a twentieth of the time.

    It refuses file names that are no valid Unicode, and of a key that comes twice it takes the last.

    Raises:
        UserError: see `read_json`; numbers may be infinite, which the caller checks.
    """
    try:
        return msgspec.json.decode(read_bytes(path).removeprefix(b"\xef\xbb\xbf"), type=kind)
    except RecursionError as error:
        raise unreadable(path, ValueError("nested too deep"), expected=expected, action=action) from error
    except (OSError, ValueError) as error:
        raise unreadable(path, error, expected=expected, action=action) from error


def read_text(path: str | os.PathLike[str], *, expected: str, action: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; raises a `UserError` as `read_json` does."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise unreadable(path, error, expected=expected, action=action) from error


def split_lines(text: str) -> list[str]:
    """The lines of `text`, which end with LF or CRLF; the last may have no end.

    `str.splitlines` would split at U+2028, form feeds and other signs, too, which names of files may have.
    """
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines of a regular file with their ends; the last is cut off at `LONGEST_LINE` bytes if it is longer.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    check_regular_file(path)
    with open(path, "rb") as file:
        yield from whole_lines(file)


def whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of an open file, up to and with the first that is longer than `LONGEST_LINE`, which is cut off."""
    while line := file.readline(LONGEST_LINE):
        yield line
        if len(line) == LONGEST_LINE:
            return


def unreadable(path: str | os.PathLike[str], error: Exception, *, expected: str, action: str) -> UserError:
    """The `UserError` for a file that raised `error` while it was read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"{path}, which cannot be read ({reason[:300]})", expected, action)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]}, which is not finite")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_finite)
