"""The confusion picture is laid out around its cells, whatever the number and the script of the names."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from drawing import lettering
from drawing.confusion import CLEAR, MARGIN, confusion_picture, frame, most_confused
from drawing.lettering import NOTE

LONG = "Hans_Holbein_the_Younger"


def test_the_most_confused_come_in_the_order_of_their_ids() -> None:
    assert most_confused({(5, 2): 3, (2, 0): 1, (7, 8): 1}, limit=2) == [2, 5]
    assert most_confused({}) == []


@pytest.mark.parametrize("number", [2, 10, 30])
@pytest.mark.parametrize("name", ["Al", LONG])
def test_nothing_is_cut_and_little_is_empty(number: int, name: str) -> None:
    figure, axes = frame([name] * number)
    figure.canvas.draw()
    box, whole = axes.get_window_extent(), figure.bbox
    assert box.width == pytest.approx(box.height)
    title = figure.texts[0].get_window_extent()
    assert abs((title.x0 + title.x1) / 2 - (box.x0 + box.x1) / 2) < 2
    texts = [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts, figure.texts[0]]
    extents = [text.get_window_extent() for text in texts]
    for extent in extents:
        assert whole.x0 < extent.x0 < extent.x1 < whole.x1
        assert whole.y0 < extent.y0 < extent.y1 < whole.y1
    shown = {text.get_text(): extent for text, extent in zip(axes.texts, extents[2 * number:], strict=False)}
    assert sorted(shown) == ["drawn by ↓", "recognised as →"]
    assert all(0 < box.x0 - extent.x1 < 20 for extent in shown.values())
    if name == LONG:
        margin = (MARGIN + CLEAR) * figure.dpi
        assert min(extent.x0 for extent in extents) < margin
        assert min(extent.y0 for extent in extents) < margin


def test_letters_without_a_font_are_explained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_system_fonts", tuple)
    figure, axes = frame(["画师", "齐白石", "Anna"])
    assert figure.texts[1].get_text().replace("\n", " ") == NOTE
    assert axes.get_yticklabels()[0].get_text() == r"\u753b\u5e08"
    figure.canvas.draw()
    note = figure.texts[1].get_window_extent()
    assert note.x1 < figure.bbox.x1
    assert note.y1 < min(label.get_window_extent().y0 for label in axes.get_xticklabels())
    assert frame(["Anna", "Bob"])[0].texts[1].get_text() == ""


def test_cells_hold_shares_of_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: (figures.append(figure),
                                                                         save(figure, *args, **how)))
    assert confusion_picture({(0, 2): 1}, [3, 9, 5], [4, 9, 5], ["costs $1 or $2", "never", "Bob"],
                             tmp_path / "a.png")
    axes, = figures[0].axes
    cells = {text.get_position(): text.get_text() for text in axes.texts if text.get_text().isdigit()}
    assert cells == {(0, 0): "75", (1, 0): "25", (1, 1): "100"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["costs $1 or $2", "Bob"]
    assert not axes.get_yticklabels()[0].get_parse_math()
    assert figures[0].texts[0].get_text().startswith("the 2 artists most often confused")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"


def test_nobody_confused_draws_nothing(tmp_path: Path) -> None:
    assert not confusion_picture({}, [3], [3], ["Anna"], tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
