"""Text on pictures in any script: fonts that have the letters, and lines that fit."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections.abc import Iterable, Iterator

from matplotlib import font_manager
from PIL import ImageDraw, ImageFont

NOTE = (r"\u… and the like: invisible signs, and letters that no installed font has (Noto Sans CJK has Chinese, "
        "Japanese and Korean ones)")


def typeset(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font of `size` px, and `text` as that font can draw it: letters that it lacks become escapes, not boxes.

    So do invisible signs, such as joiners and line breaks. Spaces of every kind are drawn as plain ones.
    """
    text = _plain_spaces(text)
    missing: dict[str, set[str]] = {}
    for file in _font_files():
        missing[file] = {char for char in text if not char.isprintable() or ord(char) not in _glyphs(file)}
        if not missing[file]:
            break
    best = min(missing, key=lambda file: len(missing[file]))
    drawn = "".join(char.encode("unicode_escape").decode() if char in missing[best] else char for char in text)
    return ImageFont.truetype(best, size), drawn


def _plain_spaces(text: str) -> str:
    """`text` with one plain space for each no-break, ideographic or other space."""
    return "".join(" " if unicodedata.category(char) == "Zs" else char for char in text)


def escape_note(texts: Iterable[str]) -> str:
    """`NOTE` where one of `texts` is drawn with escapes, else an empty text."""
    return NOTE if any(typeset(text, 10)[1] != _plain_spaces(text) for text in texts) else ""


def format_count(number: int, noun: str = "picture") -> str:
    """A number and its noun: "1 picture", "2 pictures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wrap(text: str, size: int, width: float, lines: int = 1) -> list[str]:
    """`text` as it can be drawn, in at most `lines` lines of `width` px; an ellipsis replaces what does not fit.

    A line ends after a space, `_`, `-` or `/` where its second half has one.
    """
    font, rest = typeset(text, size)
    found: list[str] = []
    while len(found) < lines - 1 and font.getlength(rest) > width:
        end = max(1, _fitting(font, rest, width))
        end = next((index for index in range(end, end // 2, -1) if rest[index - 1] in " _-/"), end)
        found.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if font.getlength(rest) > width:
        rest = rest[:_fitting(font, rest, width - font.getlength("…"))] + "…"
    return [*found, rest]


def keep_end(text: str, size: int, width: float) -> str:
    """`text` as it can be drawn; where it is wider than `width` px, an ellipsis and its end (a path's file name)."""
    font, drawn = typeset(text, size)
    if font.getlength(drawn) <= width:
        return drawn
    return "…" + drawn[len(drawn) - _fitting(font, drawn[::-1], width - font.getlength("…")):]


def _fitting(font: ImageFont.FreeTypeFont, text: str, width: float) -> int:
    """How many of the first letters are at most `width` px wide."""
    return next((end for end in range(len(text), 0, -1) if font.getlength(text[:end]) <= width), 0)


def draw_text(draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, size: int, colour: str) -> None:
    """Draw one line; `start` is the left end of its baseline, so that fonts of different scripts align."""
    font, drawn = typeset(text, size)
    draw.text(start, drawn, fill=colour, font=font, anchor="ls")


def _font_files() -> Iterator[str]:
    """DejaVu Sans, which matplotlib brings, then the system's fonts, searched only where it lacks letters."""
    yield str(font_manager.findfont("DejaVu Sans"))
    yield from _system_fonts()


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Upright fonts of about regular weight; regular ones come first, and of those sans-serif ones.

    Left out are fonts of placeholder boxes ("Last Resort"), all but the first face of a collection, and fonts that
    Pillow cannot draw at any size (colour bitmaps).
    """
    _add_new_fonts()
    ranks = {}
    for entry in font_manager.fontManager.ttflist:
        weight = font_manager.weight_dict[entry.weight] if isinstance(entry.weight, str) else entry.weight
        if (entry.style == "normal" and 300 <= weight <= 500 and entry.stretch == "normal"
                and not entry.name.lstrip(".").startswith(("Last Resort", "LastResort"))
                and not getattr(entry, "index", 0)):
            serif = not any(word in entry.name.lower() for word in ("sans", "gothic", "hei"))
            ranks[entry.fname] = (weight != 400, serif, entry.name, entry.fname)
    return tuple(filter(_drawable, sorted(ranks, key=ranks.__getitem__)))


def _add_new_fonts() -> None:
    """Add fonts that were installed after matplotlib made its list, which it keeps for months."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in sorted({*font_manager.findSystemFonts()} - known):
        with contextlib.suppress(OSError, RuntimeError, ValueError, KeyError):  # unreadable to matplotlib
            font_manager.fontManager.addfont(file)


def _drawable(file: str) -> bool:
    try:
        ImageFont.truetype(file, 15)
    except OSError:
        return False
    return True


@functools.cache
def _glyphs(file: str) -> frozenset[int]:
    """The code points that the font has a glyph for."""
    return frozenset(font_manager.get_font(file).get_charmap())
