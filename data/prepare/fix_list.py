"""Fix lists: CSV files that say whose pictures are, whatever folder they lie in, and which are left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from data.csv_files import malformed, read_table, write_rows
from data.names import as_text, folder_name_problem, from_text, nfc
from data.picture_files import PictureFolder
from data.prepare.artist_folders import read_artist_map
from utils import UserError

COLUMNS = ("path", "artist")
ANSWER_COLUMNS = ("picture", "artist")
REASON = "reason"  # a further column, for people


class Fix(NamedTuple):
    """One row: the picture's "/"-separated path below the source folder, its artist, empty to leave it out, and why."""

    path: str
    artist: str
    reason: str


def write_fix_list(path: str | os.PathLike[str], fixes: Iterable[Fix]) -> None:
    """Write a fix list, atomically."""
    write_rows(path, [(*COLUMNS, REASON), *([as_text(cell) for cell in fix] for fix in fixes)])


def read_fix_list(path: str | os.PathLike[str]) -> dict[str, str]:
    """Path of a picture → artist: an artist map of pictures; see `read_artist_map`."""
    return read_artist_map(path, "path")


def read_answers(path: str | os.PathLike[str], found: PictureFolder) -> list[Fix]:
    """The fixes that a table says which the page of serve_artist.py saved and a person corrected.

    Its columns are picture and artist; of several rows of a picture the first counts, and an empty artist leaves it
    out. A picture is named by its path below the root of `found`, or by its file name.

    Raises:
        UserError: the file is missing or malformed, or names no picture of `found`, or one of several.
    """
    places: dict[str, list[str]] = {}
    for name in found.names:
        for key in {nfc(name), nfc(name.rpartition("/")[2])}:
            places.setdefault(key, []).append(name)
    fixes: dict[str, Fix] = {}
    for line, row in read_table(path, ANSWER_COLUMNS):
        picture, artist = (nfc(from_text(re.sub("^'(?=[=+@\t\r-])", "", cell))).strip() for cell in row)
        names = places.get(picture, [])
        if len(names) != 1:
            raise malformed(path, line, f"the picture {picture!r}, of which {found.root} has {len(names)}",
                            "the name or path of one picture")
        if artist and (problem := folder_name_problem(artist)):
            raise malformed(path, line, f"the artist {artist!r}, which {problem}", "a name that a folder can have")
        fixes.setdefault(names[0], Fix(names[0], artist, "as the table says"))
    return list(fixes.values())


def select_pictures(found: PictureFolder, fixes: Mapping[str, str]) -> PictureFolder:
    """`found` without what `fixes` leave out, and without the loose pictures to which they give no artist.

    Raises:
        UserError: they name a picture that is not there.
    """
    names = {name: nfc(name) for name in found.names}
    unknown = sorted(fixes.keys() - {*names.values()})
    if unknown:
        raise UserError(f"the picture {unknown[0]!r} in --fix-list ({len(unknown)} such), which {found.root} lacks",
                        "paths of pictures below it, with / between folders", "correct the list")
    passed_over = {path: "left out by --fix-list" if fixes.get(name) == "" else "a picture in no artist's folder"
                   for path, name in names.items() if fixes.get(name, name.partition("/")[1]) == ""}
    return replace(found, names=[name for name in found.names if name not in passed_over],
                   passed_over=found.passed_over | passed_over)
