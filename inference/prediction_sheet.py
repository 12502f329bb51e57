"""A contact sheet of predictions: pictures with the predicted artist, right or wrong where the truth is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from data.images import ImageError, decode_image
from data.names import nfc
from data.picture_files import artist_of
from drawing.contact_sheet import Tile, contact_sheet
from drawing.lettering import format_count
from evaluation.calibration import UNKNOWN
from inference.journal import Entry, Record

MOST = 48  # pictures on one sheet
THUMBNAIL = (256, 256)  # px


def write_prediction_sheet(path: Path, entries: Iterable[Entry], *, readable: int, folder: Path,
                           classes: Collection[str]) -> None:
    """Draw pictures from all over a folder; none if no picture can be read any more.

    If the first folder of a picture below `folder` has the name of a class, that class is the truth; of a picture that
    lies directly in `folder`, `folder` itself.

    Args:
        path: the PNG.
        entries: of all pictures; they are read once, and few are kept.
        readable: how many of them have a prediction.
        folder: names are relative to it.
        classes: names of artists.
    """
    chosen, known = _choose(readable), {nfc(name): name for name in classes}
    own = known.get(nfc(folder.resolve().name))
    tiles: list[Tile] = []
    verdicts: Counter[bool | None] = Counter()
    number = unreadable = 0
    for name, record in entries:
        if "classification" not in record:
            unreadable += 1
            continue
        artist = artist_of(name)
        truth = known.get(artist) if artist else own
        best = [entry["class_name"] for entry in record["classification"][:1]]
        is_right = truth in best if truth else None
        verdicts[is_right] += 1
        if number in chosen and (tile := _make_tile(folder / name, name, record, is_right, truth)):
            tiles.append(tile)
        number += 1
    labelled = verdicts[True] + verdicts[False]
    title = [f"{verdicts[True]} of {labelled} right"] if labelled else []
    title.append(f"{len(tiles)} of {format_count(readable)} shown" if len(tiles) < readable else format_count(readable))
    title += [f"{unreadable} could not be read"] if unreadable else []
    if tiles:
        contact_sheet(tiles, path, title=", ".join(title))


def _choose(count: int) -> set[int]:
    """At most `MOST` numbers from all over the range of `count`."""
    step = 1
    while -(-count // step) >= 2 * MOST:
        step *= 2
    numbers = range(0, count, step)
    return {numbers[row] for row in np.linspace(0, len(numbers) - 1, min(len(numbers), MOST)).round().astype(int)}


def _make_tile(path: Path, name: str, record: Record, is_right: bool | None, truth: str | None) -> Tile | None:
    """The picture with its prediction below; None if it cannot be read any more, or only with a higher pixel limit."""
    try:
        picture = decode_image(path)
    except ImageError:
        return None
    picture.thumbnail(THUMBNAIL)
    best = record["classification"][:1]
    caption = "".join(f"{entry['probability']:.0%} {entry['class_name']}" for entry in best) or "none named"
    caption += " (unknown)" if record.get("verdict") == UNKNOWN else ""
    caption += f"\n(is {truth})" if is_right is False else ""
    return Tile(image=picture, caption=caption, file=name, good=is_right)
