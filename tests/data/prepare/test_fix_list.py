"""Fix lists move and leave out single pictures, and name nothing that is not there."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists
from data.prepare.fix_list import Fix, read_answers, read_fix_list, select_pictures, write_fix_list
from utils import UserError


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(source: Path, fixes: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    found = select_pictures(find_pictures(source), fixes)
    artists = list_artists(found, artist_map={"C": "B"} if "C" in found.folders else {}, fixes=fixes)
    return {artist: [(picture.source, picture.name) for picture in pictures] for artist, pictures in artists.items()}


def test_pictures_move_stay_and_are_left_out(tmp_path: Path) -> None:
    tree(tmp_path, "A/1.png", "A/sub/2.png", "B/1.png", "C/3.png", "loose.png", "other.png")
    fixes = {"A/1.png": "B", "A/sub/2.png": "New", "B/1.png": "", "loose.png": "A", "C/3.png": "B"}
    assert listed(tmp_path, fixes) == {
        "A": [("loose.png", "loose.png")], "B": [("A/1.png", "1.png"), ("C/3.png", "C/3.png")],
        "New": [("A/sub/2.png", "sub/2.png")]}
    found = select_pictures(find_pictures(tmp_path), {"B/1.png": ""})
    assert found.passed_over == {"B/1.png": "left out by --fix-list", "loose.png": "a picture in no artist's folder",
                                 "other.png": "a picture in no artist's folder"}


def test_without_fixes_the_pictures_are_those_in_artists_folders(tmp_path: Path) -> None:
    found = find_pictures(tree(tmp_path, "A/1.png", "B/2.png", "loose.png"))
    assert select_pictures(found, {}) == found.without_loose()


def test_a_folder_without_artists_needs_none_where_the_list_names_them(tmp_path: Path) -> None:
    assert listed(tree(tmp_path, "1.png"), {"1.png": "A"}) == {"A": [("1.png", "1.png")]}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    apart = unicodedata.normalize("NFD", "é.png")
    write_fix_list(tmp_path / "x.csv", [Fix(f"A/{apart}", "B", "moved from A"), Fix("a,\n.png", "", "deleted")])
    assert read_fix_list(tmp_path / "x.csv") == {"A/é.png": "B", "a,\n.png": ""}


@pytest.mark.parametrize("row", ["A/1.png,x/y", ",A", "A/1.png,A\nA/1.png,B"])
def test_a_list_with_an_error_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "x.csv").write_text(f"path,artist\n{row}\n")
    with pytest.raises(UserError, match=r"x\.csv, line [23]"):
        read_fix_list(tmp_path / "x.csv")


def test_a_picture_that_is_not_there_and_artists_alike_but_for_case_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "A/1.png", "B/1.png")
    with pytest.raises(UserError, match=r"'A/2\.png' in --fix-list \(1 such\)"):
        listed(tmp_path, {"A/2.png": "B"})
    with pytest.raises(UserError, match="differ in more than case"):
        listed(tmp_path, {"A/1.png": "b"})


def test_a_saved_table_says_whose_pictures_are(tmp_path: Path) -> None:
    found = find_pictures(tree(tmp_path / "in", "x/a.png", "x/b.png", "y/b.png", "=c.png", "d.png"))
    table = tmp_path / "artists.csv"
    table.write_text("\ufeffpicture,verdict,artist,probability\r\na.png,,B,0.9\r\na.png,,C,0.1\r\ny/b.png,,,0\r\n"
                     "'=c.png,,D,1\r\n", encoding="utf-8")
    assert [fix[:2] for fix in read_answers(table, found)] == [("x/a.png", "B"), ("y/b.png", ""), ("=c.png", "D")]
    for row, count in (("b.png,A", 2), ("e.png,A", 0)):
        table.write_text(f"picture,artist\n{row}\n")
        with pytest.raises(UserError, match=rf"of which .* has {count} in"):
            read_answers(table, found)
    table.write_text("picture,artist\na.png,x/y\n")
    with pytest.raises(UserError, match=r"artist 'x/y'"):
        read_answers(table, found)
