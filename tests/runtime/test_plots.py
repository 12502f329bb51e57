"""The pictures hold what they are said to hold: whole thumbnails, coloured frames, legible names, every point."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageColor

from runtime import plots
from runtime.plots import FRAME, GAP, SIDE, TITLE, VERDICTS, Tile, contact_sheet, scatter, training_curves


def tile(colour: str = "gold", good: bool | None = None, size: tuple[int, int] = (40, 40), caption: str = "x") -> Tile:
    return Tile(image=Image.new("RGB", size, colour), caption=caption, good=good)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


@pytest.fixture
def without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    own = plots._font_files()[:1]
    monkeypatch.setattr(plots, "_font_files", lambda: own)


def test_frames_follow_the_verdicts_in_reading_order(tmp_path: Path) -> None:
    verdicts = [True, False, None, False]
    contact_sheet([tile(good=good) for good in verdicts], tmp_path / "sheet.png", columns=3)
    sheet = opened(tmp_path / "sheet.png")
    assert sheet.width == GAP + 3 * (SIDE + GAP)
    rows = (sheet.height - GAP) // 2
    for number, good in enumerate(verdicts):
        row, column = divmod(number, 3)
        corner = (GAP + column * (SIDE + GAP) + SIDE - 2, GAP + row * rows + SIDE - 2)
        assert sheet.getpixel(corner) == ImageColor.getrgb(VERDICTS[good][0])


@pytest.mark.parametrize("size", [(400, 100), (100, 400), (1, 1)])
def test_a_picture_is_shown_whole_and_in_proportion(tmp_path: Path, size: tuple[int, int]) -> None:
    contact_sheet([tile(size=size)], tmp_path / "sheet.png")
    inside = opened(tmp_path / "sheet.png").crop((GAP, GAP, GAP + SIDE, GAP + SIDE))
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
    assert titled.height == plain.height + TITLE + GAP


def test_a_long_caption_stays_inside_its_tile(tmp_path: Path) -> None:
    contact_sheet([tile(caption="W" * 200), tile(caption="")], tmp_path / "sheet.png", columns=2)
    sheet = opened(tmp_path / "sheet.png")
    below = sheet.crop((GAP + SIDE, GAP + SIDE, sheet.width, sheet.height))
    assert below.getcolors() == [(below.width * below.height, (255, 255, 255))]


def test_no_pictures_are_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], tmp_path / "sheet.png")
    assert not list(tmp_path.iterdir())


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("齐白石葛飾北斎Ж김é🎨\t\u202e\udc80")), max_size=12))
def test_every_character_is_drawn_by_a_glyph_or_as_an_escape(text: str) -> None:
    font, drawn = plots.typeset(text, 15)
    assert {ord(char) for char in drawn} <= plots._glyphs(font.path)
    font.getlength(drawn)


def test_names_no_font_knows_are_escaped(without_system_fonts: None) -> None:
    assert plots.typeset("齐 Dürer 石", 15)[1] == r"\u9f50 Dürer \u77f3"


def test_a_font_that_has_the_letters_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    own = plots._font_files()[0]
    monkeypatch.setattr(plots, "_font_files", lambda: ("poor", own))
    monkeypatch.setattr(plots, "_glyphs", lambda file: frozenset() if file == "poor" else frozenset(map(ord, "Жук")))
    font, drawn = plots.typeset("Жук", 15)
    assert (font.path, drawn) == (own, "Жук")


def test_fonts_of_boxes_are_never_chosen() -> None:
    assert not [file for file in plots._font_files() if "LastResort" in file.replace(" ", "")]


def test_curves_hold_every_point_that_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: (drawn.append(figure),
                                                                         save(figure, *args, **how)))
    records = [{"epoch": 0, "train_loss": 2.0, "lr": 1e-3}, {"epoch": 1, "train_loss": 1.0, "val_loss": 1.5,
                                                            "val_top1": 61.0, "lr": 5e-4}]
    training_curves(records, tmp_path / "curves.png")
    points = {line.get_label(): line.get_xydata().tolist() for axes in drawn[0].axes for line in axes.lines}
    assert points["training"] == [[0, 2.0], [1, 1.0]]
    assert points["validation"] == [[1, 1.5]]
    assert points["validation top-1"] == [[1, 61.0]]
    assert points["learning rate"] == [[0, 1e-3], [1, 5e-4]]
    assert opened(tmp_path / "curves.png").width > 1000


def test_curves_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    training_curves([], tmp_path / "curves.png")
    assert opened(tmp_path / "curves.png")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_scatter_labels_every_point_on_every_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: (drawn.append(figure),
                                                                         save(figure, *args, **how)))
    panels = {"parameters, M": [("one", 1.0, 10.0), ("two", 2.0, 5.0)], "top-1, %": [("one", 75.0, 10.0)]}
    scatter(panels, "images/s", tmp_path / "speed.png")
    for axes, (name, points) in zip(drawn[0].axes, panels.items(), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == (name, "images/s")
        assert [line.get_xydata().tolist() for line in axes.lines] == [[[x, y]] for _, x, y in points]
        assert [text.get_text() for text in axes.texts] == [label for label, _, _ in points]
    assert opened(tmp_path / "speed.png")
