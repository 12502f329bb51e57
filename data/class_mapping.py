"""class_mapping.csv: the number of each class."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

from data.csv_files import malformed, read_table, write_rows
from data.names import nfc

CLASS_MAPPING = "class_mapping.csv"
_COLUMNS = ["class_id", "class_name"]


def read_class_mapping(path: str | os.PathLike[str]) -> list[str]:
    """The class names in the order of their ids; rows and columns may have any order, and other columns do not count.

    Raises:
        UserError: the file is missing or malformed; ids are not 0…n-1, each once; names are empty or repeated.
    """
    names: dict[int, str] = {}
    lines: dict[str, int] = {}
    for line, (class_id, name) in read_table(path, _COLUMNS):
        class_id = class_id.strip()
        if not re.fullmatch("[0-9]{1,9}", class_id) or int(class_id) in names:
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


def read_beside(file: Path, count: int) -> list[str] | None:
    """The class names of the class_mapping.csv beside `file`; None unless it is there and has `count` of them.

    Raises:
        UserError: see `read_class_mapping`.
    """
    path = file.with_name(CLASS_MAPPING)
    classes = read_class_mapping(path) if path.is_file() else []
    return classes if count and len(classes) == count else None


def write_class_mapping(path: str | os.PathLike[str], classes: Sequence[str]) -> None:
    """Write `class_id,class_name` rows with ids 0…n-1, atomically, in UTF-8 with LF line ends."""
    write_rows(path, [_COLUMNS, *enumerate(classes)])


def first_difference(found: Sequence[str], expected: Sequence[str]) -> str | None:
    """A phrase that names the first class id on which two class lists differ, with both names; None if they agree.

    Names are compared in NFC: earlier trainers took the names of folders as macOS spells them.
    """
    for number, (here, there) in enumerate(zip_longest(found, expected)):
        if (here and nfc(here)) != (there and nfc(there)):
            this = "missing" if here is None else repr(here)
            return f"class {number} is {this} where {'no such class' if there is None else repr(there)} is expected"
    return None
