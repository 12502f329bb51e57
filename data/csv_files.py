"""Reading and writing of CSV files. The only module that uses `csv`."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from utils import UserError, counted, read_bytes, text_stream


def read_rows(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header first; rows without text, as spreadsheets add, are skipped.

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
            if empty or any(cell.strip() for cell in row):
                yield reader.line_num, row
            empty = False
    except csv.Error as error:
        raise malformed(path, reader.line_num, str(error), "a CSV file") from error
    if empty:
        raise malformed(path, 1, "an empty file", ",".join(columns))


def read_table(path: str | os.PathLike[str], columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and the cells of `columns`, in this order, of each row; they are found by the names in the header.

    Other columns do not count.

    Raises:
        UserError: see `read_rows` and `find_columns`; or a row has another number of cells than the header.
    """
    rows = read_rows(path, columns)
    line, header = next(rows)
    places = find_columns(path, line, header, columns)
    for line, row in rows:
        if len(row) != len(header):
            raise malformed(path, line, counted(len(row), "cell"), f"{len(header)}: {','.join(header)}")
        yield line, [row[place] for place in places]


def read_table_at(path: str | os.PathLike[str], columns: Sequence[str], numbers: Iterable[int]) -> list[list[str]]:
    """The cells of `columns` of the rows of these `numbers`, from 0 on, of a file in which each row is one line.

    Only these rows are parsed, so that few rows of a large file take no time.

    Raises:
        UserError: see `read_table`; or there is no such row.
    """
    try:
        lines = read_bytes(path).rstrip(b"\n").split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", f"a CSV file {','.join(columns)}", "check the path") from error
    chosen = [*numbers]
    if any(not 0 <= number < len(lines) - 1 for number in chosen):  # the header is no row
        raise malformed(path, len(lines), "fewer rows", f"a row {max(chosen)}")
    text = b"\n".join(lines[0:1] + [lines[number + 1] for number in chosen]).decode("utf-8-sig", errors="replace")
    rows = csv.reader(io.StringIO(text, newline=""))
    places = find_columns(path, 1, next(rows), columns)
    found = [[row[place] for place in places if place < len(row)] for row in rows]
    if [len(row) for row in found] != [len(columns)] * len(chosen):
        raise malformed(path, 1, "rows of another form", ",".join(columns))
    return found


def find_columns(path: str | os.PathLike[str], line: int, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Where each of `columns` is in the `header`, which stands in `line`.

    Raises:
        UserError: it is not there, or twice.
    """
    names = [cell.strip() for cell in header]
    if any(names.count(column) != 1 for column in columns):
        raise malformed(path, line, f"the header {','.join(header)!r}", f"the columns {','.join(columns)}, each once")
    return [names.index(column) for column in columns]


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
