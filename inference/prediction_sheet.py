"""Contact sheets of a folder's answers: pictures with the artist named first, or beside their nearest of a gallery."""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from data.names import named_file
from drawing.contact_sheet import Mark, Tile, contact_sheet
from drawing.lettering import format_count
from evaluation.calibration import UNKNOWN, VERDICTS
from inference.journal import Entry, Record
from inference.records import Summary
from inference.tally import KnownArtists, first_artist

MOST, MOST_QUERIES, NEAREST = 48, 16, 5  # pictures on one sheet; rows of one with neighbours, and neighbours in a row


def write_prediction_sheet(path: Path, entries: Iterable[Entry], summary: Summary, *, folder: Path, known: KnownArtists,
                           gallery: Mapping[str, Path] | None = None) -> None:
    """Draw wrong answers to a folder's pictures, the most probable first, then unknown ones, then others.

    Which of the others are drawn is chance, but always the same; where nothing is answered, there is no sheet.

    Args:
        path: the PNG.
        entries: of all pictures; they are read once, and few are kept.
        summary: of them.
        folder: names are relative to it.
        known: whose the pictures are, where that is known.
        gallery: draws beside each picture its nearest of the gallery: the name of each, and where it lies.
    """
    most = MOST if gallery is None else MOST_QUERIES
    ranked = ((*_rank(name, record, known.find(name)), name, record) for name, record in entries
              if "error" not in record)
    chosen = sorted(heapq.nsmallest(most, ranked, key=lambda each: each[:3]), key=lambda each: (*each[:2], each[3]))
    tiles: list[Tile] = []
    for _, _, _, name, record in chosen:
        tiles.append(make_tile(named_file(folder, name), name, record, known.find(name)))
        if gallery is not None:
            tiles += [Tile(picture=gallery.get(near["image"]), file=near["image"],
                           caption=f"{near['cosine_similarity']:.2f} {near['artist']}")
                      for near in record["pictures"][:NEAREST]]
    if tiles:
        shown = Counter(tile.mark for tile in tiles)
        calibrated = gallery is None and "verdict" in chosen[0][4]
        contact_sheet([("", tiles)], path, title=make_title(summary, shown, calibrated=calibrated,
                                                            searched=gallery is not None),
                      columns=len(tiles) // len(chosen) if gallery is not None else 6)


def make_tile(picture: Path, name: str, record: Record, truth: str | None) -> Tile:
    """A picture with the artist named first, its probability or share of votes, the verdict, and who it is by."""
    artist, more = first_artist(record), [record["verdict"]] if "verdict" in record else []
    mark = _mark(record, truth)
    more += [f"is {truth}"] if mark == "wrong" else []
    caption = f"{_probability(record):.0%} {artist}" if artist else "none named"
    return Tile(picture=picture, file=name, caption="\n".join([caption, ", ".join(more)]).rstrip(), mark=mark)


def make_title(summary: Summary, shown: Counter[Mark], *, calibrated: bool, searched: bool) -> str:
    """How many are right, what the verdicts are, which pictures are shown, and what the percentages mean."""
    tally, readable = summary.tally, summary.pictures - len(summary.failures)
    judged, drawn = tally.right.total(), sum(shown.values()) - shown["plain"]
    title = [f"{tally.right[True]} of {judged} right"] if judged else []
    if tally.verdicts:
        title.append(", ".join(f"{tally.verdicts[name]} {name}" for name in VERDICTS))
    title.append((f"{drawn} of {format_count(readable)} shown" if drawn < readable else format_count(readable))
                 + ", wrong ones first" * bool(shown["wrong"]))
    if summary.failures:
        title.append(f"{len(summary.failures)} could not be read")
    if searched:
        title.append("left each picture with its neighbours' vote, then the nearest with their cosine similarity")
    return "; ".join([*title, *["calibrated percentages"] * calibrated])


def _mark(record: Record, truth: str | None) -> Mark:
    return "not judged" if truth is None else "right" if first_artist(record) == truth else "wrong"


def _probability(record: Record) -> float:
    best = [*record.get("classification", ()), *record.get("artists_by_neighbours", ()), {"share": 0.0}][0]
    return next(best[key] for key in ("calibrated_probability", "probability", "share") if key in best)


def _rank(name: str, record: Record, truth: str | None) -> tuple[int, float, int]:
    """What a sheet shows first: wrong answers by probability, then unknown ones, then of the rest some by chance."""
    if _mark(record, truth) == "wrong":
        return 0, -_probability(record), 0
    return 1 if record.get("verdict") == UNKNOWN else 2, 0.0, zlib.crc32(name.encode())
