"""Text on pictures in any script: fonts that have the letters, and lines that fit."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from matplotlib import font_manager
from PIL import ImageDraw, ImageFont, features

ESCAPES = (r"\u… and the like: invisible signs, and letters that no installed font has. Install Noto Sans, and for "
           "Chinese, Japanese and Korean Noto Sans CJK (Debian and Ubuntu: fonts-noto-core and fonts-noto-cjk).")
UNSHAPED = ("Arabic and Hebrew are drawn backwards and not joined: Pillow finds no FriBiDi here (Debian and Ubuntu: "
            "libfribidi0).")
SHAPES = features.check("raqm")  # whether Pillow joins letters and knows their direction
_RTL = "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]"
# Words from right to left, and what lies between them: paths, counts and names keep their order from left to right.
_PARTS = re.compile(rf"{_RTL}+(?:[ _.'·-]+{_RTL}+)*|(?:(?!{_RTL}).)+")
_OTHER_STYLES = re.compile("last ?resort|bold|black|heavy|italic|oblique|thin|condensed", re.IGNORECASE)


def format_count(number: int, noun: str = "picture") -> str:
    """A number and its noun: "1 picture", "2 pictures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def drawable(text: str) -> str:
    """`text` with escapes for letters that no font has and for invisible signs; spaces of any kind become plain."""
    return "".join(sign if sign.isprintable() and _font_file(sign) else sign.encode("unicode_escape").decode()
                   for sign in _plain_spaces(text))


def text_notes(texts: Iterable[str]) -> str:
    """What to know, and to install, where some of `texts` cannot be drawn as they are; else an empty text."""
    text = "".join(map(_plain_spaces, texts))
    return " ".join([ESCAPES] * (drawable(text) != text) + [UNSHAPED] * (not SHAPES and bool(re.search(_RTL, text))))


def text_width(text: str, size: int) -> float:
    """The width of `text` in letters of `size` px, px."""
    return sum(font.getlength(part) for font, part in _typeset(text, size))


def draw_text(draw: ImageDraw.ImageDraw, start: tuple[float, float], text: str, size: int, colour: str,
              halo: str | None = None) -> None:
    """Draw one line; `start` is the left end of its baseline, so that fonts of different scripts align."""
    left, base = start
    for font, part in _typeset(text, size):
        draw.text((left, base), part, fill=colour, font=font, anchor="ls", stroke_width=3 if halo else 0,
                  stroke_fill=halo)
        left += font.getlength(part)


def wrap(text: str, size: int, width: float, lines: int = 1) -> list[str]:
    """`text` as it can be drawn, in at most `lines` lines of `width` px; an ellipsis replaces what does not fit.

    A line ends after a space, `_`, `-` or `/` where its last two thirds have one.
    """
    rest, found = drawable(text), []
    while text_width(rest, size) > width:
        starts = [rest[:end] for end in range(len(rest))]
        if len(found) == lines - 1:
            starts = [start + "…" for start in starts]
            return [*found, starts[max(0, _count_fitting(starts, size, width) - 1)]]
        end = max(1, _count_fitting(starts, size, width) - 1)
        end = next((index for index in range(end, end // 3, -1) if rest[index - 1] in " _-/"), end)
        found.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*found, rest]


def keep_end(text: str, size: int, width: float) -> str:
    """`text` as it can be drawn; where it is wider than `width` px, an ellipsis and its end (a path's file name)."""
    text = drawable(text)
    if text_width(text, size) <= width:
        return text
    ends = ["…" + text[start:] for start in range(len(text), 0, -1)]
    return ends[max(0, _count_fitting(ends, size, width) - 1)]


def _count_fitting(texts: Sequence[str], size: int, width: float) -> int:
    """How many of `texts`, each longer than the one before, are at most `width` px wide, found by halving."""
    return bisect.bisect_right(texts, width, key=lambda text: text_width(text, size))


def _plain_spaces(text: str) -> str:
    """`text` with one plain space for each no-break, ideographic or other space."""
    return "".join(" " if unicodedata.category(sign) == "Zs" else sign for sign in text)


def _typeset(text: str, size: int) -> Iterator[tuple[ImageFont.FreeTypeFont, str]]:
    """The parts of `text`, from left to right, each in one direction and with a font that has its letters."""
    for part in _PARTS.findall(drawable(text)):
        for file, signs in itertools.groupby(part, lambda sign: _font_file(sign) or _own_font()):
            yield _font(file, size), "".join(signs)


_font = functools.cache(ImageFont.truetype)


@functools.cache
def _font_file(sign: str) -> str | None:
    """The first font that has `sign`; the system's fonts are searched only for what matplotlib's DejaVu Sans lacks."""
    return _own_font() if ord(sign) in _signs(_own_font()) else next(
        (file for file in _system_fonts() if ord(sign) in _signs(file)), None)


def _own_font() -> str:
    return str(font_manager.findfont("DejaVu Sans"))


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """Upright fonts that are not bold: regular ones come first, and of those sans-serif ones; of a collection one."""
    ranks = {}
    for file in font_manager.findSystemFonts():
        with contextlib.suppress(OSError):  # Pillow draws no bitmaps in colour
            family, style = map(str, ImageFont.truetype(file, 15).getname())
            if not _OTHER_STYLES.search(f"{family} {style}"):
                serif = not re.search("sans|gothic|hei", family, re.IGNORECASE)
                ranks[file] = style not in ("Regular", "Book", "Normal", "Roman"), serif, family, file
    return tuple(sorted(ranks, key=ranks.__getitem__))


@functools.cache
def _signs(file: str) -> frozenset[int]:
    """The code points that the font has a glyph for."""
    return frozenset(font_manager.get_font(file).get_charmap())
