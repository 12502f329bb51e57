"""Scores that are higher for pictures by a network's own artists than for others, and the choice among them.

**Source:** energy: Liu et al., NeurIPS 2020, arXiv 2010.03759. Nearest neighbours: Sun et al., ICML 2022, arXiv
2204.06507. Relative Mahalanobis distance: Ren et al., 2021, arXiv 2106.09022.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from evaluation.answers import Answers
from search.neighbours import Index, normalised
from search.standardisation import MOST_ROWS, Standardisation
from search.vectors import read_arrays
from utils import UserError, read_bytes, write_arrays

ScoreName = Literal["probability", "energy", "neighbours", "mahalanobis", "style", "combined"]
OF_LOGITS: tuple[ScoreName, ...] = ("probability", "energy")
COMBINED: tuple[ScoreName, ...] = ("mahalanobis", "style")
# What calibration.npz holds for each of the others; for `combined` those of both parts, as in "style.mean".
ARRAYS: dict[ScoreName, tuple[str, ...]] = {
    "neighbours": ("mean", "matrix", "pictures"), "mahalanobis": ("mean", "within", "total", "artists"),
    "style": ("mean", "within", "total", "artists")}
ARRAYS["combined"] = tuple(f"{part}.{array}" for part in COMBINED for array in ARRAYS[part])
PARTS = 3  # into which the artists are divided, to be left out in turn
NEAREST = 5  # pictures
MARGIN = 0.05  # of AUROC, by which another score must be estimated better than `combined` to be chosen
SHRINKAGE = 0.1  # of covariances; chosen on other splits than those reported, see BENCHMARKS.md
SMALLEST_VARIANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Scorer:
    """One of the scores, with what it has learnt of known artists' pictures.

    - probability: the highest one, calibrated.
    - energy: log of the sum of exp(logits).
    - neighbours: mean cosine to the nearest pictures.
    - mahalanobis: distance from all pictures less that from the nearest artist, both squared Mahalanobis distances.
    - style: the same of style features alone.
    - combined: the sum of `mahalanobis` and `style`.

    Attributes:
        name: which score.
        temperature: logits are divided by it for `probability`.
        arrays: by name, two-dimensional float32, those of `ARRAYS`; empty for scores of logits.
    """

    name: ScoreName
    temperature: float = 1.0
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def needs_features(self) -> bool:
        """Whether it looks at features, and not at logits."""
        return self.name not in OF_LOGITS

    def score(self, logits: np.ndarray, features: np.ndarray | None) -> np.ndarray:
        """Scores (N,) float64 of N pictures from logits (N, classes) or features (N, D).

        Raises:
            UserError: features of another length than those that the score has learnt from.
        """
        if not self.needs_features:
            logits = logits.astype(np.float64) / (self.temperature if self.name == "probability" else 1)
            total = np.logaddexp.reduce(logits, axis=1)
            return total if self.name == "energy" else np.exp(logits.max(axis=1) - total)
        if self.name == "combined":
            return np.sum([part.score(logits, features) for part in self.parts], axis=0)
        found = 0 if features is None else features.shape[1]
        if features is None or found < (width := self.arrays["mean"].shape[1]):
            raise UserError(f"features of {found} numbers for the score {self.name}",
                            "those of the network that was calibrated", "run tools/calibrate.py again")
        rows = features[:, :width].astype(np.float64) - self.arrays["mean"]
        if self.name == "neighbours":
            points = (rows @ self.arrays["matrix"].T).astype(np.float32)
            return Index(self.arrays["pictures"]).nearest(points, NEAREST)[1].mean(axis=1)
        inside = _square_distances(rows @ self.arrays["within"].T, self.arrays["artists"]).min(axis=1)
        return ((rows @ self.arrays["total"].T) ** 2).sum(axis=1) - inside

    @property
    def parts(self) -> list[Scorer]:
        """The scores that are added up; this one, where it is not `combined`."""
        if self.name != "combined":
            return [self]
        return [Scorer(part, self.temperature, {array: self.arrays[f"{part}.{array}"] for array in ARRAYS[part]})
                for part in COMBINED]

    def write(self, path: Path) -> str:
        """Write `arrays` as .npz; their fingerprint. Nothing, and "", where there are none."""
        if not self.arrays:
            return ""
        write_arrays(path, self.arrays)
        return _digest(path)

    @classmethod
    def read(cls, path: Path, name: ScoreName, temperature: float, fingerprint: str, *,
             action: str = "run tools/calibrate.py again, or add --no-calibration") -> Scorer:
        """The score `name`, with the arrays in the file `path` where it needs them.

        Raises:
            UserError: the file cannot be read, or has another fingerprint; `action` is what to do then.
        """
        if name in OF_LOGITS:
            return cls(name, temperature)
        try:
            found = _digest(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{path}, which cannot be read ({getattr(error, 'strerror', None) or error})",
                            "what tools/calibrate.py wrote", action) from error
        if found != fingerprint:
            raise UserError(f"{path}, which does not belong to the {path.with_suffix('.json').name} beside it",
                            "two files of one calibration", action)
        scorer = cls(name, temperature, read_arrays(path, ARRAYS[name]))
        problems = [problem for part in scorer.parts if (problem := _find_misfit(part.arrays))]
        if problems:
            raise UserError(f"{path}, whose array {problems[0]} does not fit the others", "those of one calibration",
                            action)
        return scorer


def _digest(path: Path) -> str:
    return hashlib.blake2b(read_bytes(path, 2**31), digest_size=16).hexdigest()


def _find_misfit(arrays: dict[str, np.ndarray]) -> str | None:
    """The first of the arrays of a `Scorer` whose shape does not fit the others."""
    width = arrays["mean"].shape[1]
    maps = [name for name in ("matrix", "within", "total") if name in arrays]
    points = "pictures" if "pictures" in arrays else "artists"
    misfits = [name for name in maps if arrays[name].shape[1] != width]
    if len(arrays["mean"]) != 1:
        misfits.insert(0, "mean")
    if not len(arrays[points]) or arrays[points].shape[1] != len(arrays[maps[0]]):
        misfits.append(points)
    return misfits[0] if misfits else None


def _square_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """(N, K) and (C, K) -> (N, C)."""
    squares = (points**2).sum(axis=1)[:, None] + (centres.astype(np.float64) ** 2).sum(axis=1)
    return squares - 2 * points @ centres.T


# ---- fitting ---------------------------------------------------------------------------------------------------------


def fit_scorers(names: Sequence[ScoreName], temperature: float, training: Answers | None,
                blocks: Sequence[int]) -> list[Scorer]:
    """The scores `names`, fitted to training pictures.

    Args:
        names: of scores.
        temperature: of `probability`.
        training: answers to training pictures, with features; None where `names` need none.
        blocks: of the features, see `block_scale`; `style` takes all but the last, the pooled ones.
    """
    fitted: dict[ScoreName, dict[str, np.ndarray]] = {}
    if training:
        features, artists = _sample(training)
        if {"neighbours", "mahalanobis", "combined"} & {*names}:
            fitted["mahalanobis"], fitted["neighbours"] = _fit(features, artists, blocks)
        if {"style", "combined"} & {*names}:
            fitted["style"], _ = _fit(features[:, :sum(blocks[:-1])], artists, blocks[:-1])
        if "combined" in names:
            fitted["combined"] = {f"{part}.{name}": array for part in COMBINED for name, array in fitted[part].items()}
    return [Scorer(name, temperature, fitted.get(name, {})) for name in names]


def _fit(features: np.ndarray, artists: np.ndarray,
         blocks: Sequence[int]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The arrays of the Mahalanobis distance, and of the nearest neighbours."""
    numbers = np.unique(artists, return_inverse=True)[1]
    standard = Standardisation.fit(features, blocks)
    points = standard.apply(features).astype(np.float64)
    means = np.stack([points[numbers == number].mean(axis=0) for number in range(numbers.max() + 1)])
    within, total = _whitening(points - means[numbers]), _whitening(points)
    return ({"mean": standard.mean[None], "within": _single(within @ standard.matrix),
             "total": _single(total @ standard.matrix), "artists": _single(means @ within.T)},
            {"mean": standard.mean[None], "matrix": standard.matrix, "pictures": _single(normalised(points))})


def _single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def _whitening(points: np.ndarray) -> np.ndarray:
    """The map (K, K) after which points (N, K) of mean 0 have about unit covariance, which is shrunk to a sphere."""
    covariance = points.T @ points / len(points)
    sphere = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    values, vectors = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * sphere)
    return (vectors / np.sqrt(np.maximum(values, SMALLEST_VARIANCE))).T


# ---- choosing --------------------------------------------------------------------------------------------------------


def usable_scores(training: Answers | None, blocks: Sequence[int]) -> list[ScoreName]:
    """The scores that can be fitted: all of them, or those of logits where there are no features of training pictures.

    There is no style, which `combined` needs as well, without its blocks of numbers before the pooled ones.
    """
    if training is None or training.features is None or len(training.targets) < 2:
        return [*OF_LOGITS]
    return [name for name in get_args(ScoreName) if name not in ("style", "combined") or len(blocks) > 1]


def estimate_aurocs(names: Sequence[ScoreName], known: Answers, training: Answers | None, temperature: float,
                    blocks: Sequence[int]) -> dict[ScoreName, float]:
    """How well each score tells artists that it has learnt from others, as area under the ROC curve.

    The artists are left out in turn, `PARTS` parts of them, and the scores fitted to the training pictures of the rest.
    The network is not trained again. For scores of logits a classifier of its features stands in, since its own head
    has learnt to keep the left-out artists away from the rest: by its logits the energy had 0.95 where artists that
    were really unknown gave 0.72. The features have seen all artists: where they were trained on them, the figures are
    optimistic.

    Args:
        names: of scores.
        known: answers to validation pictures, with features.
        training: answers to training pictures, with features.
        temperature: of `probability`.
        blocks: see `fit_scorers`.

    Returns:
        the mean over the parts; empty with fewer than three artists, or without training pictures of one of them.
    """
    from sklearn.metrics import roc_auc_score  # takes seconds, and inference reads calibrations without it
    targets, found = known.targets.numpy(), np.unique(known.targets.numpy())
    if training is None or known.features is None or len(found) < 3 or np.setdiff1d(found, training.targets).size:
        return {}
    parts = []
    for part in np.array_split(np.random.default_rng(0).permutation(found), min(PARTS, len(found))):
        kept = training.without(part)
        logits = _stand_in(kept, known.features, blocks) if {*OF_LOGITS} & {*names} else known.logits.numpy()
        parts.append([float(roc_auc_score(~np.isin(targets, part), scorer.score(logits, known.features)))
                      for scorer in fit_scorers(names, temperature, kept, blocks)])
    return dict(zip(names, np.mean(parts, axis=0).tolist(), strict=True))


def choose_score(aurocs: Mapping[ScoreName, float], *, pretrained: bool = False) -> ScoreName:
    """The score of the highest estimated AUROC; without estimates `probability`.

    For a `pretrained` network it is `combined`, unless another is better by more than `MARGIN`: on splits other than
    those reported `combined` was better there than the score of the highest estimate, see BENCHMARKS.md.
    """
    if not aurocs:
        return "probability"
    best = max(aurocs, key=lambda name: aurocs[name])
    return "combined" if pretrained and aurocs.get("combined", -1) >= aurocs[best] - MARGIN else best


def _stand_in(training: Answers, features: np.ndarray, blocks: Sequence[int]) -> np.ndarray:
    """Logits for `features`, (N, D), of a classifier fitted to training pictures: (N, artists)."""
    from sklearn.linear_model import LogisticRegression
    rows, artists = _sample(training)
    standard = Standardisation.fit(rows, blocks)
    head = LogisticRegression(C=10, max_iter=1000, class_weight="balanced").fit(standard.apply(rows), artists)
    logits = head.decision_function(standard.apply(features))
    return np.stack([-logits / 2, logits / 2], axis=1) if logits.ndim == 1 else logits


def _sample(training: Answers) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) and classes (N,) of up to 20,000 training pictures at equal distances."""
    step = -(-len(training.targets) // MOST_ROWS)
    features = training.features
    return (np.empty((0, 0)) if features is None else features[::step]), training.targets.numpy()[::step]
