"""Files inside tar files, at their offsets: an index is made once per tar, and nothing is unpacked.

A path may lead into a tar as into a folder: `train/shard-000000.tar/Anna/0001.jpg`.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, NamedTuple

from utils import check_regular_file

TAR = ".tar"
BLOCK = 512  # bytes: a tar consists of such blocks
_REGULAR, _LONG_NAME, _PAX = (b"0", b"\0", b"7"), b"L", b"x"
_NO_CONTENT = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
               b"S": "a sparse file"}
_PASSED_BY = (b"5", b"g", b"K", b"D", b"V")  # folders, and what concerns no single file
_LONGEST_HEADER = 2**20  # bytes of a long name, or of PAX records
_DEEPEST = 3  # tars within tars
_PLAIN = re.compile(r"(?:(?!\.\.?/)[^/\\:\0]+/)*(?!\.\.?$)[^/\\:\0]+")  # paths that no system reads otherwise


class TarError(OSError):
    """A tar that is cut off, damaged, or unfit to be read; the text says why."""


class Member(NamedTuple):
    """Where the content of a file lies in a tar, in bytes."""

    offset: int
    size: int


@dataclass(frozen=True)
class TarIndex:
    """What a tar holds.

    Attributes:
        members: path → place of each file, those of tars within it below their names.
        passed_over: path → what it is, for links and other things without content.
    """

    members: dict[str, Member]
    passed_over: dict[str, str]


def index_tar(path: str | os.PathLike[str]) -> TarIndex:
    """The index of an uncompressed tar, made when it is first asked for, and again when the file has changed.

    Names may be of any length and script (PAX, GNU and ustar). Of two files of one name the last counts.

    Raises:
        OSError: it cannot be read.
        TarError: it is cut off or damaged, or a name leads out of it.
    """
    check_regular_file(path)
    status = os.stat(path)
    return _index(os.path.abspath(path), status.st_size, status.st_mtime_ns)


@functools.cache
def _index(path: str, size: int, modified: int) -> TarIndex:
    index = TarIndex({}, {})
    with open(path, "rb") as file:
        for name, kind, member in _files_in(file, Member(0, size), _DEEPEST):
            if kind:
                index.passed_over[name] = f"{kind} in a tar"
            else:
                index.members[name] = member
    return index


def find_member(path: str | os.PathLike[str]) -> tuple[Path, Member] | None:
    """The tar that `path` leads into, and the place of the file there; None for any other path.

    Raises:
        OSError: the tar lacks such a file, or see `index_tar`.
    """
    text = os.fspath(path)
    if TAR not in text.lower():
        return None
    parts = Path(text).parts
    for end in range(1, len(parts)):
        if parts[end - 1].lower().endswith(TAR) and (tar := Path(*parts[:end])).is_file():
            member = index_tar(tar).members.get("/".join(parts[end:]))
            if member is None:
                raise TarError(f"no such file in {tar}")
            return tar, member
    return None


def is_file(path: Path) -> bool:
    """Whether there is a file at `path`, on disk or in a tar."""
    try:
        return path.is_file() or find_member(path) is not None
    except OSError:
        return False


def read_member(tar: str | os.PathLike[str], member: Member) -> bytes:
    """The content of a file in a tar.

    Raises:
        OSError: it cannot be read, or the tar is shorter than when it was indexed.
    """
    with open(tar, "rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    if len(content) < member.size:
        raise TarError("the tar has become shorter")
    return content


def _files_in(file: IO[bytes], whole: Member, depth: int) -> Iterator[tuple[str, str, Member]]:
    """Path, what it is ("" for a file with content) and place of all that lies in a tar, and in tars within it."""
    for name, kind, member in _read_headers(file, whole):
        if kind in _REGULAR and name.lower().endswith(TAR) and depth:
            yield from ((f"{name}/{inner}", what, place) for inner, what, place in _files_in(file, member, depth - 1))
        elif kind in _REGULAR:
            yield name, "", member
        elif kind not in _PASSED_BY:
            yield name, _NO_CONTENT.get(kind, "of an unknown type"), member


def _read_headers(file: IO[bytes], whole: Member) -> Iterator[tuple[str, bytes, Member]]:
    """Path, type and place of each member of the tar at `whole` in an open file."""
    position, end = whole.offset, whole.offset + whole.size
    name, size = None, None  # as a long name or PAX records before the header give them
    while True:
        file.seek(position)
        header = file.read(BLOCK) if position + BLOCK <= end else b""
        if len(header) < BLOCK:
            raise TarError(f"cut off after {position - whole.offset} bytes, without the end that a tar has")
        if not header[0] and not header.strip(b"\0"):
            return
        if _number(checksum := header[148:156]) != sum(header) - sum(checksum) + 8 * 32:
            raise TarError(f"no header where one should be, after {position - whole.offset} bytes")
        kind, own = header[156:157], _number(header[124:136])
        length = own if size is None or kind in (_PAX, _LONG_NAME) else size
        content = Member(position + BLOCK, length if kind not in (b"1", b"2", b"5") else 0)
        position = content.offset + -(-content.size // BLOCK) * BLOCK
        if position > end:
            raise TarError(f"cut off: {_own_name(header)[:200]} ends after the tar's end")
        if kind in (_PAX, _LONG_NAME):
            text = _read_text(file, content)
            if kind == _LONG_NAME:
                name = _decode(text.rstrip(b"\0"))
            else:
                records = _pax_records(text)
                name = _decode(records["path"]) if "path" in records else name
                size = _count(records["size"]) if "size" in records else size
            continue
        yield _safe_name(_own_name(header) if name is None else name), kind, content
        name, size = None, None


def _read_text(file: IO[bytes], content: Member) -> bytes:
    if content.size > _LONGEST_HEADER:
        raise TarError(f"a name of {content.size} bytes")
    file.seek(content.offset)
    return file.read(content.size)


def _own_name(header: bytes) -> str:
    """The path that a header itself gives; `ustar` is followed by a NUL where the prefix belongs to it."""
    name, prefix = header[:100].partition(b"\0")[0], header[345:500].partition(b"\0")[0]
    return _decode(prefix + b"/" + name if prefix and header[257:263] == b"ustar\0" else name)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _safe_name(name: str) -> str:
    """`name` without `./`; raises a `TarError` for one that leads out of the tar."""
    if _PLAIN.fullmatch(name):
        return name
    windows = PureWindowsPath(name)
    if "\0" in name or ".." in windows.parts or windows.drive or windows.root:
        raise TarError(f"the member {name[:200]!r} leads out of the tar")
    return PurePosixPath(name).as_posix()


def _number(field: bytes) -> int:
    """The number in a field of a header: octal digits, or from 0x80 on binary."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7f]) + field[1:], "big")
    return _count(field.strip(b" \0") or b"0", 8)


def _count(digits: bytes, base: int = 10) -> int:
    try:
        return int(digits, base) if digits.isdigit() else int("", base)
    except ValueError:
        raise TarError(f"{digits[:20]!r} instead of a number") from None


def _pax_records(text: bytes) -> dict[str, bytes]:
    """Key → value of PAX records, each `LENGTH key=value` with a line feed at its end."""
    records: dict[str, bytes] = {}
    while text:
        digits, space, _ = text.partition(b" ")
        length = _count(digits[:20])
        record = text[len(digits) + 1:length]
        if not space or not len(digits) + 1 < length <= len(text) or not record.endswith(b"\n"):
            raise TarError("PAX records that are damaged")
        key, _, value = record[:-1].partition(b"=")
        records[key.decode("utf-8", "replace")] = value
        text = text[length:]
    return records
