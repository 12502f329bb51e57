"""Which pictures belong together: the book, series or post that each comes from, from a CSV file or its path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.csv_files import malformed, read_table
from data.names import nfc
from utils import UserError, counted

_EXPECTED = "a CSV file with the columns path,group, FILE:COLUMN, or a regular expression with one group"


def read_groups(group_by: str, names: Iterable[str]) -> dict[str, str]:
    """Picture → its group, of those that have one.

    Args:
        group_by: a CSV file with the columns path and group; `FILE:COLUMN`, if another column has the groups; or else a
            regular expression with one group that is searched in the path.
        names: paths of the pictures below the source folder, "/"-separated. They are compared in NFC.

    Raises:
        UserError: the file is malformed, the expression is none or has not one group, no picture has a group, or all
            are in one.
    """
    names = list(names)
    if Path(group_by).is_file():
        groups = _look_up(names, _read_csv(group_by, "group"))
    elif (parts := group_by.rpartition(":"))[0] and Path(parts[0]).is_file():
        groups = _look_up(names, _read_csv(parts[0], parts[2]))
    else:
        groups = _search(names, _compile(group_by))
    if not groups:
        raise UserError(f"--group-by {group_by}, which gives none of {counted(len(names), 'picture')} a group",
                        'paths below --source-dir with "/", such as ' + next(iter(names), "Artist/1.jpg"),
                        "correct it")
    if len(groups) == len(names) and len(set(groups.values())) == 1:
        raise UserError(f"one group in the whole data set ({next(iter(groups.values()))!r}), by --group-by {group_by}",
                        "two groups at the least", "correct it, or leave it out")
    return groups


def _look_up(names: Iterable[str], groups: Mapping[str, str]) -> dict[str, str]:
    return {name: groups[nfc(name)] for name in names if nfc(name) in groups}


def _read_csv(path: str, column: str) -> dict[str, str]:
    """Path → group; an empty group is none."""
    groups: dict[str, str] = {}
    for line, row in read_table(path, ["path", column]):
        name, group = (nfc(cell).strip() for cell in row)
        if groups.setdefault(name, group) != group:
            raise malformed(path, line, f"the groups {groups[name]!r} and {group!r} for {name}", "one for each path")
    return {name: group for name, group in groups.items() if group}


def _compile(group_by: str) -> re.Pattern[str]:
    try:
        expression = re.compile(group_by)
    except re.error as error:
        raise UserError(f"--group-by {group_by}, which is no file, and no regular expression: {error}", _EXPECTED,
                        "correct it") from error
    if expression.groups != 1:
        raise UserError(f"--group-by {group_by}, which is no file, and a regular expression with {expression.groups} "
                        "groups", _EXPECTED, 'put round brackets around the one part that names the group, as in '
                        '"([^/]+)/[^/]*$"')
    return expression


def _search(names: Iterable[str], expression: re.Pattern[str]) -> dict[str, str]:
    found = {name: expression.search(nfc(name)) for name in names}
    return {name: nfc(match[1]) for name, match in found.items() if match and match[1]}


def check_group_names(asked: Iterable[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    """The groups of `--leave-groups-out`, in NFC.

    Raises:
        UserError: no picture is in one of them.
    """
    known, asked = set(groups.values()), tuple(nfc(name).strip() for name in asked)
    for name in asked:
        if name not in known:
            raise UserError(f"--leave-groups-out {name}, a group that no picture has",
                            f"groups by --group-by, such as {', '.join(sorted(known)[:5])}", "correct the name")
    return asked
