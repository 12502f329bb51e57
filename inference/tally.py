"""What the records of a folder amount to: pictures per artist, verdicts, and how many are right where that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.names import named_file, nfc
from data.picture_files import artist_of
from evaluation.calibration import UNKNOWN, VERDICTS
from inference.journal import Entry, Record
from runtime.text_table import fold, shortened
from utils import counted

_WIDEST = 40  # columns of an artist's name
_SAME = 0.9999  # cosine similarity from which two pictures are one


class KnownArtists:
    """Tells whose a picture is from the folder that it lies in, if that bears the name of a known artist."""

    def __init__(self, folder: Path, artists: Iterable[str]) -> None:
        """`folder` holds the pictures; `artists` are those that can be named."""
        self._names = {nfc(name): name for name in artists}
        self._own = self._names.get(nfc(folder.resolve().name))

    def find(self, name: str) -> str | None:
        """The artist of the picture `name`, "/"-separated below the folder; of a loose one, see `PictureFolder`."""
        artist = artist_of(name)
        return self._names.get(artist) if artist else self._own


def first_artist(record: Record) -> str | None:
    """The artist whom a record names first, or None; in mode search, the one that the neighbours vote for."""
    named = record.get("classification") or record.get("artists_by_neighbours")
    return next((entry.get("class_name") or entry.get("artist") for entry in named or ()), None)


def name_pictures(entries: Iterable[Entry], folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each picture of `entries` that could be read, below `folder`, and its artist; none where that is unknown."""
    for name, record in entries:
        if "error" not in record:
            artist = first_artist(record)
            yield named_file(folder, name), [artist] if artist and record.get("verdict") != UNKNOWN else []


@dataclass
class Tally:
    """Counts of pictures.

    Attributes:
        artists: by the artist named first, without those whose verdict is unknown.
        verdicts: by verdict.
        right: of known artists, by whether the artist named first is right.
        unnamed: for which no artist is probable enough.
        in_gallery: that the gallery holds themselves.
    """

    artists: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    right: Counter[bool] = field(default_factory=Counter)
    unnamed: int = 0
    in_gallery: int = 0

    def add(self, record: Record, truth: str | None) -> None:
        """Count the record of a picture by the artist `truth`, if that is known."""
        if "classification" not in record and "artists_by_neighbours" not in record:
            return
        artist, verdict = first_artist(record), record.get("verdict")
        if verdict:
            self.verdicts[verdict] += 1
        if artist is None:
            self.unnamed += 1
        elif verdict != UNKNOWN:
            self.artists[artist] += 1
        if any(found["cosine_similarity"] > _SAME for found in record.get("pictures", ())):
            self.in_gallery += 1
        if truth is not None:
            self.right[artist == truth] += 1

    def lines(self) -> list[str]:
        """What is printed of it, at most 80 columns wide: the most common artists, verdicts, and how many are right."""
        ranked = sorted(self.artists.items(), key=lambda each: (-each[1], each[0]))
        lines = fold("artists:", [f"{shortened(name, _WIDEST)} ({count})" for name, count in ranked]) if ranked else []
        if self.unnamed:
            lines.append(f"no artist reaches --threshold: {self.unnamed}")
        if self.verdicts:
            lines.append("verdicts: " + ", ".join(f"{self.verdicts[name]} {name}" for name in VERDICTS)
                         + (" (not counted above)" if self.verdicts[UNKNOWN] else ""))
        if known := self.right.total():
            lines.append(f"right: {self.right[True]} of {known} ({self.right[True] / known:.1%}), "
                         "where the folder is a known artist")
        if self.in_gallery:
            lines.append(f"no test of the gallery: {counted(self.in_gallery, 'picture')} in it found "
                         f"{'itself' if self.in_gallery == 1 else 'themselves'}")
        return lines
