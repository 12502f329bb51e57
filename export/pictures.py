"""Pictures that an exported network is checked on, and int8 is calibrated on, as the pixels that a network sees.

Letters: B batch, S side in px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch.utils.data import BatchSampler

from data.image_list import ImageList, collate
from data.names import nfc
from data.picture_files import find_pictures
from data.transforms import Preprocessing, Views
from utils import UserError

BATCH = 16  # pictures at a time
GENERATED = 64  # pictures


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures with the artists that they are by.

    Attributes:
        where: they come from, for messages.
        files: of the pictures; none where they are generated.
        artists: of each file, in NFC.
    """

    where: str
    files: list[Path] = field(default_factory=list)
    artists: list[str] = field(default_factory=list)

    @classmethod
    def below(cls, folder: Path) -> Pictures:
        """The pictures below `folder`.

        Raises:
            UserError: there is no such folder, or no picture in it.
        """
        if not folder.is_dir():
            raise UserError(f"no folder {folder}", "pictures of the data set that the network was trained on",
                            "check --data-path")
        found = find_pictures(folder)
        if not found.images:
            raise UserError(f"no picture in {folder}", "pictures of the data set that the network was trained on",
                            "check --data-path")
        files = list(found.images)
        return cls(where=str(folder), files=files, artists=[nfc(found.artist(file)) for file in files])

    def sample(self, most: int) -> Pictures:
        """These, or `most` of them at equal distances."""
        count = len(self.files)
        chosen = [number * count // most for number in range(most)] if most < count else range(count)
        return replace(self, files=[self.files[number] for number in chosen],
                       artists=[self.artists[number] for number in chosen])

    def batches(self, preprocessing: Preprocessing) -> Iterator[tuple[np.ndarray, list[str]]]:
        """Pixels (B, S, S, 3) uint8, RGB, and their artists; a picture that cannot be read is left out."""
        if not self.files:
            yield from _generate(preprocessing.input_size)
            return
        images = ImageList(self.files, Views(preprocessing, "default"))
        for numbers in BatchSampler(range(len(images)), BATCH, drop_last=False):
            batch = collate([images[number] for number in numbers])
            if len(batch.images):
                yield batch.images[:, 0].numpy(), [self.artists[index] for index in batch.indices.tolist()]


GENERATED_PICTURES = Pictures(where="generated pictures")


def _generate(size: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Squares of random colours, of another width in each picture, under noise."""
    random = np.random.default_rng(0)
    for _ in range(GENERATED // BATCH):
        pictures = []
        for _ in range(BATCH):
            count = int(random.integers(2, 1 + size // 2))
            side = -(-size // count)
            colours = random.integers(0, 256, (count, count, 3)).repeat(side, 0).repeat(side, 1)[:size, :size]
            pictures.append((colours + random.normal(0, 10, colours.shape)).clip(0, 255).astype(np.uint8))
        yield np.stack(pictures), [""] * BATCH


def class_ids(artists: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """The class of each artist, (N,) int64; -1 where it is none."""
    ids = {nfc(name): number for number, name in enumerate(classes)}
    return np.array([ids.get(artist, -1) for artist in artists], dtype=np.int64)
