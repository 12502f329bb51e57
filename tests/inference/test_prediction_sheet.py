"""The sheet of predictions counts what is right, shows wrong answers first, and neighbours beside their picture."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from drawing.contact_sheet import Tile
from inference import prediction_sheet
from inference.prediction_sheet import MOST, MOST_QUERIES, write_prediction_sheet
from inference.records import Summary
from inference.tally import KnownArtists, Tally

CLASSES = ("anna", "bob")
Entry = tuple[str, dict[str, Any]]
Sheet = tuple[list[Tile], str, int]


def answer(name: str, best: int, probability: float = 0.8, **more: Any) -> Entry:
    """A prediction of class `best`; with a verdict, it is calibrated."""
    entry = {"class_id": best, "class_name": CLASSES[best], "probability": probability}
    if "verdict" in more:
        entry["calibrated_probability"] = probability / 2
    return name, {"classification": [entry], **more}


def draw(folder: Path, entries: list[Entry], gallery: dict[str, Path] | None = None) -> None:
    known, tally = KnownArtists(folder, CLASSES), Tally()
    for name, record in entries:
        tally.add(record, known.find(name))
    failures = [(name, record["error"]) for name, record in entries if "error" in record]
    write_prediction_sheet(folder / "sheet.png", iter(entries), Summary(len(entries), failures, tally=tally),
                           folder=folder, known=known, gallery=gallery)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Sheet]:
    """The tiles, title and columns of each sheet, which is drawn by another module."""
    drawn: list[Sheet] = []
    monkeypatch.setattr(prediction_sheet, "contact_sheet", lambda sections, path, title, columns: drawn.append(
        (sections[0][1], title, columns)))
    return drawn


def test_wrong_answers_come_first_the_most_probable_before_others(tmp_path: Path, sheets: list[Sheet]) -> None:
    draw(tmp_path, [answer("anna/1.png", 0), answer("anna/2.png", 1, 0.5), ("bob/1.png", {"error": "truncated"}),
                    answer("bob/2.png", 1), answer("bob/3.png", 0, 0.9), answer("nobody/1.png", 1)])
    (tiles, title, columns), = sheets
    assert (title, columns) == ("2 of 4 right; 5 pictures, wrong ones first; 1 could not be read", 6)
    assert [(tile.file, tile.mark, tile.caption) for tile in tiles] == [
        ("bob/3.png", "wrong", "90% anna\nis bob"), ("anna/2.png", "wrong", "50% bob\nis anna"),
        ("anna/1.png", "right", "80% anna"), ("bob/2.png", "right", "80% bob"),
        ("nobody/1.png", "not judged", "80% bob")]
    assert tiles[0].picture == tmp_path / "bob/3.png"


def test_calibrated_percentages_and_verdicts_are_told(tmp_path: Path, sheets: list[Sheet]) -> None:
    draw(tmp_path, [answer("anna/1.png", 0, verdict="confident"), answer("anna/2.png", 1, verdict="unknown"),
                    answer("bob/3.png", 1, verdict="unknown"), answer("new/2.png", 1, verdict="possible")])
    (tiles, title, _), = sheets
    assert title == (
        "2 of 3 right; 1 confident, 1 possible, 2 unknown; 4 pictures, wrong ones first; calibrated percentages")
    assert [tile.caption for tile in tiles] == ["40% bob\nunknown, is anna", "40% bob\nunknown",
                                                "40% anna\nconfident", "40% bob\npossible"]


def test_a_picture_for_which_nobody_is_named_is_not_right(tmp_path: Path, sheets: list[Sheet]) -> None:
    draw(tmp_path, [("anna/1.png", {"classification": []})])
    assert sheets[0][0][0].caption == "none named\nis anna"
    assert sheets[0][1] == "0 of 1 right; 1 picture, wrong ones first"


def test_without_the_truth_pictures_are_counted(tmp_path: Path, sheets: list[Sheet]) -> None:
    draw(tmp_path, [answer("new/1.png", 0)])
    assert sheets[0][1] == "1 picture"


@pytest.mark.parametrize("count", [1, MOST, MOST + 1, 3 * MOST])
def test_as_many_pictures_as_fit_are_shown_whatever_the_order_of_records(count: int, tmp_path: Path,
                                                                         sheets: list[Sheet]) -> None:
    entries = [answer(f"new/{number:03}.png", 0) for number in range(count)]
    draw(tmp_path, entries)
    draw(tmp_path, random.Random(0).sample(entries, count))
    (tiles, title, _), again = sheets
    assert again[0] == tiles
    names = [tile.file for tile in tiles]
    assert names == sorted(set(names))
    assert len(names) == min(count, MOST)
    if count > MOST:
        assert title == f"{MOST} of {count} pictures shown"
        assert names[-1] >= entries[MOST][0]  # not the first ones only
    draw(tmp_path, [*entries, answer("anna/wrong.png", 1)])
    assert sheets[-1][0][0].file == "anna/wrong.png"
    assert sheets[-1][1].endswith(", wrong ones first")


def test_each_picture_stands_beside_its_neighbours(tmp_path: Path, sheets: list[Sheet]) -> None:
    pictures = [{"image": f"{CLASSES[number % 2]}/{number}.png", "artist": CLASSES[number % 2],
                 "cosine_similarity": 0.9 - number / 10} for number in range(7)]
    record = {"pictures": pictures, "artists_by_neighbours": [{"artist": "anna", "share": 0.6}]}
    draw(tmp_path, [(f"bob/{number:02}.png", record) for number in range(MOST_QUERIES + 5)],
         gallery={"anna/0.png": tmp_path / "here.png"})
    (tiles, title, columns), = sheets
    assert (columns, len(tiles)) == (6, 6 * MOST_QUERIES)
    assert title.startswith(f"0 of {MOST_QUERIES + 5} right; {MOST_QUERIES} of {MOST_QUERIES + 5} pictures shown")
    query, first, second, *_ = tiles
    assert (query.mark, query.caption) == ("wrong", "60% anna\nis bob")
    assert (first.caption, first.file, first.picture) == ("0.90 anna", "anna/0.png", tmp_path / "here.png")
    assert (second.caption, second.file, second.picture) == ("0.80 bob", "bob/1.png", None)  # moved since


def test_nothing_readable_draws_nothing(tmp_path: Path, sheets: list[Sheet]) -> None:
    draw(tmp_path, [("1.png", {"error": "truncated"})])
    assert not sheets


def test_the_sheet_is_drawn_also_where_a_picture_is_gone_by_now(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    Image.new("RGB", (600, 300), "red").save(tmp_path / "anna" / "1.png")
    draw(tmp_path, [answer("anna/1.png", 0), answer("anna/2.png", 0)])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"
