"""A contact sheet of predictions: each picture with the artist predicted, right or wrong where the truth is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from data.images import ImageError, decode_image
from runtime.calibration import UNKNOWN
from runtime.plots import Tile, contact_sheet

MOST = 48  # pictures on one sheet
THUMBNAIL = (256, 256)  # px


class Showcase:
    """Counts what is right among records and keeps every so many of them for a sheet.

    A picture whose folder bears the name of a class counts as that artist's.
    """

    def __init__(self, folder: Path, classes: Collection[str], total: int) -> None:
        """Begin a sheet of `total` pictures below `folder`."""
        self.folder, self.classes = folder, frozenset(classes)
        self.every = max(1, -(-total // MOST))
        self.kept: list[tuple[Path, dict[str, Any]]] = []
        self.right = self.judged = 0

    def watch(self, entries: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Take each picture's name and record."""
        for number, (name, record) in enumerate(entries):
            if "classification" in record:
                good = self._is_right(self.folder / name, record)
                self.judged += good is not None
                self.right += good is True
                if number % self.every == 0:
                    self.kept.append((self.folder / name, record))

    def write(self, path: Path) -> None:
        """Draw the sheet of what was kept and can still be read; nothing where no picture could be."""
        tiles = [tile for picture, record in self.kept if (tile := self._tile(picture, record))]
        if tiles:
            title = f"{self.right} of {self.judged} right" if self.judged else f"{len(tiles)} pictures"
            contact_sheet(tiles, path, title=title)

    def _tile(self, path: Path, record: dict[str, Any]) -> Tile | None:
        try:
            picture = decode_image(path)
        except ImageError:  # moved since, or above the default limit of pixels
            return None
        picture.thumbnail(THUMBNAIL)
        best = record["classification"][:1]
        said = "".join(f"{each['probability']:.0%} {each['class_name']}" for each in best) or "none named"
        said += " (unknown)" if record.get("verdict") == UNKNOWN else ""
        good = self._is_right(path, record)
        truth = f"\n(is {path.parent.name})" if good is False else ""
        return Tile(image=picture, caption=f"{said}{truth}", good=good)

    def _is_right(self, path: Path, record: dict[str, Any]) -> bool | None:
        truth = path.parent.name
        return truth in [each["class_name"] for each in record["classification"][:1]] if truth in self.classes else None
