"""Temperature scaling, and the thresholds between confident, possible and unknown; calibration.json holds both.

What the score behind `unknown` needs beyond these numbers lies in calibration.npz.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta

from data.output_folder import replace_together
from data.side_files import read_json
from evaluation.answers import Answers
from evaluation.unknown_scores import (
    OF_LOGITS,
    ScoreName,
    Scorer,
    choose_score,
    estimate_aurocs,
    fit_scorers,
    usable_scores,
)
from runtime.checkpoint import CALIBRATION, STATISTICS
from runtime.text_table import format_table
from utils import UserError, write_json

WEAK = 0.7  # AUROC; 0.5 is chance
BINS = 15  # of equal width, for reliability
ROUNDING = 1e-6  # relative; between two answers to one picture
LEAST, MOST = 1e-12, 1e12  # temperature
CONFIDENT, POSSIBLE, UNKNOWN = VERDICTS = "confident", "possible", "unknown"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How one network's logits become calibrated probabilities and verdicts.

    Attributes:
        fingerprint: of the network.
        view: views of each picture that the network was run on.
        temperature: logits are divided by it.
        confident: an answer is confident from this calibrated probability on; above 1 where no threshold keeps the
            error rate.
        possible: it is possible from this score on; below, the artist is unknown.
        error_rate: see `verdict_thresholds`.
        score: what tells known artists from unknown ones.
        estimated_auroc: how well, see `estimate_aurocs`; None where that was not estimated.
        statistics: fingerprint of calibration.npz; empty where the score does not need it.
        neighbours: of a gallery, nearest pictures that vote; its probabilities are shares of their vote.
    """

    fingerprint: str
    view: str
    temperature: Annotated[float, Meta(ge=LEAST, le=MOST)]
    confident: Annotated[float, Meta(ge=0, le=2)]
    possible: float
    error_rate: Annotated[float, Meta(ge=0, le=1)]
    score: ScoreName = "probability"
    estimated_auroc: Annotated[float, Meta(ge=0, le=1)] | None = None
    statistics: str = ""
    neighbours: int | None = None

    def __post_init__(self) -> None:
        """Raise a `ValueError` if `possible` should be a probability, and is none."""
        if self.score == "probability" and not 0 <= self.possible <= 1:
            raise ValueError(f"possible from the probability {self.possible}")

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(…, classes) logits -> calibrated probabilities of the same shape."""
        return (logits / self.temperature).softmax(-1)

    def verdict(self, probability: float, score: float | None = None) -> str:
        """The verdict on a picture with this highest calibrated probability and this `score`, if that is another.

        Raises:
            ValueError: the calibration is of another score, which is not given.
        """
        if score is None:
            if self.score != "probability":
                raise ValueError(f"no {self.score} score")
            score = probability
        return UNKNOWN if score < self.possible else CONFIDENT if probability >= self.confident else POSSIBLE

    def as_plain(self) -> dict[str, Any]:
        """The attributes; without the last four where they say nothing, as in files of earlier versions."""
        silent = {"score": "probability", "estimated_auroc": None, "statistics": "", "neighbours": None}
        return {name: value for name, value in dataclasses.asdict(self).items()
                if name not in silent or value != silent[name]}

    def write(self, path: Path, figures: Mapping[str, Any], scorer: Scorer | None = None) -> None:
        """Write calibration.json with the `figures` of `fit_calibration`, and what the `scorer` needs beside it."""
        with replace_together(path.parent, (path.name, STATISTICS)) as building:
            statistics = scorer.write(building / STATISTICS) if scorer else ""
            found = dataclasses.replace(self, statistics=statistics)
            write_json(building / path.name, {**found.as_plain(), "figures": figures})

    @classmethod
    def beside(cls, checkpoint: Path, fingerprint: str, view: str | None) -> Calibration | None:
        """The calibration beside a checkpoint, for this `view`, or any; None where there is none.

        Raises:
            UserError: it cannot be read, or was made for another network or view.
        """
        path = calibration_path(checkpoint)
        if not os.path.lexists(path):
            return None
        action = "run tools/calibrate.py again, or add --no-calibration"
        found = read_json(path, cls, expected="what tools/calibrate.py wrote", action=action)
        if found.fingerprint != fingerprint:
            raise UserError(f"{path}, which belongs to another network than {checkpoint}", "its own", action)
        if view is not None and found.view != view:
            raise UserError(f"--view {view} with {path}, made with --view {found.view}", "the same view", action)
        return found

    def read_scorer(self, checkpoint: Path) -> Scorer:
        """The score that this calibration, which lies beside `checkpoint`, was made with; see `Scorer.read`."""
        path = calibration_path(checkpoint).with_name(STATISTICS)
        return Scorer.read(path, self.score, self.temperature, self.statistics)


def calibration_path(checkpoint: Path) -> Path:
    """Where the calibration of a checkpoint, a file or a folder, lies."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / CALIBRATION


# ---- fitting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A calibration, the score that its verdicts are made with, and the figures behind both."""

    calibration: Calibration
    scorer: Scorer
    figures: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write calibration.json, and calibration.npz where the score needs it, to `folder`."""
        self.calibration.write(folder / CALIBRATION, self.figures, self.scorer)


def fit_calibration(known: Answers, others: Answers, error_rate: float, fingerprint: str, view: str, *,
                    training: Answers | None = None, blocks: Sequence[int] = (),
                    score: ScoreName | None = None, pretrained: bool = False) -> Fitted:
    """Fit a calibration to answers to validation pictures, and to pictures of other artists where there are any.

    Where every answer is right the best temperature would be 0, whatever the picture: it stays 1.

    Args:
        known: answers to validation pictures.
        others: answers to pictures of other artists; the choice of the score does not see them.
        error_rate: see `verdict_thresholds`.
        fingerprint: of the network.
        view: views of each picture.
        training: answers to training pictures, with features; without them only scores of logits are compared.
        blocks: of the features, see `fit_scorers`.
        score: None for the one that `choose_score` takes.
        pretrained: whether the network's training began with published weights.

    Returns:
        the figures are `accuracy`, `ece_before`, `ece_after`, `estimated_aurocs` by score, `auroc` and `fpr95` where
        there are other artists, and per verdict the shares of right, wrong and other answers.

    Raises:
        UserError: no validation picture, an unknown artist among the known, a known one among the others, or no
            training pictures for a `score` that needs them.
    """
    _check_answers(known, others)
    temperature = 1.0 if known.right.all() else fit_temperature(known.logits, known.targets)
    names = usable_scores(training, blocks)
    if score and score not in names:
        raise UserError(f"--score {score} without the pictures that it learns from", "train/ beside val/",
                        f"take --score {' or '.join(OF_LOGITS)}, or check --data-path")
    aurocs = estimate_aurocs([score] if score else names, known, training, temperature, blocks)
    name = score or choose_score(aurocs, pretrained=pretrained)
    scorer, = fit_scorers([name], temperature, training, blocks)
    (sure, scores), (unknown_sure, unknown) = (rate_answers(answers, scorer) for answers in (known, others))
    confident, possible = verdict_thresholds(
        np.concatenate([sure, unknown_sure]), np.concatenate([scores, unknown]),
        np.concatenate([known.right, others.right]), np.repeat([True, False], [len(scores), len(unknown)]), error_rate)
    calibration = Calibration(fingerprint=fingerprint, view=view, temperature=temperature, confident=confident,
                              possible=possible, error_rate=error_rate, score=name, estimated_auroc=aurocs.get(name))
    verdicts = [[*map(calibration.verdict, *group)] for group in (
        (sure[known.right], scores[known.right]), (sure[~known.right], scores[~known.right]), (unknown_sure, unknown))]
    figures = {"pictures": len(scores), "outside_pictures": len(unknown), "accuracy": float(known.right.mean()),
               "ece_before": calibration_error(known.probabilities(1), known.right),
               "ece_after": calibration_error(sure, known.right), "estimated_aurocs": aurocs,
               "verdicts": {name: [group.count(name) / max(1, len(group)) for group in verdicts] for name in VERDICTS}}
    return Fitted(calibration=calibration, scorer=scorer,
                  figures=figures | (separation(scores, unknown) if len(unknown) else {}))


def rate_answers(answers: Answers, scorer: Scorer) -> tuple[np.ndarray, np.ndarray]:
    """The highest calibrated probability of each answer, and its score, (N,) float64 each."""
    if not len(answers.targets):
        return np.empty(0), np.empty(0)
    return answers.probabilities(scorer.temperature), scorer.score(answers.logits.numpy(), answers.features)


def _check_answers(known: Answers, others: Answers) -> None:
    if not len(known.targets):
        raise UserError("no validation picture that can be read", "one folder per artist in val/", "check --data-path")
    if known.unknown:
        names = ", ".join(known.unknown)
        raise UserError(f"validation pictures in folders that are no artist of the network ({names})",
                        "its artists only", "give such pictures to --unknown-dir")
    if (others.targets >= 0).any():
        raise UserError("a folder below --unknown-dir that bears the name of an artist of the network",
                        "artists that it does not know", "take that folder away")


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The temperature that gives the logits, (N, classes), the least cross-entropy with the targets, (N,).

    It ends at `LEAST` or `MOST`: the best one is 0 where every answer is right, and infinite where every one is wrong.

    **Source:** Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
    """
    logits, log_temperature = logits.double(), torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(logits / log_temperature.exp(), targets)
        value.backward()
        return value

    optimizer.step(loss)
    return min(max(log_temperature.exp().item(), LEAST), MOST)


def reliability_bins(scores: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean score, share that is right and number of answers of each of `BINS` that has answers; (N,) each."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [(float(scores[bins == number].mean()), float(right[bins == number].mean()), int((bins == number).sum()))
            for number in np.unique(bins)]


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, 0 to 1: the distance of score and share right, mean over answers by bins."""
    return sum(count * abs(score - share) for score, share, count in reliability_bins(scores, right)) / len(scores)


def verdict_thresholds(probabilities: np.ndarray, scores: np.ndarray, right: np.ndarray, known: np.ndarray,
                       error_rate: float) -> tuple[float, float]:
    """From which probability on an answer is confident, and from which score on it is possible.

    About `error_rate` of the known artists' pictures lie below possible. Of the others, confident is the lowest
    probability from which on at most `error_rate` of the answers are wrong, counting one more that is: thresholds that
    just hold on these pictures would not on others. There is none, 2, if that cannot be reached.

    **Source:** the one more is that of conformal prediction: Angelopoulos and Bates, 2021, arXiv 2107.07511.

    Args:
        probabilities: the highest of each picture, (N,).
        scores: of each picture, (N,).
        right: whether the most probable class is right, (N,).
        known: whether it is by a known artist, (N,); at least one is.
        error_rate: 0 to 1.
    """
    possible = possible_threshold(scores[known], error_rate)
    chosen = np.flatnonzero(scores >= possible)
    chosen = chosen[np.argsort(-probabilities[chosen], kind="stable")]
    share = (np.cumsum(~right[chosen]) + 1) / np.arange(2, len(chosen) + 2)
    ranked = probabilities[chosen]
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    good = np.flatnonzero((share <= error_rate) & last_of_ties)
    return bound_below(ranked[good[-1]], ranked) if len(good) else 2.0, possible


def possible_threshold(scores: np.ndarray, error_rate: float) -> float:
    """The score below which about `error_rate`, 0 to 1, of known artists' `scores` lie, (N,)."""
    return bound_below(np.sort(scores)[max(0, int(error_rate * (len(scores) + 1)) - 1)], scores)


def bound_below(value: float, values: np.ndarray) -> float:
    """A threshold that `value` passes, midway between it and the next lower one of `values`, (N,).

    So it passes again when the same picture is answered in another batch, where rounding changes the last digits.
    """
    lower = values[values < value]
    return float((value + lower.max()) / 2 if len(lower) else value - ROUNDING * abs(value))


def separation(scores: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """How well the score tells known artists, (N,), from unknown ones, (M,): `auroc`, and `fpr95`.

    `fpr95` is the share of the unknown that still counts as known where 95 % of the known do.
    """
    # Imported here: it takes seconds, and inference reads calibrations without it.
    from sklearn.metrics import roc_auc_score, roc_curve

    known = np.repeat([1, 0], [len(scores), len(unknown)])
    values = np.concatenate([scores, unknown])
    false, true, _ = roc_curve(known, values, drop_intermediate=False)
    return {"auroc": float(roc_auc_score(known, values)), "fpr95": float(false[np.argmax(true >= 0.95)])}


# ---- printed ---------------------------------------------------------------------------------------------------------


def format_verdicts(fitted: Fitted, probability: str = "probability") -> list[str]:
    """The table of verdicts: where each begins, and on which share of the pictures it falls.

    `probability` is what the probabilities are called.
    """
    calibration, figures = fitted.calibration, fitted.figures
    titles = ["known right", "known wrong", *(["unknown artists"] if figures["outside_pictures"] else [])]
    bound = probability if calibration.score == "probability" else "score"
    bounds = {CONFIDENT: f"{probability} {calibration.confident:.3f}" if calibration.confident <= 1 else "never",
              POSSIBLE: f"{bound} {calibration.possible:.3f}", UNKNOWN: "below"}
    return format_table([
        ("verdict", "from", *titles),
        *((name, begins, *(f"{share:.1%}" for share, _ in zip(figures["verdicts"][name], titles, strict=False)))
          for name, begins in bounds.items())])


def format_separation(fitted: Fitted) -> list[str]:
    """The lines about unknown artists: those left out in turn, and those of --unknown-dir."""
    figures, aurocs, lines = fitted.figures, fitted.figures["estimated_aurocs"], []
    if aurocs:
        lines += ["known artists left out in turn, AUROC (optimistic where the network was trained on them): "
                  + ", ".join(f"{name} {value:.2f}" for name, value in aurocs.items()),
                  f"unknown artists are told by: {fitted.calibration.score}"]
    if "auroc" in figures:
        lines.append(f"known from unknown artists: AUROC {figures['auroc']:.4f}, FPR at 95 % TPR "
                     f"{figures['fpr95']:.4f}")
    if figures.get("auroc", aurocs.get(fitted.calibration.score, 1)) < WEAK:
        lines.append("warning: this network hardly tells unknown artists from its own; do not rely on the verdicts")
    return lines
