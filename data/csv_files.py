"""Reading and writing of CSV files. The only module that uses `csv`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from utils import UserError, read_bytes, text_stream


def read_rows(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header first; blank lines are skipped.

    The file is UTF-8, with or without a byte order mark. Its lines end with LF or CRLF.

    Args:
        path: the file.
        columns: the columns that the caller needs, for the messages.

    Raises:
        UserError: the file is missing, empty, not UTF-8 or no CSV.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", f"a CSV file {','.join(columns)}", "check the path") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise malformed(path, line, "bytes that are not UTF-8", "a file saved as CSV UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    empty = True
    try:
        for row in reader:
            if row or empty:
                yield reader.line_num, row
            empty = False
    except csv.Error as error:
        raise malformed(path, reader.line_num, str(error), "a CSV file") from error
    if empty:
        raise malformed(path, 1, "an empty file", ",".join(columns))


def read_table(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row below the header, which must be `columns`.

    Raises:
        UserError: see `read_rows`; or the header differs, or a row has another number of cells.
    """
    rows = read_rows(path, columns)
    line, header = next(rows)
    if [cell.strip() for cell in header] != [*columns]:
        raise malformed(path, line, f"the header {','.join(header)!r}", ",".join(columns))
    for line, row in rows:
        if len(row) != len(columns):
            raise malformed(path, line, f"{len(row)} cell(s)", f"{len(columns)}: {','.join(columns)}")
        yield line, row


def write_rows(path: str | os.PathLike[str], rows: Iterable[Iterable[object]]) -> None:
    """Write `rows`, the header among them, atomically, in UTF-8 with LF line ends."""
    with text_stream(path) as file:
        csv.writer(_LineFeeds(file), lineterminator="\r\n").writerows(rows)


class _LineFeeds:
    """Ends the rows of a `csv.writer` with LF; the writer ends them with CRLF so that it quotes a lone CR in a cell."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, row: str) -> int:
        return self.file.write(row.removesuffix("\r\n") + "\n")


def malformed(path: str | os.PathLike[str], line: int, found: str, expected: str) -> UserError:
    """The error of a file that breaks a rule in `line`."""
    return UserError(f"{found} in {path}, line {line}", expected, "correct the file")
