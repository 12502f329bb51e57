"""The sheet shows whole pictures in coloured frames, and says below and above what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageColor

from drawing import lettering
from drawing.contact_sheet import (
    FRAME,
    GAP,
    LINE,
    MEANINGS,
    SIDE,
    TITLE,
    VERDICTS,
    TextLine,
    Tile,
    caption_lines,
    contact_sheet,
    footnote,
    heading,
)
from drawing.lettering import NOTE

TOP = GAP + LINE + GAP - 5  # of the first pictures, below a line on the colours

def tile(colour: str = "gold", good: bool | None = None, size: tuple[int, int] = (40, 40), caption: str = "x",
         file: str = "") -> Tile:
    return Tile(image=Image.new("RGB", size, colour), caption=caption, file=file, good=good)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def said(lines: list[TextLine]) -> list[str]:
    return ["".join(text for text, _ in line.pieces).rstrip() for line in lines]


def test_frames_follow_the_verdicts_in_reading_order(tmp_path: Path) -> None:
    verdicts = [True, False, None, False]
    contact_sheet([tile(good=good) for good in verdicts], tmp_path / "sheet.png", columns=3)
    sheet = opened(tmp_path / "sheet.png")
    assert sheet.width == GAP + 3 * (SIDE + GAP)
    rows = SIDE + 6 + LINE + GAP
    assert sheet.height == TOP + 2 * rows
    for number, good in enumerate(verdicts):
        row, column = divmod(number, 3)
        corner = (GAP + column * (SIDE + GAP) + SIDE - 2, TOP + row * rows + SIDE - 2)
        assert sheet.getpixel(corner) == ImageColor.getrgb(VERDICTS[good][0])


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (1, 1)])
def test_a_picture_is_shown_whole_and_in_proportion(tmp_path: Path, size: tuple[int, int]) -> None:
    contact_sheet([tile(size=size)], tmp_path / "sheet.png")
    inside = opened(tmp_path / "sheet.png").crop((GAP, TOP, GAP + SIDE, TOP + SIDE))
    red, green, blue = ImageChops.difference(inside, Image.new("RGB", inside.size, "gold")).split()
    unlike = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    box = unlike.point(lambda value: 255 * (value == 0)).getbbox()
    scale = (SIDE - 2 * FRAME) / max(size)
    assert (box[2] - box[0], box[3] - box[1]) == tuple(round(side * scale) for side in size)


def test_fewer_pictures_than_columns_and_a_title(tmp_path: Path) -> None:
    contact_sheet([tile(), tile()], tmp_path / "plain.png", columns=6)
    contact_sheet([tile(), tile()], tmp_path / "titled.png", columns=6, title="Validation")
    plain, titled = opened(tmp_path / "plain.png"), opened(tmp_path / "titled.png")
    assert plain.width == titled.width == GAP + 2 * (SIDE + GAP)
    assert titled.height == plain.height + TITLE + 5


def test_a_long_caption_stays_inside_its_tile(tmp_path: Path) -> None:
    contact_sheet([tile(caption="W" * 200), tile(caption="")], tmp_path / "sheet.png", columns=2)
    sheet = opened(tmp_path / "sheet.png")
    below = sheet.crop((GAP + SIDE, TOP + SIDE, sheet.width, sheet.height))
    assert below.getcolors() == [(below.width * below.height, (255, 255, 255))]


def test_no_pictures_are_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


def test_names_take_a_second_line_before_they_are_cut() -> None:
    lines = caption_lines(tile(good=False, caption="83% Hans_Holbein_the_Younger\n(is " + "Gustave_Dore " * 9 + ")",
                             file="Gustave_Dore/0001.jpg"))
    assert said(lines)[:2] == ["83% Hans_Holbein_the_", "Younger"]
    assert len(lines) == 5
    assert said(lines)[3].endswith("…")
    assert said(lines)[4] == "Gustave_Dore/0001.jpg"
    assert [line.pieces[0][1] == VERDICTS[False][0] for line in lines] == [True, True, False, False, False]


@pytest.mark.parametrize("verdicts", [[True], [True, False, True], [None, True, False]])
def test_the_colours_that_are_there_are_explained(verdicts: list[bool | None]) -> None:
    title, *legend = heading([tile(good=good) for good in verdicts], "3 pictures", 1200)
    assert said([title]) == ["3 pictures"]
    text, = said(legend)
    assert [meaning in text for meaning in MEANINGS.values()] == [good in verdicts for good in MEANINGS]


def test_on_a_narrow_sheet_nothing_of_the_heading_is_cut() -> None:
    found = said(heading([tile(good=good) for good in MEANINGS], "1 of 2 right, 3 of 300 pictures shown", 200))
    assert len(found) > 4
    assert not [line for line in found if "…" in line]


def test_escapes_are_explained_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_system_fonts", tuple)
    assert " ".join(said(footnote([tile(file="画师/1.png")], 400))) == NOTE
    assert footnote([tile(), tile(caption="80% Anna\n(is Bob)")], 400) == []
