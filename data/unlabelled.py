"""Pictures without labels, each of which two networks see: one transform for the student, targets from the teacher."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from data.image_list import Draw, LabelledImages, Sample
from data.images import DEFAULT_MAX_PIXELS, ImageError
from data.picture_files import find_pictures
from data.transforms import Transform
from utils import UserError, isolated_random, mix_seed


class UnlabelledFolder(LabelledImages):
    """The images below `root`, in any folders; there are no classes.

    The target of an image is what `teacher_transform` makes of the same view; or its row of `features`, where these
    are known: then a draw takes one of as many views of the image as `features` has, the same ones in every epoch.

    Attributes:
        teacher_transform: draws the same random numbers as `transform`, so that both cut the same view.
        features: (views, N, D) float32, or None.
        seed: of the views that `features` are of.
        passed_over: lines on files and folders that are not in the dataset.
    """

    def __init__(self, root: Path, names: Sequence[str], transform: Transform, *, seed: int,
                 max_pixels: int = DEFAULT_MAX_PIXELS, passed_over: Sequence[str] = ()) -> None:
        """Take the images `names`, paths below `root`; `transform` is for both networks until others are set."""
        super().__init__((), transform, max_pixels=max_pixels)
        self.root, self.names, self.seed, self.passed_over = root, list(names), seed, list(passed_over)
        self.classes: list[str] = []
        self.teacher_transform = transform
        self.features: torch.Tensor | None = None

    def __getitem__(self, index: Draw | int) -> Sample:
        number, seed = (index.index, index.seed) if isinstance(index, Draw) else (index, None)
        try:
            picture = self.picture(number)
        except ImageError as error:
            return Sample(number, 0, None, error.reason)
        if self.features is not None:
            view = 0 if seed is None else seed % len(self.features)
            seed = None if seed is None else mix_seed(self.seed, view, number)
            target = self.features[view, number]
        else:
            with _random(seed):
                target = self.teacher_transform(picture)
        with _random(seed):
            return Sample(number, target, self.transform(picture))

    def counts(self) -> np.ndarray:
        """Images of each class: (0,) int64."""
        return np.empty(0, np.int64)

    def leave_out(self, damaged: Collection[Path]) -> None:
        """Forget these files; the others keep their order."""
        self.names = [name for name in self.names if self.root / name not in damaged]


def _random(seed: int | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if seed is None else isolated_random(seed)


def open_unlabelled(root: Path, transform: Transform, *, seed: int, max_pixels: int,
                    exclude: Sequence[str] = ()) -> UnlabelledFolder:
    """All images below `root`.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    found = find_pictures(root, exclude=exclude)
    if not found.names:
        raise UserError(f"no picture in {root}", "a folder of pictures, whatever folders they lie in",
                        "check --data-path")
    return UnlabelledFolder(root, found.names, transform, seed=seed,
                            max_pixels=max_pixels, passed_over=[f"{root}: {line}" for line in found.report()])


def hold_out(names: Sequence[str], share: float) -> tuple[list[str], list[str]]:
    """`names` that train, and about a `share` of them, at least one, that validate.

    The side of a name depends on that name alone (but for the one), so that new pictures move no other.

    Raises:
        UserError: there are fewer than three.
    """
    if len(names) < 3:
        raise UserError(f"{len(names)} picture(s)", "at least three: two to train, one to validate", "add pictures")
    places = {name: _place(name) for name in names}
    limit = max(share, min(places.values()))
    held = [name for name in names if places[name] <= limit][:len(names) - 2]
    return [name for name in names if name not in {*held}], held


def _place(name: str) -> float:
    """A number in [0, 1) that is as good as random."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
