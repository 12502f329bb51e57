"""Every letter is drawn by a font that has it or as an escape, and lines end where their room does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import font_manager

from drawing import lettering
from drawing.lettering import NOTE, escape_note, format_count, keep_end, typeset, wrap

OWN = font_manager.findfont("DejaVu Sans")


@pytest.fixture
def without_system_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_system_fonts", tuple)


@pytest.fixture
def fonts_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The list of fonts is made again, and none learned here outlives the test."""
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    lettering._system_fonts.cache_clear()
    yield
    lettering._system_fonts.cache_clear()


@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("齐白石葛飾北斎Ж김é🎨\t\u202e\udc80")), max_size=12))
def test_every_character_is_drawn_by_a_glyph_or_as_an_escape(text: str) -> None:
    font, drawn = typeset(text, 15)
    assert {ord(char) for char in drawn} <= lettering._glyphs(font.path)
    font.getlength(drawn)


def test_names_no_font_knows_are_escaped(without_system_fonts: None) -> None:
    assert typeset("齐 Dürer 石", 15)[1] == r"\u9f50 Dürer \u77f3"


def test_a_font_that_has_the_letters_is_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "_font_files", lambda: ("poor", OWN))
    monkeypatch.setattr(lettering, "_glyphs",
                        lambda file: frozenset() if file == "poor" else frozenset(map(ord, "Жук")))
    font, drawn = typeset("Жук", 15)
    assert (font.path, drawn) == (OWN, "Жук")


def test_fonts_of_boxes_are_never_chosen() -> None:
    assert not [file for file in lettering._system_fonts() if "LastResort" in file.replace(" ", "")]


def test_a_font_that_came_after_matplotlibs_list_is_found(fonts_anew: None, monkeypatch: pytest.MonkeyPatch,
                                                          tmp_path: Path) -> None:
    shutil.copy(OWN, tmp_path / "new.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(file) for file in tmp_path.iterdir()])
    assert str(tmp_path / "new.ttf") in lettering._system_fonts()
    assert str(tmp_path / "broken.ttf") not in lettering._system_fonts()


def test_regular_fonts_come_before_medium_ones_and_bold_ones_never(fonts_anew: None,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [font_manager.FontEntry(fname=name, name="A Sans", style="normal", variant="normal", weight=weight,
                                      stretch="normal", size="scalable")
               for name, weight in (("bold", 700), ("medium", "medium"), ("regular", 400))]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    monkeypatch.setattr(lettering, "_drawable", lambda file: True)
    assert lettering._system_fonts() == ("regular", "medium")


def test_escapes_are_explained(without_system_fonts: None) -> None:
    assert escape_note(["Anna", "画师"]) == NOTE
    assert escape_note(["Anna", "Dürer"]) == ""


def test_a_note_is_drawn_as_it_is_written() -> None:
    assert typeset(NOTE, 12)[1] == NOTE


@pytest.mark.parametrize(("number", "text"), [(0, "0 pictures"), (1, "1 picture"), (2, "2 pictures")])
def test_one_is_no_plural(number: int, text: str) -> None:
    assert format_count(number) == text


@given(st.text(alphabet="Wil m_-/", max_size=60), st.integers(20, 300), st.integers(1, 3))
def test_lines_fit(text: str, width: int, lines: int) -> None:
    found = wrap(text, 15, width, lines)
    assert len(found) <= lines
    assert all(typeset(line, 15)[0].getlength(line) <= width for line in found)
    assert typeset(keep_end(text, 15, width), 15)[0].getlength(keep_end(text, 15, width)) <= width
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
    monkeypatch.setattr(lettering, "_glyphs", lambda file: known)
    assert typeset(text, 15)[1] == drawn
    assert escape_note([text]) == (NOTE if "\\" in drawn else "")
