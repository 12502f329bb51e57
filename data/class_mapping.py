"""Which artist has which number (`class_mapping.csv`), and which folder is which artist (`artists.csv`)."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from data.csv_files import malformed, read_rows, write_rows

_CLASS_COLUMNS = ["class_id", "class_name"]
_ARTIST_COLUMNS = ["folder", "artist"]
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def read_class_mapping(path: str | os.PathLike[str]) -> list[str]:
    """The class names in the order of their ids, from a CSV file with the columns class_id, class_name.

    A byte order mark, CRLF line ends, blank lines and any order of the rows are accepted.

    Raises:
        UserError: the file is missing or malformed; ids are not 0…n-1, each once; names are empty or repeated.
    """
    names: dict[int, str] = {}
    lines: dict[str, int] = {}
    for line, (class_id, name) in _read_rows(path, _CLASS_COLUMNS):
        if not (class_id.isascii() and class_id.isdecimal()) or int(class_id) in names:
            raise malformed(path, line, f"the class_id {class_id!r}", "a whole number from 0, each once")
        if not name or name in lines:
            raise malformed(path, line, f"the class_name {name!r}" + (f" of line {lines[name]}" if name else ""),
                            "a name that no other class has")
        names[int(class_id)] = name
        lines[name] = line
    if not names:
        raise malformed(path, 2, "no class", "one row per class")
    if max(names) != len(names) - 1:
        missing = next(number for number in range(len(names)) if number not in names)
        raise malformed(path, lines[names[max(names)]], f"class_id {max(names)} but no class_id {missing}",
                        "ids 0 to n-1 without a gap")
    return [names[number] for number in range(len(names))]


def write_class_mapping(path: str | os.PathLike[str], classes: Sequence[str]) -> None:
    """Write `class_id,class_name` rows with ids 0…n-1, atomically, in UTF-8 with LF line ends."""
    write_rows(path, [_CLASS_COLUMNS, *enumerate(classes)])


def first_difference(found: Sequence[str], expected: Sequence[str]) -> str | None:
    """A phrase that names the first class id on which two class lists differ, with both names; None if they agree."""
    for number, (here, there) in enumerate(zip_longest(found, expected)):
        if here != there:
            this = "missing" if here is None else repr(here)
            return f"class {number} is {this} where {'no such class' if there is None else repr(there)} is expected"
    return None


def read_artist_map(path: str | os.PathLike[str]) -> dict[str, str]:
    """Folder name → artist, from a CSV file with the columns folder, artist; an empty artist leaves the folder out.

    Both are NFC-normalised and stripped of surrounding spaces.

    Raises:
        UserError: the file is missing or malformed, a folder is empty or named twice, or an artist's name cannot be
            a folder's.
    """
    artists: dict[str, str] = {}
    for line, row in _read_rows(path, _ARTIST_COLUMNS):
        folder, artist = (unicodedata.normalize("NFC", cell).strip() for cell in row)
        if not folder or folder in artists:
            raise malformed(path, line, f"the folder {folder!r}", "a folder's name, each once")
        problem = artist and folder_name_problem(artist)
        if problem:
            raise malformed(path, line, f"the artist {artist!r}, which {problem}", "a name that a folder can have")
        artists[folder] = artist
    return artists


def folder_name_problem(name: str) -> str | None:
    """Why a folder cannot be called `name` on every system ("holds ':'"), or None if it can; Windows is strictest."""
    forbidden = next((sign for sign in name if sign in '<>:"/\\|?*' or unicodedata.category(sign) == "Cc"), None)
    if forbidden:
        return f"holds {forbidden!r}"
    if any(unicodedata.category(letter) == "Cs" for letter in name):
        return "is no valid Unicode"
    if name.endswith((".", " ")):
        return "ends with a dot or a space"
    if name.startswith("."):
        return "starts with a dot, as hidden folders do"
    return "is a device on Windows" if name.partition(".")[0].upper() in _WINDOWS_DEVICES else None


def _read_rows(path: str | os.PathLike[str], columns: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row below the header, which is `columns`."""
    rows = read_rows(path, columns)
    line, header = next(rows)
    if [cell.strip() for cell in header] != columns:
        raise malformed(path, line, f"the header {','.join(header)!r}", ",".join(columns))
    for line, row in rows:
        if len(row) != len(columns):
            raise malformed(path, line, f"{len(row)} cell(s)", f"{len(columns)}: {','.join(columns)}")
        yield line, row
