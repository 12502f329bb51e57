"""Every letter is drawn by a font that has it or as an escape, and lines end where their room does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager
from PIL import Image, ImageDraw

from drawing import lettering
from drawing.lettering import (
    ESCAPES,
    UNSHAPED,
    draw_text,
    drawable,
    format_count,
    keep_end,
    text_notes,
    text_width,
    wrap,
)

OWN = font_manager.findfont("DejaVu Sans")


@pytest.fixture
def without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_file", lettering._font_file.__wrapped__)
    monkeypatch.setattr(lettering, "_system_fonts", tuple)


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("齐白石葛飾北斎Ж김é🎨\t\u202e\udc80")), max_size=12))
def test_every_character_is_drawn_by_a_glyph_or_as_an_escape(text: str) -> None:
    parts = [*lettering._typeset(text, 15)]
    assert "".join(part for _, part in parts) == drawable(text) == drawable(drawable(text))
    assert all({ord(char) for char in part} <= lettering._signs(font.path) for font, part in parts)
    assert text_width(text, 15) >= 0


def test_names_no_font_knows_are_escaped(without_system_fonts: None) -> None:
    assert drawable("齐 Dürer 石") == r"\u9f50 Dürer \u77f3"


def test_each_letter_gets_the_first_font_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_file", lettering._font_file.__wrapped__)
    monkeypatch.setattr(lettering, "_own_font", lambda: "own")
    monkeypatch.setattr(lettering, "_system_fonts", lambda: ("first", "second"))
    signs = {"own": "A", "first": "齐", "second": "齐Ж"}
    monkeypatch.setattr(lettering, "_signs", lambda file: set(map(ord, signs[file])))
    assert [lettering._font_file(sign) for sign in "A齐Жé"] == ["own", "first", "second", None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """The fonts that are found where fonts of these (family, style) are installed, in files called like them."""
    def find(*names: tuple[str, str]) -> tuple[str, ...]:
        monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["-".join(name) for name in names])
        monkeypatch.setattr(lettering.ImageFont, "truetype", lambda file, size: SimpleNamespace(
            getname=lambda: tuple(file.split("-"))))
        return lettering._system_fonts.__wrapped__()
    return find


def test_regular_fonts_come_before_medium_ones_and_bold_ones_never(installed: Callable[..., tuple[str, ...]]) -> None:
    assert installed(("A Sans", "Bold"), ("A Sans", "Medium"), ("Last Resort", "Regular"), ("A Serif", "Regular"),
                     ("A Sans Condensed", "Regular"), ("B Sans", "Regular"), ("A Sans", "Light Oblique")) == (
        "B Sans-Regular", "A Serif-Regular", "A Sans-Medium")


def test_a_new_font_is_found_and_a_broken_one_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copy(OWN, tmp_path / "new.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file) for file in tmp_path.iterdir()])
    assert lettering._system_fonts.__wrapped__() == (str(tmp_path / "new.ttf"),)


def test_escapes_are_explained(without_system_fonts: None) -> None:
    assert text_notes(["Anna", "画师"]) == ESCAPES
    assert text_notes(["Anna", "Dürer"]) == ""


def test_notes_are_drawn_as_they_are_written() -> None:
    assert drawable(ESCAPES + UNSHAPED) == ESCAPES + UNSHAPED


def test_words_from_right_to_left_leave_paths_and_counts_in_their_order() -> None:
    parts = [part for _, part in lettering._typeset("12 محمد بن_سالم, 3 علي/0001.jpg", 15)]
    assert parts == ["12 ", "محمد بن_سالم", ", 3 ", "علي", "/0001.jpg"]


@pytest.mark.skipif(not lettering.SHAPES, reason="Pillow finds no FriBiDi")
def test_words_from_right_to_left_are_drawn_so_with_joined_letters() -> None:
    assert text_width("لا", 40) < 0.9 * (text_width("ل", 40) + text_width("ا", 40))  # they become one sign
    picture = Image.new("L", (200, 60))
    draw_text(ImageDraw.Draw(picture), (10, 40), "اد", 30, "white")  # a tall letter, then a low one
    left, top, right, bottom = picture.getbbox()
    tall = picture.crop((0, 0, 200, (top + bottom) // 2 - 5)).getbbox()
    assert tall[0] > (left + right) / 2


def test_without_fribidi_the_pictures_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "SHAPES", False)
    assert [text_notes([name]) for name in ("محمد", "Anna")] == [UNSHAPED, ""]


@pytest.mark.parametrize(("number", "text"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures")])
def test_one_is_no_plural(number: int, text: str) -> None:
    assert format_count(number) == text


@given(st.text(alphabet="Wil m_-/", max_size=60), st.integers(20, 300), st.integers(1, 3))
def test_lines_fit(text: str, width: int, lines: int) -> None:
    found = wrap(text, 15, width, lines)
    assert len(found) <= lines
    assert all(text_width(line, 15) <= width for line in [*found, keep_end(text, 15, width)])
    if "…" not in found[-1]:
        assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_lines_end_between_words() -> None:
    assert wrap("Hans_Holbein_the_Younger", 15, 150, 2) == ["Hans_Holbein_the_", "Younger"]
    assert wrap("short", 15, 150, 2) == ["short"]


def test_of_a_path_the_end_stays() -> None:
    assert keep_end("Hans_Holbein_the_Younger/0001.jpg", 12, 100).startswith("…")
    assert keep_end("Hans_Holbein_the_Younger/0001.jpg", 12, 100).endswith("/0001.jpg")


@pytest.mark.parametrize(("text", "drawn"), [
    ("山田\u3000太郎\u3000", "山田 太郎 "), ("a\u00a0b\u2009c\u202fd", "a b c d"), ("a\u200db", r"a\u200db"),
    ("a\u202eb\ufeff", r"a\u202eb\ufeff"), ("a\u2028b\x0bc", r"a\u2028b\x0bc")])
def test_spaces_are_drawn_and_invisible_signs_are_escaped(text: str, drawn: str,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    known = frozenset(range(0x3000)) | frozenset(map(ord, "山田太郎\ufeff"))
    monkeypatch.setattr(lettering, "_font_file", lettering._font_file.__wrapped__)
    monkeypatch.setattr(lettering, "_signs", lambda file: known)
    assert drawable(text) == drawn
    assert text_notes([text]) == (ESCAPES if "\\" in drawn else "")
