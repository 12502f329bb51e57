"""A contact sheet of predictions: each picture with the artist predicted, right or wrong where the truth is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from data.images import ImageError, decode_image
from drawing.contact_sheet import Tile, contact_sheet
from drawing.lettering import counted
from evaluation.calibration import UNKNOWN

MOST = 48  # pictures on one sheet
THUMBNAIL = (256, 256)  # px


class Showcase:
    """Counts what is right among records and keeps some of them, from all over the folder, for a sheet.

    A picture whose folder bears the name of a class counts as that artist's.
    """

    def __init__(self, folder: Path, classes: Collection[str]) -> None:
        """Begin a sheet of pictures below `folder`."""
        self.folder, self.classes = folder, frozenset(classes)
        self.kept: list[tuple[str, dict[str, Any]]] = []
        self.every = 1
        self.right = self.judged = self.readable = self.unreadable = 0

    def watch(self, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Take each picture's name and record."""
        for name, record in entries:
            if "classification" not in record:
                self.unreadable += 1
                continue
            good = self._is_right(name, record)
            self.judged += good is not None
            self.right += good is True
            if self.readable % self.every == 0:
                self.kept.append((name, record))
            self.readable += 1
            if len(self.kept) == 2 * MOST:  # however many come, few wait here
                self.kept, self.every = self.kept[::2], 2 * self.every

    def write(self, path: Path) -> None:
        """Draw the sheet of what was kept and can still be read; nothing where no picture could be."""
        chosen = np.linspace(0, len(self.kept) - 1, min(len(self.kept), MOST)).round().astype(int).tolist()
        tiles = [tile for number in chosen if (tile := self._tile(*self.kept[number]))]
        if tiles:
            contact_sheet(tiles, path, title=self._title(len(tiles)))

    def _title(self, shown: int) -> str:
        parts = [f"{self.right} of {self.judged} right"] if self.judged else []
        parts.append(f"{shown} of {counted(self.readable)} shown" if shown < self.readable else counted(shown))
        parts += [f"{self.unreadable} could not be read"] if self.unreadable else []
        return ", ".join(parts)

    def _tile(self, name: str, record: dict[str, Any]) -> Tile | None:
        try:
            picture = decode_image(self.folder / name)
        except ImageError:  # moved since, or above the default limit of pixels
            return None
        picture.thumbnail(THUMBNAIL)
        best = record["classification"][:1]
        said = "".join(f"{each['probability']:.0%} {each['class_name']}" for each in best) or "none named"
        said += " (unknown)" if record.get("verdict") == UNKNOWN else ""
        good = self._is_right(name, record)
        truth = f"\n(is {self._truth(name)})" if good is False else ""
        return Tile(image=picture, caption=f"{said}{truth}", file=name, good=good)

    def _truth(self, name: str) -> str:
        return (self.folder / name).parent.name

    def _is_right(self, name: str, record: dict[str, Any]) -> bool | None:
        truth = self._truth(name)
        return truth in [each["class_name"] for each in record["classification"][:1]] if truth in self.classes else None
