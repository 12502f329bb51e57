"""Folders become artists by names alone: any script, any spelling of an accent, renamed and merged by a map."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists, read_artist_map
from utils import UserError


def tree(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(source: Path, artist_map: dict[str, str] | None = None) -> dict[str, list[tuple[str, str]]]:
    artists = list_artists(find_pictures(source), artist_map=artist_map or {})
    assert all(picture.artist == artist for artist, pictures in artists.items() for picture in pictures)
    return {artist: [(picture.source, picture.name) for picture in pictures] for artist, pictures in artists.items()}


def test_folders_are_artists_and_sub_folders_keep_names_apart(tmp_path: Path) -> None:
    tree(tmp_path, "Bob/1.png", "Bob/early/1.png", "Bob/late work/1.PNG", "安娜 A/图.jpg", "loose.png", ".git/x.png",
         "Bob/notes.txt")
    (tmp_path / "Empty").mkdir()
    assert listed(tmp_path) == {
        "Bob": [("Bob/1.png", "1.png"), ("Bob/early/1.png", "early/1.png"), ("Bob/late work/1.PNG", "late work/1.PNG")],
        "Empty": [], "安娜 A": [("安娜 A/图.jpg", "图.jpg")]}


def test_a_map_renames_merges_and_leaves_out(tmp_path: Path) -> None:
    tree(tmp_path, "a/1.png", "a2/1.png", "b/1.png", "c/1.png", "d/1.png")
    assert listed(tmp_path, {"a": "Anna", "a2": "Anna", "b": "Béla", "c": ""}) == {
        "Anna": [("a/1.png", "a/1.png"), ("a2/1.png", "a2/1.png")],  # same names, so their folders tell them apart
        "Béla": [("b/1.png", "1.png")], "d": [("d/1.png", "1.png")]}


def test_a_folder_can_join_one_that_has_the_artists_name(tmp_path: Path) -> None:
    tree(tmp_path, "Anna/Anna2/1.png", "Anna2/1.png")
    assert listed(tmp_path, {"Anna2": "Anna"}) == {
        "Anna": [("Anna/Anna2/1.png", "Anna/Anna2/1.png"), ("Anna2/1.png", "Anna2/1.png")]}


def test_the_two_spellings_of_an_accent_are_one_name(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    tree(tmp_path, f"{apart}/é.png")
    assert list(listed(tmp_path)) == [composed]
    assert listed(tmp_path, {composed: "Z"}) == {"Z": listed(tmp_path)[composed]}
    tree(tmp_path / "x", f"{unicodedata.normalize('NFD', 'é')}.png")
    assert listed(tmp_path)["x"][0][1] == "\u00e9.png"


@pytest.mark.parametrize(("names", "artist_map", "complaint"), [
    ([], {}, "no artist folder"), (["loose.png"], {}, "no artist folder"), (["a/1.png"], {"A": "x"}, "'A'"),
    (["a/1.png", "A/1.png"], {}, "'A' and 'a'"), (["a/1.png", "b/1.png"], {"b": "A"}, "'A'|'a'"),
    (["aux/1.png"], {}, "device"), (["a./1.png"], {}, "dot")])
def test_what_cannot_be_a_data_set_is_refused(tmp_path: Path, names: list[str], artist_map: dict[str, str],
                                              complaint: str) -> None:
    if os.name == "nt" and complaint != "no artist folder":
        pytest.skip("Windows itself refuses such names")
    (tmp_path / "source").mkdir()
    with pytest.raises(UserError, match=complaint):
        listed(tree(tmp_path / "source", *names), artist_map)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_source_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=name):
        listed(tmp_path / name)


# ---- artists.csv -----------------------------------------------------------------------------------------------------


def artist_map(folder: Path, rows: str) -> dict[str, str]:
    (folder / "artists.csv").write_text("folder,artist\n" + rows, encoding="utf-8-sig", newline="\r\n")
    return read_artist_map(folder / "artists.csv")


def test_folders_are_renamed_merged_and_left_out(tmp_path: Path) -> None:
    assert artist_map(tmp_path, 'a1,Anna\na2, Anna \n"b,c",\nZoe\u0308,画家\n') == {
        "a1": "Anna", "a2": "Anna", "b,c": "", "Zoë": "画家"}


@pytest.mark.parametrize(("rows", "complaint"), [
    ("a,A\na,B\n", "'a' in"), (",B\n", "''"), ("a,x/y\n", "holds '/'"), ("a,x\\y\n", "holds '\\\\\\\\'"),
    ("a,..\n", "dot"), ("a,con\n", "device"), ("a\n", "1 cell")])
def test_a_map_that_cannot_work_is_refused(tmp_path: Path, rows: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        artist_map(tmp_path, rows)
