"""audit.html: what an audit found, as one page with thumbnails that needs no other file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.names import as_text, named_file
from drawing.inline import inline_jpeg
from evaluation.audit import Audit
from utils import write_text

_SIDE = 144  # of a thumbnail, px; with the limits below the page stays under 3 MB
_MOST = {"wrong": 120, "across": 40, "within": 20, "furthest": 24, "alike": 12}  # of each kind
_OF_AN_ARTIST = 3  # pictures
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Audit of {{ folder }}</title>
<meta name="viewport" content="width=device-width">
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
h2 { margin: 2.5rem 0 .3rem; border-bottom: 1px solid #ddd } p { max-width: 50rem; color: #555; margin: .3rem 0 }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .8rem }
figure { margin: 0; width: 168px; overflow-wrap: anywhere; font-size: 13px; line-height: 1.35 }
.set { display: flex; flex-wrap: wrap; gap: .6rem; padding: .6rem; background: #f5f5f3; border-radius: 6px }
img { width: auto; max-width: 168px; height: {{ side }}px; object-fit: contain; display: block; background: #f5f5f3 }
.no { height: {{ side }}px; background: #eee; display: grid; place-items: center; color: #888 }
small { color: #777 } b { font-weight: 600 } .own { color: #a33 } .new { color: #176e3c }
</style></head><body>
<h1>Audit of {{ folder }}</h1>
<p>{{ pictures }} pictures by {{ artists }} artists. Labels that are likely wrong: {{ wrong }}. Pictures that several
artists have: {{ across }}. Far from all others: {{ outliers }}. <code>audit.csv</code> has every picture, and
<code>fixes.csv</code> what to change: delete the lines that are wrong, then give it to <code>prepare_dataset.py
--fix-list</code>.</p>
{% macro picture(item) %}<figure>{% if item.image %}<img alt="" src="data:image/jpeg;base64,{{ item.image }}">{% else
%}<div class="no">not read</div>{% endif %}{% for kind, line in item.lines %}<div class="{{ kind }}">{{ line }}</div>
{% endfor %}<small>{{ item.name }}</small></figure>{% endmacro %}
{% for title, about, groups in sections %}<h2>{{ title }}</h2><p>{{ about }}</p>
<div class="grid">{% for group in groups %}{% if group|length > 1 %}<div class="set">{% endif %}{% for item in group %}
{{ picture(item) }}{% endfor %}{% if group|length > 1 %}</div>{% endif %}{% else %}<p>None.</p>{% endfor %}</div>
{% endfor %}</body></html>
"""


def write_page(path: Path, audited: Audit, folder: Path, *, max_pixels: int) -> None:
    """Write the page about the pictures of `folder`; names are escaped, and unreadable pictures are boxes."""
    import jinja2  # slow to import

    page = jinja2.Environment(autoescape=True).from_string(_PAGE)
    write_text(path, page.render(
        folder=as_text(folder.resolve().name), pictures=len(audited.names), artists=len(audited.artists), side=_SIDE,
        wrong=int(audited.wrong.sum()), across=len(audited.across()), outliers=len(audited.outliers),
        sections=_sections(audited, folder, max_pixels)))


def _sections(audited: Audit, folder: Path, max_pixels: int) -> list[tuple[str, str, list[list[dict[str, object]]]]]:
    """Title, explanation and groups of pictures of each part of the page."""
    suggested, own = audited.suggested, audited.own

    def item(place: int, *lines: tuple[str, str]) -> dict[str, object]:
        return {"name": audited.names[place], "lines": lines,
                "image": inline_jpeg(named_file(folder, audited.names[place]), _SIDE, max_pixels)}

    def owned(place: int) -> dict[str, object]:
        return item(place, ("own", audited.artists[audited.targets[place]]))

    def doubted(place: int) -> dict[str, object]:
        return item(place, ("own", f"{audited.artists[audited.targets[place]]} {own[place]:.0%}"), (
            "new", f"{audited.artists[suggested[place]]} {audited.probabilities[place, suggested[place]]:.0%}"))

    across = audited.across()
    within = [group for group in audited.groups if group not in across]
    wrong = audited.order[audited.wrong[audited.order]]
    return [
        ("Labels that are likely wrong", f"The surest {_MOST['wrong']} at most: the label and its probability, and the "
         "artist who is more probable, by a classifier that has not seen the picture.",
         [[doubted(place)] for place in wrong[:_MOST["wrong"]].tolist()]),
        ("One picture, several artists", "Copies and near-duplicates whose labels differ.",
         [[owned(place) for place in group] for group in across[:_MOST["across"]]]),
        ("The same picture of one artist", "Copies and near-duplicates. Preparing a data set keeps them on one side.",
         [[owned(place) for place in group] for group in within[:_MOST["within"]]]),
        ("Most unlike all others", "Often covers, pages of text, photographs, or another technique.",
         [[owned(place)] for place in audited.furthest[:_MOST["furthest"]].tolist()]),
        ("Artists that look alike", "How often pictures of one are taken for the other's, mean probability.",
         [[item(place, ("own", f"{audited.artists[artist]} {share:.0%}")) for artist, other in ((a, b), (b, a))
           for place in _between(audited, artist, other)] for a, b, share in audited.alike()[:_MOST["alike"]]])]


def _between(audited: Audit, artist: int, other: int) -> Sequence[int]:
    """Pictures of `artist` that are most like the `other`'s."""
    places = np.flatnonzero(audited.targets == artist)
    return places[np.argsort(-np.nan_to_num(audited.probabilities[places, other]), kind="stable")][
        :_OF_AN_ARTIST].tolist()
