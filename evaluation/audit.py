"""What is likely wrong with the labels of a set of pictures, told from their features."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from data.prepare.fix_list import Fix
from search.neighbours import Index
from utils import UserError, counted

FOLDS = 5  # and the fewest pictures of an artist whose labels are judged
STRENGTH = 0.1  # inverse, of regularisation. Of 0.01 to 100, it finds most swapped labels of artworks, seeds 11 to 13
SURE = 10  # times as probable must an artist be to whom the fix list moves a picture: right in 65 of 72, same seeds
_NEAREST = 5  # pictures whose distance tells an outlier
_FAR = 3  # robust standard deviations above the median, from which on a picture is one
_LEAST_ALIKE = 0.02  # probability that a picture of one artist is the other's, mean of both


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """What was found about N pictures of A artists.

    Attributes:
        names: of the pictures.
        artists: names, in the order of the columns of `probabilities`.
        targets: the artist of each picture, (N,) int64.
        probabilities: (N, A) float64, each picture's by a probe that has not seen it; NaN for an artist with fewer than
            `FOLDS` pictures.
        distances: mean cosine distance to the nearest pictures, (N,) float64.
        groups: pictures that are one picture, as places in `names`, two or more each.
    """

    names: Sequence[str]
    artists: Sequence[str]
    targets: np.ndarray
    probabilities: np.ndarray
    distances: np.ndarray
    groups: Sequence[Sequence[int]]

    @property
    def own(self) -> np.ndarray:
        """Probability of each picture's own artist, (N,)."""
        return self.probabilities[np.arange(len(self.names)), self.targets]

    @property
    def suggested(self) -> np.ndarray:
        """The most probable other artist of each picture, (N,) int64."""
        others = np.nan_to_num(self.probabilities, nan=-1.0)
        others[np.arange(len(self.names)), self.targets] = -2
        return others.argmax(axis=1)

    @property
    def margins(self) -> np.ndarray:
        """Probability of the own artist less that of the suggested one, (N,); 1 for a picture that is not judged."""
        return np.nan_to_num(self.own - self.probabilities[np.arange(len(self.names)), self.suggested], nan=1.0)

    @property
    def agreement(self) -> float:
        """Share of the judged pictures whose own artist is the most probable, 0 to 1."""
        return float((self.margins[~np.isnan(self.own)] > 0).mean())

    @property
    def order(self) -> np.ndarray:
        """The pictures, the most likely wrong label first, (N,) int64."""
        return np.argsort(self.margins, kind="stable")

    @property
    def wrong(self) -> np.ndarray:
        """Whether each label is likely wrong, (N,) bool.

        It is where another artist's probability is at least the mean of that artist's own pictures, and the highest of
        those for which this holds.

        **Source:** Northcutt, Jiang & Chuang, Confident Learning, JAIR 70, 2021, section 3.1.
        """
        own = self.own
        thresholds = [np.nanmean(own[self.targets == artist]) if (self.targets == artist).any() and not np.isnan(
            own[self.targets == artist]).all() else np.inf for artist in range(len(self.artists))]
        confident = np.where(self.probabilities >= thresholds, self.probabilities, -1.0)
        return (confident.max(axis=1) > 0) & (confident.argmax(axis=1) != self.targets)

    @property
    def furthest(self) -> np.ndarray:
        """The pictures, the most unlike all others first, (N,) int64."""
        return np.argsort(-self.distances, kind="stable")

    @property
    def outliers(self) -> np.ndarray:
        """Those of them that are further away than pictures usually are, (M,) int64."""
        middle = np.median(self.distances)
        limit = middle + _FAR * 1.4826 * np.median(np.abs(self.distances - middle))
        return self.furthest[self.distances[self.furthest] > limit]

    def alike(self) -> list[tuple[int, int, float]]:
        """Pairs of artists whose pictures are taken for each other's, and the mean probability of that; most first."""
        judged = ~np.isnan(self.own)
        means = np.zeros((len(self.artists), len(self.artists)))
        for artist in np.unique(self.targets[judged]):
            means[artist] = np.nan_to_num(self.probabilities[judged & (self.targets == artist)]).mean(axis=0)
        both = (means + means.T) / 2
        pairs = [(int(first), int(second), float(both[first, second]))
                 for first, second in zip(*np.triu_indices(len(both), 1), strict=True)]
        return sorted((pair for pair in pairs if pair[2] >= _LEAST_ALIKE), key=lambda pair: -pair[2])

    def across(self) -> list[Sequence[int]]:
        """The `groups` whose pictures are said to be by several artists."""
        return [group for group in self.groups if len({*self.targets[list(group)].tolist()}) > 1]

    def lines(self) -> list[str]:
        """What is printed of it."""
        alike = ", ".join(f"{self.artists[first]} and {self.artists[second]} ({share:.0%})"
                          for first, second, share in self.alike()[:3])
        unjudged = int(np.isnan(self.own).sum())
        return [f"labels that the probe names without having seen the picture: {self.agreement:.0%} (if few, trust "
                "the rest less)",
                f"labels that are likely wrong: {int(self.wrong.sum())} of {len(self.names)}",
                f"pictures that several artists have: {len(self.across())}; of one artist twice or more: "
                f"{len(self.groups) - len(self.across())}",
                f"unlike all others: {len(self.outliers)}", *([f"artists that look alike: {alike}"] if alike else []),
                *([f"not judged: {counted(unjudged, 'picture')} of artists with fewer than {FOLDS}"] if unjudged
                  else [])]

    def fixes(self) -> list[Fix]:
        """Pictures to move to another artist, and copies to leave out; to be looked at by a person before use.

        Of a picture that several artists have, the artist whom its copies fit best keeps it.
        """
        fixes: dict[int, Fix] = {}
        for group in self.across():
            places = list(group)
            fit = np.nan_to_num(self.probabilities[places]).mean(axis=0)
            keeper = max(places, key=lambda place: (fit[self.targets[place]], -place))
            for place in places:
                if self.targets[place] != self.targets[keeper]:
                    fixes[place] = Fix(self.names[place], "", f"the same picture as {self.names[keeper]}, which fits "
                                                              "better")
        paired = {place for group in self.across() for place in group}
        wrong, suggested, owns = self.wrong, self.suggested, self.own
        for place in self.order.tolist():
            other, own = suggested[place], owns[place]
            if wrong[place] and place not in paired and self.probabilities[place, other] >= SURE * own:
                fixes[place] = Fix(self.names[place], self.artists[other],
                                   f"{self.probabilities[place, other]:.0%} {self.artists[other]}, {own:.0%} "
                                   f"{self.artists[self.targets[place]]}")
        return list(fixes.values())


def audit(names: Sequence[str], owners: Sequence[str], rows: np.ndarray, groups: Sequence[Sequence[int]]) -> Audit:
    """Judge pictures by their features.

    Args:
        names: of the pictures.
        owners: the artist of each.
        rows: comparable features, (N, K) float32.
        groups: pictures that are one picture; none is judged by a probe that has seen its copies.

    Raises:
        UserError: fewer than two artists have enough pictures.
    """
    artists, targets = np.unique(owners, return_inverse=True)
    judged = np.bincount(targets)[targets] >= FOLDS
    if len(np.unique(targets[judged])) < 2:
        raise UserError(f"{counted(len(artists), 'artist')}, of whom fewer than two have {FOLDS} pictures that can be "
                        "read", "two at least", "add pictures")
    keys = np.arange(len(names))
    for group in groups:
        keys[list(group)] = group[0]
    probabilities = np.full((len(names), len(artists)), np.nan)
    probabilities[judged] = out_of_fold(rows[judged], targets[judged], keys[judged], len(artists))
    _, scores = Index(rows).nearest(rows, _NEAREST + 1)
    return Audit(names=names, artists=artists.tolist(), targets=targets, probabilities=probabilities,
                 distances=1 - scores[:, 1:].mean(axis=1), groups=groups)


def out_of_fold(rows: np.ndarray, targets: np.ndarray, groups: np.ndarray, classes: int) -> np.ndarray:
    """The probabilities (N, classes) that logistic regression on the other folds gives each picture.

    Args:
        rows: features (N, K) float32.
        targets: (N,) int64.
        groups: (N,) int64; what has one number is in one fold.
        classes: how many there are.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.zeros((len(rows), classes))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of an artist whose pictures are copies, in fewer folds
        folds = list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(rows, targets, groups))
    for train, test in folds:
        known = np.unique(targets[train])
        if len(known) == 1:
            found[np.ix_(test, known)] = 1
        elif len(test):
            model = LogisticRegression(C=STRENGTH, max_iter=1000, class_weight="balanced")
            found[np.ix_(test, known)] = model.fit(rows[train], targets[train]).predict_proba(rows[test])
    return found


def tabulate(audited: Audit) -> list[Sequence[object]]:
    """The table of all pictures with its header, the most likely wrong label first."""
    group_of: Mapping[int, int] = {place: number for number, group in enumerate(audited.groups, 1) for place in group}
    wrong, outliers = audited.wrong, {*audited.outliers.tolist()}
    suggested, own = audited.suggested, audited.own
    table: list[Sequence[object]] = [("path", "artist", "suggested", "probability", "suggested_probability",
                                      "likely_wrong", "distance", "outlier", "same_picture")]
    for place in audited.order.tolist():
        other = suggested[place]
        judged = not np.isnan(own[place])
        table.append((audited.names[place], audited.artists[audited.targets[place]],
                      audited.artists[other] if judged else "", *(
                          f"{value:.4f}" if judged else "" for value in (
                              own[place], audited.probabilities[place, other])),
                      int(wrong[place]), f"{audited.distances[place]:.4f}", int(place in outliers),
                      group_of.get(place, "")))
    return table
