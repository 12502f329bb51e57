"""Whether an exported network answers as the one that it was made from, and what it loses.

Letters: N pictures, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.transforms import Preprocessing
from export.pictures import Pictures, class_ids
from runtime.export_folder import FEATURES, PROBABILITIES, Precision
from utils import UserError, counted

# Largest difference of a probability, and of features relative to their norm. Of int8 the top-1 that is lost counts.
TOLERANCES: dict[Precision, tuple[float, float]] = {"fp32": (1e-4, 1e-3), "fp16": (2e-2, 2e-2)}
Run = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """Answers to N pictures.

    Attributes:
        probabilities: (N, C).
        features: (N, D).
        targets: class of each picture's artist, (N,); -1 where it is none of the network's.
    """

    probabilities: np.ndarray
    features: np.ndarray
    targets: np.ndarray

    def top1(self) -> float | None:
        """The share of pictures by artists of the network that are answered right, %; None where there are none."""
        known = self.targets >= 0
        return 100 * float((self.probabilities.argmax(1) == self.targets)[known].mean()) if known.any() else None


def answer(run: Run, pictures: Pictures, preprocessing: Preprocessing, classes: list[str]) -> Answers:
    """The answers of `run`, which takes pixels (B, S, S, 3) uint8, RGB, to `pictures`.

    Raises:
        UserError: none of them can be read.
    """
    probabilities, features, artists = [], [], []
    for pixels, names in pictures.batches(preprocessing):
        found = run(pixels)
        probabilities.append(found[PROBABILITIES])
        features.append(found[FEATURES])
        artists += names
    if not artists:
        raise UserError(f"no picture that can be read in {pictures.where}", "at least one", "check --data-path")
    return Answers(probabilities=np.concatenate(probabilities), features=np.concatenate(features),
                   targets=class_ids(artists, classes))


def check_equal(expected: Answers, found: Answers, precision: Precision, path: Path, where: str) -> str:
    """A line that says how little the answers of the network in the file `path` differ from those expected.

    Raises:
        UserError: they differ by more than `TOLERANCES`, or in the most probable class where that is clear.
    """
    probability, feature = TOLERANCES[precision]
    difference = float(np.abs(found.probabilities - expected.probabilities).max())
    norm = np.linalg.norm(expected.features, axis=1)
    relative = float((np.linalg.norm(found.features - expected.features, axis=1) / np.maximum(norm, 1e-12)).max())
    pair = np.sort(expected.probabilities, axis=1)[:, -2:]
    clear = pair[:, -1] - pair[:, 0] > 2 * probability
    changed = int((found.probabilities.argmax(1) != expected.probabilities.argmax(1))[clear].sum())
    told = (f"probabilities differ by up to {difference:.1e}, features by {relative:.1e} of their norm, "
            f"{changed} of {counted(int(clear.sum()), 'clear answer')}")
    if not (difference <= probability and relative <= feature and not changed):
        raise UserError(f"{path.name}, which answers otherwise than the checkpoint on {where} ({told})",
                        f"at most {probability:g}, {feature:g} and none",
                        "nothing was written; report this, with the name of the network")
    return f"{counted(len(norm), 'picture')} of {where}: {told}"


def check_loss(expected: Answers, found: Answers, where: str, most: float) -> str:
    """The line of `format_loss`; raises a `UserError` if more than `most` percentage points are lost."""
    told, lost = format_loss(expected, found, where), _lost(expected, found)
    if not lost <= most:
        raise UserError(told, f"at most {most:g} points lost",
                        "nothing was written; take --precision fp16, or raise --max-top1-loss")
    return told


def format_loss(expected: Answers, found: Answers, where: str) -> str:
    """A line that says what top-1 is lost; without artists to go by, how many answers change."""
    before, after = expected.top1(), found.top1()
    count, lost = counted(len(found.targets), "picture"), _lost(expected, found)
    if before is None or after is None:
        return f"{count} of {where}: {lost:.2f} % of the answers change"
    return f"{count} of {where}: top-1 {after:.2f} % instead of {before:.2f} %, {lost:.2f} points lost"


def _lost(expected: Answers, found: Answers) -> float:
    before, after = expected.top1(), found.top1()
    if before is None or after is None:
        return 100 * float((found.probabilities.argmax(1) != expected.probabilities.argmax(1)).mean())
    return before - after
