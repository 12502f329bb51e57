"""The pictures of each artist in a source folder, which has one or several folders per artist."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from data.csv_files import malformed, read_table
from data.names import folder_name_problem, from_text, nfc
from data.picture_files import PictureFolder
from utils import UserError


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture file.

    Attributes:
        artist: its class.
        source: its path relative to the source folder, "/"-separated, as it is spelled on disk.
        name: its path inside the artist's folder of the output in NFC, if no other picture has it.
    """

    artist: str
    source: str
    name: str


def list_artists(source: PictureFolder, *, artist_map: Mapping[str, str],
                 fixes: Mapping[str, str] = MappingProxyType({})) -> dict[str, list[Picture]]:
    """Artist → pictures of the folders of `source`, both in an order that depends on names only.

    Names are compared in Unicode's NFC. A folder that `artist_map` lacks is an artist of its own name. Pictures of
    merged folders keep their folder as part of their name. `fixes` have the artist of single pictures by their path in
    NFC, whatever folder they lie in.

    Raises:
        UserError: no artist folder in it, a map that names folders it lacks, or an artist's name that no folder can
            have on Windows or that differs from another one in case only.
    """
    if not (source.folders or fixes):
        raise UserError(f"no artist folder in {source.root}", "one folder of pictures per artist", "check the path")
    unknown = sorted(artist_map.keys() - set(map(nfc, source.folders)))
    if unknown:
        raise UserError(f"the folder {unknown[0]!r} in --artist-map ({len(unknown)} such), which {source.root} lacks",
                        "names of folders in --source-dir", "correct the map")
    members: dict[str, list[str]] = defaultdict(list)
    for folder in source.folders:
        artist = artist_map.get(nfc(folder), nfc(folder))
        if artist:
            members[artist].append(folder)
    owners = {folder: artist for artist, folders in members.items() for folder in folders}
    names: dict[str, list[str]] = defaultdict(list)
    moved: dict[str, list[Picture]] = defaultdict(list)
    for name in source.names:
        folder, _, rest = name.partition("/")
        artist = fixes.get(nfc(name))
        if artist and artist != owners.get(folder):
            moved[artist].append(Picture(artist=artist, source=name, name=nfc(rest or name)))
        else:
            names[folder].append(name)
    artists = sorted({*members, *moved})
    _check_artist_names(artists)
    return {artist: sorted([*_list_pictures(artist, {folder: names[folder] for folder in members[artist]}),
                            *moved[artist]], key=_order) for artist in artists}


def _check_artist_names(artists: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for artist in artists:
        problem = folder_name_problem(artist)
        if problem:
            raise UserError(f"the artist {artist!r}, which {problem}", "a name that a folder can have on every system",
                            "rename the folder, or give it another name with prepare_dataset.py --artist-map")
        other = seen.setdefault(artist.casefold(), artist)
        if other != artist:
            raise UserError(f"the artists {other!r} and {artist!r}", "names that differ in more than case (Windows and "
                            "macOS take them for one folder)",
                            "rename one, or merge them with prepare_dataset.py --artist-map")


def _list_pictures(artist: str, folders: Mapping[str, Sequence[str]]) -> list[Picture]:
    """The artist's pictures, from the paths below the source by folder."""
    return [Picture(artist=artist, source=name, name=nfc(name if len(folders) > 1 else name.partition("/")[2]))
            for names in folders.values() for name in names]


def _order(picture: Picture) -> tuple[str, str]:
    return nfc(picture.source), picture.source


def read_artist_map(path: str | os.PathLike[str], column: Literal["folder", "path"] = "folder") -> dict[str, str]:
    """Folder name, or a picture's path, → artist, from a CSV file; an empty artist leaves the folder or picture out.

    Both are NFC-normalised and stripped of surrounding spaces; signs that no text file holds are `as_text`'s.

    Args:
        path: a file with the columns `column` and artist.
        column: what belongs to an artist.

    Raises:
        UserError: the file is missing or malformed, a folder or path is empty or named twice, or an artist's name
            cannot be a folder's.
    """
    artists: dict[str, str] = {}
    for line, row in read_table(path, [column, "artist"]):
        name, artist = (nfc(from_text(cell)).strip() for cell in row)
        if not name or name in artists:
            expected = {"folder": "a folder's name, each once", "path": "a picture's path, each once"}[column]
            raise malformed(path, line, f"the {column} {name!r}", expected)
        problem = artist and folder_name_problem(artist)
        if problem:
            raise malformed(path, line, f"the artist {artist!r}, which {problem}", "a name that a folder can have")
        artists[name] = artist
    return artists
