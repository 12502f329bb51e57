"""Text on pictures, in any script: a font that has the letters, and lines that fit."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Iterator

from PIL import ImageDraw, ImageFont

NOTE = r"\u… and the like: letters that no installed font has (Noto Sans CJK has Chinese, Japanese and Korean ones)"


def typeset(text: str, size: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font for `text`, and `text` as that font can draw it: what it lacks becomes an escape, never an empty box."""
    lacks: dict[str, set[str]] = {}
    for file in _font_files():
        lacks[file] = {char for char in text if not char.isprintable() or ord(char) not in _glyphs(file)}
        if not lacks[file]:
            break
    best = min(lacks, key=lambda file: len(lacks[file]))
    drawn = "".join(char.encode("unicode_escape").decode() if char in lacks[best] else char for char in text)
    return ImageFont.truetype(best, size), drawn


def explanation(texts: Iterable[str]) -> str:
    """What to write below a picture that bears `texts`: `NOTE` where one of them has escapes, else nothing."""
    return NOTE if any(typeset(text, 10)[1] != text for text in texts) else ""


def counted(number: int, noun: str = "picture") -> str:
    """A number and what is counted: "1 picture", "2 pictures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def wrapped(text: str, size: int, width: float, lines: int = 1) -> list[str]:
    """`text` as it can be drawn, in at most so many lines of `width` px; what does not fit is cut with an ellipsis.

    A line ends after a space, `_`, `-` or `/` where there is one in its second half.
    """
    font, rest = typeset(text, size)
    found = []
    while len(found) < lines - 1 and font.getlength(rest) > width:
        end = max(1, _fitting(font, rest, width))
        end = next((place for place in range(end, end // 2, -1) if rest[place - 1] in " _-/"), end)
        found.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if font.getlength(rest) > width:
        rest = rest[:_fitting(font, rest, width - font.getlength("…"))] + "…"
    return [*found, rest]


def tail(text: str, size: int, width: float) -> str:
    """`text` as it can be drawn, and only the end of what is wider than `width` px: of paths, the file's name."""
    font, drawn = typeset(text, size)
    if font.getlength(drawn) <= width:
        return drawn
    return "…" + drawn[len(drawn) - _fitting(font, drawn[::-1], width - font.getlength("…")):]


def _fitting(font: ImageFont.FreeTypeFont, text: str, width: float) -> int:
    """How many of the first letters are at most `width` px wide."""
    return next((end for end in range(len(text), 0, -1) if font.getlength(text[:end]) <= width), 0)


def write(draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, size: int, colour: str) -> None:
    """One line from `start`, on the baseline: so fonts of different scripts stand on the same line."""
    font, drawn = typeset(text, size)
    draw.text(start, drawn, fill=colour, font=font, anchor="ls")


def _font_files() -> Iterator[str]:
    """DejaVu Sans, which matplotlib brings, then the system's fonts, looked for only where it lacks letters."""
    from matplotlib import font_manager

    yield font_manager.findfont("DejaVu Sans")
    yield from _system_fonts()


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Upright fonts of about regular weight, regular ones first, and of those the sans-serif ones.

    Left out: fonts of boxes that stand for missing letters ("Last Resort"), faces behind the first of a collection,
    and what Pillow cannot draw at any size (colour bitmaps).
    """
    from matplotlib import font_manager

    _learn_new_fonts()
    ranks = {}
    for entry in font_manager.fontManager.ttflist:
        weight = font_manager.weight_dict.get(entry.weight, entry.weight)
        if (entry.style == "normal" and 300 <= weight <= 500 and entry.stretch == "normal"
                and not entry.name.lstrip(".").startswith(("Last Resort", "LastResort"))
                and not getattr(entry, "index", 0)):
            serif = not any(word in entry.name.lower() for word in ("sans", "gothic", "hei"))
            ranks[entry.fname] = (weight != 400, serif, entry.name, entry.fname)
    return tuple(filter(_drawable, sorted(ranks, key=ranks.__getitem__)))


def _learn_new_fonts() -> None:
    """Let matplotlib know fonts that were installed after it made its list: it keeps that for months."""
    from matplotlib import font_manager

    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    for file in sorted({*font_manager.findSystemFonts()} - known):
        with contextlib.suppress(OSError, RuntimeError, ValueError, KeyError):  # what it cannot read, it never listed
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
    from matplotlib.font_manager import get_font

    return frozenset(get_font(file).get_charmap())
