"""What a network gets wrong on its validation pictures, how sure it is then, and how far it can be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.calibration import reliability_bins
from evaluation.validation_answers import AnsweredPicture, ValidationAnswers

RESAMPLES = 1000
_LIKELY = 0.5  # from which on one of several labels counts as told


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A picture whose label the network did not tell, or for which it told another.

    Attributes:
        place: of the picture among the answers.
        missed: the label that it has, and its probability; None where no label of several was missed.
        told: the label that it has not, and its probability; None where none was told.
    """

    place: int
    missed: tuple[int, float] | None
    told: tuple[int, float] | None

    @property
    def sureness(self) -> float:
        """How sure the network was: of one label each, the distance of both probabilities."""
        missed, told = 1 - self.missed[1] if self.missed else 0.0, self.told[1] if self.told else 0.0
        return missed + told


def find_mistakes(answers: ValidationAnswers) -> list[Mistake]:
    """All of them, the surest first: often wrong labels, or the same picture twice."""
    find = _find_one if answers.task == "classification" else _find_several
    found = [mistake for place, picture in enumerate(answers.pictures) if (mistake := find(place, picture))]
    return sorted(found, key=lambda mistake: -mistake.sureness)


def _find_one(place: int, picture: AnsweredPicture) -> Mistake | None:
    if picture.answers[0][0] == picture.labels[0]:
        return None
    return Mistake(place=place, missed=(picture.labels[0], picture.own[0]), told=picture.answers[0])


def _find_several(place: int, picture: AnsweredPicture) -> Mistake | None:
    """The label that was missed most clearly, and the one that was told most surely without being there."""
    missed = min(zip(picture.labels, picture.own, strict=True), key=lambda pair: pair[1], default=None)
    told = next((answer for answer in picture.answers if answer[0] not in picture.labels), None)
    missed = missed if missed and missed[1] < _LIKELY else None
    told = told if told and told[1] >= _LIKELY else None
    return Mistake(place=place, missed=missed, told=told) if missed or told else None


def confused_pairs(mistakes: Sequence[Mistake]) -> dict[tuple[int, int], list[Mistake]]:
    """Label that was missed and label that was told in its place -> such mistakes; the most frequent pair first."""
    pairs: dict[tuple[int, int], list[Mistake]] = defaultdict(list)
    for mistake in mistakes:
        if mistake.missed and mistake.told:
            pairs[mistake.missed[0], mistake.told[0]].append(mistake)
    return dict(sorted(pairs.items(), key=lambda pair: -len(pair[1])))


def recognised(answers: ValidationAnswers, label: int) -> list[int]:
    """Places of the pictures with `label` that the network tells, the surest first."""
    shares = {place: picture.own[picture.labels.index(label)] for place, picture in enumerate(answers.pictures)
              if label in picture.labels and label in _told(answers, picture)}
    return sorted(shares, key=lambda place: -shares[place])


def _told(answers: ValidationAnswers, picture: AnsweredPicture) -> list[int]:
    if answers.task == "classification":
        return [picture.answers[0][0]]
    return [number for number, share in picture.answers if share >= _LIKELY]


def reliability(answers: ValidationAnswers) -> list[tuple[float, float, int]]:
    """Mean probability, share right and number of answers in each bin of probability that has any.

    Of one label each, the most probable answer counts; of several, each label of each picture that was kept.
    """
    most = 1 if answers.task == "classification" else None
    pairs = [(share, number in picture.labels) for picture in answers.pictures
             for number, share in picture.answers[:most]]
    return reliability_bins(np.array([share for share, _ in pairs]), np.array([right for _, right in pairs]))


def mean_average_precision(answers: ValidationAnswers) -> np.ndarray | None:
    """Macro mAP of the pictures, and of `RESAMPLES` draws of as many of them, (1 + RESAMPLES,), 0 to 1.

    None where not all probabilities were kept. A label that a draw lacks does not count in it.
    """
    pictures, classes = answers.pictures, len(answers.classes)
    if any(len(picture.answers) < classes for picture in pictures):
        return None
    scores, present = np.zeros((len(pictures), classes)), np.zeros((len(pictures), classes), bool)
    for row, picture in enumerate(pictures):
        for number, share in picture.answers:
            scores[row, number] = share
        present[row, picture.labels] = True
    order = np.argsort(-scores, axis=0, kind="stable")
    ranked = np.take_along_axis(present, order, 0)
    rng = np.random.default_rng(0)
    draws = [np.ones(len(pictures)), *(rng.multinomial(len(pictures), np.full(len(pictures), 1 / len(pictures)))
                                       for _ in range(RESAMPLES))]
    return np.array([_macro_map(counts[order], ranked) for counts in draws])


def _macro_map(counts: np.ndarray, present: np.ndarray) -> float:
    """Mean over labels; `counts` and `present`, (N, labels), are of the pictures from the most probable on."""
    found = np.cumsum(counts * present, axis=0)
    precision = found / np.maximum(np.cumsum(counts, axis=0), 1)
    support = found[-1]
    return float(((precision * counts * present).sum(0)[support > 0] / support[support > 0]).mean())
