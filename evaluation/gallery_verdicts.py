"""Verdicts on pictures that are searched for in a gallery, calibrated on the gallery's own pictures.

Pictures are left out in turn to see what a search says of known artists' new pictures, and whole artists to see what it
says of unknown ones. The same calibration.json as beside checkpoints lies in the gallery's folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data.side_files import read_json
from evaluation.answers import Answers
from evaluation.calibration import (
    CALIBRATION,
    STATISTICS,
    VERDICTS,
    Calibration,
    Fitted,
    bound_below,
    format_separation,
    format_verdicts,
    possible_threshold,
)
from evaluation.unknown_scores import PARTS, ScoreName, Scorer, choose_score, fit_scorers
from search.gallery import Gallery, GalleryOutline
from search.gallery_search import GallerySearch
from search.standardisation import MOST_ROWS
from utils import UserError, counted

GalleryScore = Literal["probability", "neighbours", "mahalanobis", "style", "combined"]
FOLDS = 5  # into which each artist's pictures are divided, to be left out in turn
FEWEST = 3  # artists with two pictures
MOST_ARTISTS = 0.8  # share of unknown artists for whom `confident` keeps the error rate
AGAIN = "run tools/build_gallery.py --calibrate again, or add --no-calibration"


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What a search says of N pictures that the gallery does not hold.

    Attributes:
        right: whether the artist whom the neighbours vote for is the picture's, (N,) bool.
        shares: that artist's share of the vote, (N,) float64.
        scores: of each name, (N,) float64.
        artists: the picture's artist as a position in the gallery's `sizes`, (N,) int64.
    """

    right: np.ndarray
    shares: np.ndarray
    scores: Mapping[ScoreName, np.ndarray]
    artists: np.ndarray

    def select(self, chosen: np.ndarray) -> Found:
        """Some of the pictures; `chosen` is (N,) bool."""
        return Found(right=self.right[chosen], shares=self.shares[chosen], artists=self.artists[chosen],
                     scores={name: values[chosen] for name, values in self.scores.items()})

    @classmethod
    def join(cls, parts: Sequence[Found]) -> Found:
        """The pictures of all `parts`, one after another."""
        return cls(**{key: np.concatenate([getattr(part, key) for part in parts])
                      for key in ("right", "shares", "artists")},
                   scores={name: np.concatenate([part.scores[name] for part in parts]) for name in parts[0].scores})


# ---- fitting ---------------------------------------------------------------------------------------------------------


def calibrate_gallery(gallery: Gallery, neighbours: int, error_rate: float,
                      score: ScoreName | None = None) -> Fitted:
    """Fit verdicts to the pictures of a gallery; of more than 20,000, to so many at equal distances.

    About `error_rate` of the known artists' pictures are unknown. Confident is the lowest share of the vote from which
    on at most `error_rate` of the answers are wrong, counting one more that is, where an unknown artist has as many
    pictures as all known ones: one as easily taken for known as the fourth of five that were left out. Their mean would
    not do: with it twice as many answers were wrong as stated (see BENCHMARKS.md).

    **Source:** the one more, and the rank among the artists: Angelopoulos and Bates, 2021, arXiv 2107.07511.

    Args:
        gallery: with its standardisation, or without: each search fits its own.
        neighbours: nearest pictures that vote.
        error_rate: 0 to 1.
        score: None for the one that `choose_score` takes.

    Returns:
        the figures are those of `fit_calibration` that do not depend on a temperature.

    Raises:
        UserError: too few artists have two pictures, or the features have no style for that `score`.
    """
    names = usable_scores(gallery)
    if score and score not in names:
        raise UserError(f"--score {score} for a gallery of {gallery.space.feature_kind} features",
                        f"one of {', '.join(names)}", "take another score, or build it with --feature-kind both")
    fingerprint = gallery.fingerprint
    gallery = gallery.select(np.arange(len(gallery.images)) % -(-len(gallery.images) // MOST_ROWS) == 0)
    known, unknown, aurocs = cross_fit(gallery, [score] if score else names, neighbours)
    name = score or choose_score(aurocs)
    possible = possible_threshold(known.scores[name], error_rate)
    confident = _confident_threshold(known, unknown, name, possible, error_rate)
    calibration = Calibration(fingerprint=fingerprint, view="default", temperature=1.0, confident=confident,
                              possible=possible, error_rate=error_rate, score=name, estimated_auroc=aurocs[name],
                              neighbours=neighbours)
    told = [[*map(calibration.verdict, group.shares, group.scores[name])] for group in (
        known.select(known.right), known.select(~known.right), unknown)]
    figures: dict[str, Any] = {
        "pictures": len(known.right), "outside_pictures": len(unknown.right), "accuracy": float(known.right.mean()),
        "estimated_aurocs": aurocs,
        "verdicts": {verdict: [group.count(verdict) / max(1, len(group)) for group in told] for verdict in VERDICTS}}
    scorer, = fit_scorers([name], 1.0, _as_answers(gallery), gallery.blocks)
    return Fitted(calibration=calibration, scorer=scorer, figures=figures)


def usable_scores(gallery: Gallery) -> list[ScoreName]:
    """The scores that the gallery's features allow."""
    pooled: list[ScoreName] = ["probability", "neighbours", "mahalanobis"]
    return [*pooled, "style", "combined"] if gallery.space.feature_kind == "both" else pooled


def cross_fit(gallery: Gallery, names: Sequence[ScoreName],
              neighbours: int) -> tuple[Found, Found, dict[ScoreName, float]]:
    """What a search in the rest of `gallery` says of pictures left out: by known artists, by unknown ones, and AUROCs.

    A fifth of each artist's pictures is left out at a time: first alone, then with a third of the artists as well,
    whose own pictures of that fifth are those by unknown artists. The areas under the ROC curve are of known against
    unknown ones in the same searches, mean over the thirds. An artist's only picture is by an unknown one.

    Raises:
        UserError: too few artists have two pictures.
    """
    from sklearn.metrics import roc_auc_score  # takes seconds, and inference reads calibrations without it
    numbers, counts = gallery.numbers, np.array([*gallery.sizes.values()])
    if (several := int((counts > 1).sum())) < FEWEST:
        raise UserError(f"a gallery with {counted(several, 'artist')} of two pictures or more", f"at least {FEWEST}",
                        "add pictures, or leave --calibrate away")
    random = np.random.default_rng(0)
    folds = np.empty(len(numbers), np.int64)
    for number in range(len(counts)):
        rows = np.flatnonzero(numbers == number)
        folds[random.permutation(rows)] = (np.arange(len(rows)) + random.integers(FOLDS)) % FOLDS
    known: list[Found] = []
    unknown: list[Found] = []
    aurocs = []
    for part in (np.empty(0), *np.array_split(random.permutation(len(counts)), PARTS)):
        left = np.isin(numbers, part)
        asked = [folds == fold for fold in range(FOLDS)]
        found = Found.join([_search(gallery, ~left & ~rows, rows, names, neighbours) for rows in asked if rows.any()])
        outside = np.isin(found.artists, part)
        if not len(part):
            known = [found.select(counts[found.artists] > 1)]
            continue
        unknown.append(found.select(outside))
        judged = found.select(outside | (counts[found.artists] > 1))
        aurocs.append([roc_auc_score(~np.isin(judged.artists, part), judged.scores[name]) for name in names])
    return known[0], Found.join(unknown), dict(zip(names, np.mean(aurocs, axis=0).tolist(), strict=True))


def _search(gallery: Gallery, kept: np.ndarray, asked: np.ndarray, names: Sequence[ScoreName],
            neighbours: int) -> Found:
    """What a search in the `kept` rows says of those `asked`, (N,) bool each."""
    rest, features = gallery.select(kept).standardised(), np.asarray(gallery.features[asked])
    matches = GallerySearch(rest, neighbours=neighbours).find(features, 1)
    first = [match["artists_by_neighbours"][0] for match in matches]
    artists = gallery.numbers[asked]
    own = np.array([*gallery.sizes])[artists]
    shares = np.array([each["share"] for each in first])
    scorers = fit_scorers(names, 1.0, _as_answers(rest), gallery.blocks)
    scores = {scorer.name: _scores(scorer, shares, features) for scorer in scorers}
    return Found(right=np.array([each["artist"] for each in first]) == own, shares=shares, scores=scores,
                 artists=artists)


def _scores(scorer: Scorer, shares: np.ndarray, features: np.ndarray) -> np.ndarray:
    return scorer.score(np.empty((len(shares), 0)), features) if scorer.needs_features else shares


def _as_answers(gallery: Gallery) -> Answers:
    return Answers(logits=torch.empty(len(gallery.images), 0), targets=torch.from_numpy(gallery.numbers),
                   features=np.asarray(gallery.features))


def _confident_threshold(known: Found, unknown: Found, name: ScoreName, possible: float, error_rate: float) -> float:
    """The share of the vote from which on answers are confident, see `calibrate_gallery`; 2 where there is none."""
    passing, others = (found.select(found.scores[name] >= possible) for found in (known, unknown))
    sizes = np.bincount(unknown.artists)
    found = 2.0
    for share in np.unique(passing.shares)[::-1]:
        sure = passing.shares >= share
        called = np.bincount(others.artists[others.shares >= share], minlength=len(sizes)) / sizes
        strangers = len(known.right) * np.quantile(called, MOST_ARTISTS, method="higher")
        if (np.sum(sure & ~passing.right) + strangers + 1) / (sure.sum() + strangers + 1) <= error_rate:
            found = bound_below(share, np.concatenate([passing.shares, others.shares]))
    return found


def format_fitted(fitted: Fitted) -> list[str]:
    """The lines that are printed of a gallery's calibration."""
    figures = fitted.figures
    return [f"{counted(figures['pictures'], 'picture')} left out in turn: {figures['accuracy']:.1%} right",
            *format_separation(fitted), *format_verdicts(fitted, "share")]


# ---- searching -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class GalleryVerdicts:
    """A gallery's calibration, and the score that its verdicts are made with."""

    calibration: Calibration
    scorer: Scorer

    def tell(self, matches: Sequence[Mapping[str, Any]], features: np.ndarray) -> list[str]:
        """The verdict on each of `matches`, objects of `GallerySearch.find` for `features`, (Q, D) float32."""
        shares = np.array([match["artists_by_neighbours"][0]["share"] for match in matches])
        return [*map(self.calibration.verdict, shares, _scores(self.scorer, shares, features))]


def read_verdicts(folder: Path, gallery: GalleryOutline, *, neighbours: int) -> GalleryVerdicts | None:
    """The verdicts of a `gallery`, whose calibration is in `folder`; None where it was not calibrated.

    Raises:
        UserError: the calibration cannot be read, is of another gallery or another number of `neighbours`.
    """
    path = folder / CALIBRATION
    if not os.path.lexists(path):
        return None
    found = read_json(path, Calibration, expected="what tools/build_gallery.py wrote", action=AGAIN)
    if found.fingerprint != gallery.fingerprint:
        raise UserError(f"{path}, which belongs to another gallery", "its own", AGAIN)
    if found.neighbours != neighbours:
        raise UserError(f"--neighbours {neighbours} with {path}, made with {found.neighbours}", "the same number",
                        f"take --neighbours {found.neighbours}, or add --no-calibration")
    scorer = Scorer.read(folder / STATISTICS, found.score, 1.0, found.statistics, action=AGAIN)
    return GalleryVerdicts(calibration=found, scorer=scorer)
