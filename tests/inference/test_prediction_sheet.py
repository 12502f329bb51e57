"""The sheet of predictions counts what is right, shows a share of the pictures and survives one that is gone."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drawing.contact_sheet import Tile
from inference import prediction_sheet
from inference.prediction_sheet import MOST, write_prediction_sheet

CLASSES = ("anna", "bob")
Entry = tuple[str, dict[str, Any]]


def answer(folder: Path, name: str, best: int, **more: str) -> Entry:
    """A picture on disk, and a prediction of class `best` with probability 0.8."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (600, 300), "red").save(folder / name)
    return name, {"classification": [{"class_id": best, "class_name": CLASSES[best], "probability": 0.8}], **more}


def draw(folder: Path, entries: Iterable[Entry], readable: int) -> None:
    write_prediction_sheet(folder / "sheet.png", iter(entries), readable=readable, folder=folder, classes=CLASSES)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tile], str]]:
    """The tiles and the title of each sheet, which is drawn by another module."""
    drawn: list[tuple[list[Tile], str]] = []
    monkeypatch.setattr(prediction_sheet, "contact_sheet", lambda tiles, path, title: drawn.append((tiles, title)))
    return drawn


def test_right_and_labelled_are_counted(tmp_path: Path, sheets: list) -> None:
    answers = [answer(tmp_path, "anna/1.png", 0), answer(tmp_path, "anna/2.png", 1),
               ("bob/1.png", {"error": "truncated"}), answer(tmp_path, "bob/2.png", 1, verdict="confident"),
               answer(tmp_path, "nobody/1.png", 1, verdict="unknown")]
    draw(tmp_path, answers, 4)
    (tiles, title), = sheets
    assert title == "2 of 3 right, 4 pictures, 1 could not be read"
    assert [tile.good for tile in tiles] == [True, False, True, None]
    assert [tile.caption for tile in tiles] == ["80% anna", "80% bob\n(is anna)", "80% bob", "80% bob (unknown)"]
    assert [tile.file for tile in tiles] == ["anna/1.png", "anna/2.png", "bob/2.png", "nobody/1.png"]
    assert {tile.image.size for tile in tiles} == {(256, 128)}


def test_the_first_folder_in_nfc_is_the_truth(tmp_path: Path, sheets: list) -> None:
    names = [f"{CLASSES[0]}/late/bob/1.png", "bob/anna/2.png", f"{unicodedata.normalize('NFD', 'Zoë')}/3.png"]
    entries = [answer(tmp_path, name, 0) for name in names]
    write_prediction_sheet(tmp_path / "sheet.png", entries, readable=3, folder=tmp_path, classes=(*CLASSES, "Zoë"))
    assert sheets[0][1] == "1 of 3 right, 3 pictures"
    assert [tile.caption for tile in sheets[0][0]] == ["80% anna", "80% anna\n(is bob)", "80% anna\n(is Zoë)"]


def test_of_a_loose_picture_the_folder_itself_is_the_truth(tmp_path: Path, sheets: list) -> None:
    draw(tmp_path / "anna", [answer(tmp_path / "anna", "1.png", 1)], 1)
    draw(tmp_path, [answer(tmp_path, "1.png", 1)], 1)
    assert [title for _, title in sheets] == ["0 of 1 right, 1 picture", "1 picture"]


def test_a_picture_for_which_nobody_is_named_is_not_right(tmp_path: Path, sheets: list) -> None:
    name, _ = answer(tmp_path, "anna/1.png", 0)
    draw(tmp_path, [(name, {"classification": []})], 1)
    assert sheets[0][1] == "0 of 1 right, 1 picture"
    assert sheets[0][0][0].caption == "none named\n(is anna)"


def test_without_the_truth_pictures_are_counted(tmp_path: Path, sheets: list) -> None:
    draw(tmp_path, [answer(tmp_path, "new/1.png", 0)], 1)
    assert sheets[0][1] == "1 picture"


@pytest.mark.parametrize("readable", [1, MOST, MOST + 1, 2 * MOST - 1, 2 * MOST, 2 * MOST + 1, 140, 5 * MOST + 3])
def test_as_many_pictures_as_fit_are_shown_from_all_over_the_folder(readable: int, tmp_path: Path, sheets: list,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction_sheet, "decode_image", lambda path: Image.new("RGB", (8, 8)))
    record = {"classification": [{"class_id": 0, "class_name": "anna", "probability": 0.8}]}
    draw(tmp_path, [entry for number in range(readable) for entry in (
        (f"anna/{number}.png", record), (f"anna/{number}.txt", {"error": "truncated"}))], readable)
    (tiles, title), = sheets
    assert len({tile.file for tile in tiles}) == len(tiles) == min(readable, MOST)
    shown = "1 picture" if readable == 1 else f"{readable} pictures"
    shown = f"{MOST} of {shown} shown" if readable > MOST else shown
    assert title == f"{readable} of {readable} right, {shown}, {readable} could not be read"
    places = [int(Path(tile.file).stem) for tile in tiles]
    assert places[0] == 0
    gaps = [after - before for before, after in itertools.pairwise(places)]
    assert max([*gaps, readable - places[-1]]) <= 2 * readable / len(tiles) + 1


def test_nothing_readable_draws_nothing(tmp_path: Path, sheets: list) -> None:
    draw(tmp_path, [("1.png", {"error": "truncated"})], 0)
    assert not sheets


def test_a_picture_that_is_gone_by_now_is_left_out(tmp_path: Path, sheets: list) -> None:
    answers = [answer(tmp_path, f"anna/{number}.png", 0) for number in range(3)]
    (tmp_path / "anna" / "1.png").unlink()
    draw(tmp_path, answers, 3)
    assert len(sheets[0][0]) == 2


def test_the_sheet_is_drawn(tmp_path: Path) -> None:
    draw(tmp_path, [answer(tmp_path, "anna/1.png", 0)], 1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
