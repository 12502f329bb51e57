"""A contact sheet of predictions: each picture with the artist predicted, right or wrong where the truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from data.images import ImageError, decode_image
from runtime.plots import Tile, contact_sheet
from runtime.predictor import Failure, Result

MOST = 48  # pictures on one sheet
THUMBNAIL = (256, 256)  # px


class Showcase:
    """Passes answers on and keeps every so many of them for a sheet.

    A picture whose folder bears the name of a class counts as that artist's.
    """

    def __init__(self, total: int) -> None:
        self.every = max(1, -(-total // MOST))
        self.kept: list[Result] = []
        self.right = self.judged = 0

    def watch(self, answers: Iterable[Result | Failure]) -> Iterator[Result | Failure]:
        """Yield the answers as they come."""
        for number, answer in enumerate(answers):
            if isinstance(answer, Result):
                good = self._is_right(answer)
                self.judged += good is not None
                self.right += good is True
                if number % self.every == 0:
                    self.kept.append(answer)
            yield answer

    def write(self, path: Path) -> None:
        """Draw the sheet of what was kept and can still be read; nothing where no picture could be."""
        tiles = [tile for answer in self.kept if (tile := self._tile(answer))]
        if tiles:
            title = f"{self.right} of {self.judged} right" if self.judged else f"{len(tiles)} pictures"
            contact_sheet(tiles, path, title=title)

    def _tile(self, answer: Result) -> Tile | None:
        try:
            picture = decode_image(answer.path)
        except ImageError:  # moved since, or above the default limit of pixels
            return None
        picture.thumbnail(THUMBNAIL)
        best = answer.top(1)[0]
        good = self._is_right(answer)
        truth = f"\n(is {answer.path.parent.name})" if good is False else ""
        return Tile(image=picture, caption=f"{best['probability']:.0%} {best['class_name']}{truth}", good=good)

    @staticmethod
    def _is_right(answer: Result) -> bool | None:
        truth = answer.path.parent.name
        return truth == answer.classes[answer.logits.argmax()] if truth in answer.classes else None
