"""The sheet shows whole pictures in coloured frames, and says below and above what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageColor

from drawing import contact_sheet as module
from drawing import lettering
from drawing.contact_sheet import (
    FRAME,
    GAP,
    GONE,
    LEADING,
    LEAST,
    MARKS,
    SIDE,
    SMALL,
    TEXT,
    TITLE,
    Mark,
    Tile,
    caption_lines,
    contact_sheet,
)
from drawing.lettering import ESCAPES

TOP = GAP + TITLE + LEADING + GAP // 2  # of the first pictures, below a title
BELOW = LEADING + TEXT + SMALL + 2 * LEADING + GAP  # a tile: a line of its caption, its file's name, and the gap
Make = Callable[..., Tile]


@pytest.fixture
def tile(tmp_path: Path) -> Make:
    """Makes a tile, and its picture."""
    def make(*, mark: Mark = "plain", size: tuple[int, int] = (40, 40), caption: str = "x",
             file: str = "a.png") -> Tile:
        picture = tmp_path / f"{size}.bmp"
        Image.new("RGB", size, "gold").save(picture)
        return Tile(picture=picture, caption=caption, file=file, mark=mark)
    return make


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that are drawn."""
    lines: list[str] = []
    monkeypatch.setattr(module, "draw_text", lambda draw, start, text, *how: lines.append(text))
    return lines


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_frames_follow_the_marks_in_reading_order(tmp_path: Path, tile: Make) -> None:
    marks: list[Mark] = ["right", "wrong", "plain", "wrong"]
    contact_sheet([("", [tile(mark=mark) for mark in marks])], tmp_path / "sheet.png", title="x", columns=3)
    sheet, top = opened(tmp_path / "sheet.png"), TOP + TEXT + LEADING  # the meaning of the colours
    assert sheet.size == (max(LEAST, GAP + 3 * (SIDE + GAP)), top + 2 * (SIDE + BELOW))
    for number, mark in enumerate(marks):
        row, column = divmod(number, 3)
        corner = (GAP + column * (SIDE + GAP) + SIDE - 2, top + row * (SIDE + BELOW) + SIDE - 2)
        assert sheet.getpixel(corner) == ImageColor.getrgb("gold" if mark == "plain" else MARKS[mark][0])


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (1, 1)])
def test_a_picture_is_shown_whole_and_in_proportion(tmp_path: Path, tile: Make, size: tuple[int, int]) -> None:
    contact_sheet([("", [tile(size=size, mark="right")])], tmp_path / "sheet.png", title="")
    inside = opened(tmp_path / "sheet.png").crop((GAP, GAP, GAP + SIDE, GAP + TOP + SIDE))
    red, green, blue = ImageChops.difference(inside, Image.new("RGB", inside.size, "gold")).split()
    unlike = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    box = unlike.point(lambda value: 255 * (value == 0)).getbbox()
    scale = (SIDE - 2 * FRAME) / max(size)
    assert (box[2] - box[0], box[3] - box[1]) == tuple(round(side * scale) for side in size)


def test_each_section_has_its_heading_and_rows(tmp_path: Path, tile: Make, written: list[str]) -> None:
    sections = [("first", [tile(file="1"), tile(file="2"), tile(file="3")]), ("second", [tile(file="4")])]
    contact_sheet(sections, tmp_path / "sheet.png", title="all", columns=2, side=100)
    assert [line for line in written if line != "x"] == ["all", "first", "1", "2", "3", "second", "4"]
    heading = TEXT + LEADING + GAP // 2
    assert opened(tmp_path / "sheet.png").size == (LEAST, TOP + 2 * heading + 3 * (100 + BELOW))


def test_a_long_caption_stays_inside_its_tile(tmp_path: Path, tile: Make) -> None:
    contact_sheet([("", [tile(caption="W" * 200), tile(caption="", file="")])], tmp_path / "sheet.png", title="x")
    sheet = opened(tmp_path / "sheet.png")
    below = sheet.crop((GAP + SIDE, TOP + SIDE, sheet.width, sheet.height))
    assert below.getcolors() == [(below.width * below.height, (255, 255, 255))]


@pytest.mark.parametrize("picture", [None, Path("gone.png"), Path(__file__)], ids=["none", "gone", "damaged"])
def test_of_a_picture_that_cannot_be_read_the_name_is_shown(tmp_path: Path, written: list[str],
                                                             picture: Path | None) -> None:
    contact_sheet([("", [Tile(picture=picture, file="anna/1.png")])], tmp_path / "sheet.png", title="x")
    assert written == ["x", GONE, "anna/1.png"]


def test_names_take_a_second_line_before_they_are_cut(tile: Make) -> None:
    lines = caption_lines(tile(mark="wrong", caption="83% Hans_Holbein_the_Younger\nis " + "Gustave_Dore " * 9,
                               file="Gustave_Dore/0001.jpg"), SIDE)
    assert [line.text for line in lines[:2]] == ["83% Hans_Holbein_the_", "Younger"]
    assert len(lines) == 5
    assert lines[3].text.endswith("…")
    assert lines[4].text == "Gustave_Dore/0001.jpg"
    assert [line.colour == MARKS["wrong"][0] for line in lines] == [True, True, False, False, False]


@pytest.mark.parametrize("marks", [["right"], ["right", "wrong", "right"], ["not judged", "right", "wrong"]])
def test_the_colours_that_are_there_are_explained(tmp_path: Path, tile: Make, written: list[str],
                                                  marks: list[Mark]) -> None:
    contact_sheet([("", [tile(mark=mark) for mark in marks])], tmp_path / "sheet.png", title="3 pictures")
    legend = " ".join(written[1:3])
    assert [meaning in legend for _, _, meaning in MARKS.values()] == [*(mark in marks for mark in [*MARKS][:3]), True]


def test_escapes_are_explained_where_there_are_any(tmp_path: Path, tile: Make, written: list[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_file", lettering._font_file.__wrapped__)
    monkeypatch.setattr(lettering, "_system_fonts", tuple)
    contact_sheet([("", [tile(file="画师/1.png")])], tmp_path / "sheet.png", title="x")
    assert "".join(written).replace(" ", "").endswith(ESCAPES.replace(" ", ""))
    assert r"\u753b\u5e08/1.png" in written
