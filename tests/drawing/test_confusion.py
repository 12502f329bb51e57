"""The confusion picture is laid out around its cells, whatever the number and the script of the names."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from drawing import confusion, lettering
from drawing.confusion import GAP, LEAST, confusion_picture, most_confused
from drawing.lettering import ESCAPES, text_width

LONG = "Hans_Holbein_the_Younger"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are drawn."""
    texts: list[str] = []
    draw = confusion.draw_text
    monkeypatch.setattr(confusion, "draw_text", lambda draws, start, text, *how: (texts.append(text),
                                                                                  draw(draws, start, text, *how)))
    return texts


def test_the_pairs_most_often_confused_come_in_the_order_of_their_ids() -> None:
    assert most_confused({(5, 2): 3, (2, 0): 1, (7, 8): 1}, limit=2) == [2, 5]
    assert most_confused({(5, 2): 3, (2, 0): 1, (7, 8): 1}, limit=4) == [0, 2, 5]
    assert most_confused({}) == []
    many = {(number, 300 - number): 1 for number in range(150)}
    shown = most_confused(many)
    assert len(shown) == 30
    assert all(300 - number in shown for number in shown)  # no row whose confusions are elsewhere


@pytest.mark.parametrize("number", [2, 10, 30])
@pytest.mark.parametrize("name", ["Al", LONG])
def test_nothing_is_cut(number: int, name: str, tmp_path: Path) -> None:
    names = [name] * number
    confusion_picture({(row, (row + 1) % number): 1 for row in range(number)}, [1] * number, [2] * number, names,
                      tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width >= LEAST
        white = picture.convert("L").point(lambda value: 255 * (value < 255))
    left, top, right, bottom = white.getbbox()
    assert min(left, top) >= GAP // 2
    assert right <= picture.width
    assert bottom < picture.height
    assert picture.height > number * 38 + text_width(name, 15)


def test_letters_without_a_font_are_explained_once(written: list[str], tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_file", lettering._font_file.__wrapped__)
    monkeypatch.setattr(lettering, "_system_fonts", tuple)
    confusion_picture({(0, 1): 1}, [0, 0, 1], [1, 1, 1], ["画师", "齐白石", "Anna"], tmp_path / "a.png")
    assert r"\u753b\u5e08" in written
    assert "".join(written).replace(" ", "").endswith(ESCAPES.replace(" ", ""))
    written.clear()
    confusion_picture({(0, 1): 1}, [0, 0, 1], [1, 1, 1], ["Bob", "Eva", "画师"], tmp_path / "a.png")
    assert ESCAPES not in " ".join(written)


def test_cells_hold_shares_of_their_rows(written: list[str], tmp_path: Path) -> None:
    confusion_picture({(0, 2): 1}, [3, 9, 5], [4, 10, 5], ["costs $1 or $2", "never", "Bob"], tmp_path / "a.png")
    assert written[:2] == ["costs $1 or $2", "Bob"]
    assert written[2:5] == ["75", "25", "100"]
    assert written[5] == "89.5% of 19 pictures by 3 artists recognised"  # of all artists, not of those that are shown
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def test_with_nobody_confused_the_artists_with_most_pictures_are_drawn(written: list[str], tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion, "MOST", 2)
    confusion_picture({}, [3, 0, 1], [3, 0, 1], ["Anna", "Bob", "Eva"], tmp_path / "a.png")
    assert written[:2] == ["Anna", "Eva"]
    assert "the 2 artists with most pictures, none of them confused, % of each row's pictures" in written
