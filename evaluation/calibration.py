"""Temperature scaling, and the thresholds between confident, possible and unknown; calibration.json holds both."""

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

from data.side_files import read_json
from utils import UserError, write_json

CALIBRATION = "calibration.json"
BINS = 15  # of equal width, for reliability
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
        possible: it is possible from this one on; below, the artist is unknown.
        error_rate: see `verdict_thresholds`.
    """

    fingerprint: str
    view: str
    temperature: Annotated[float, Meta(ge=LEAST, le=MOST)]
    confident: Annotated[float, Meta(ge=0, le=2)]
    possible: Annotated[float, Meta(ge=0, le=2)]
    error_rate: Annotated[float, Meta(ge=0, le=1)]

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(…, classes) logits -> calibrated probabilities of the same shape."""
        return (logits / self.temperature).softmax(-1)

    def verdict(self, probability: float) -> str:
        """The verdict on a picture with this highest calibrated probability."""
        return CONFIDENT if probability >= self.confident else POSSIBLE if probability >= self.possible else UNKNOWN

    def write(self, path: Path, figures: Mapping[str, Any]) -> None:
        """Write calibration.json with the `figures` of `fit_calibration`."""
        write_json(path, {**dataclasses.asdict(self), "figures": figures})

    @classmethod
    def beside(cls, checkpoint: Path, fingerprint: str, view: str) -> Calibration | None:
        """The calibration beside a checkpoint; None where there is none.

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
        if found.view != view:
            raise UserError(f"--view {view} with {path}, made with --view {found.view}", "the same view", action)
        return found


def calibration_path(checkpoint: Path) -> Path:
    """Where the calibration of a checkpoint, a file or a folder, lies."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / CALIBRATION


# ---- fitting ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A network's answers to N pictures.

    Attributes:
        logits: (N, classes).
        targets: (N,) int64, the class of each picture's artist; -1 for an artist outside the classes.
        unknown: names of those artists.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    unknown: Sequence[str] = ()

    @property
    def right(self) -> np.ndarray:
        """Whether the most probable class is right, (N,) bool."""
        return (self.logits.argmax(1) == self.targets).numpy()

    def scores(self, temperature: float) -> np.ndarray:
        """The highest probability of each picture, (N,) float64."""
        return (self.logits.double() / temperature).softmax(1).amax(1).numpy()


def fit_calibration(known: Answers, others: Answers, error_rate: float, fingerprint: str,
                    view: str) -> tuple[Calibration, dict[str, Any]]:
    """Fit a calibration to answers to validation pictures, and to pictures of other artists where there are any.

    Where every answer is right the best temperature would be 0, whatever the picture: it stays 1.

    Returns:
        the calibration, and the figures behind it: `accuracy`, `ece_before`, `ece_after`, `auroc` and `fpr95` where
        there are other artists, and per verdict the shares of right, wrong and other answers.

    Raises:
        UserError: no validation picture, an unknown artist among the known, or a known one among the others.
    """
    if not len(known.targets):
        raise UserError("no validation picture that can be read", "one folder per artist in val/", "check --data-path")
    if known.unknown:
        names = ", ".join(known.unknown)
        raise UserError(f"validation pictures in folders that are no artist of the network ({names})",
                        "its artists only", "give such pictures to --unknown-dir")
    if (others.targets >= 0).any():
        raise UserError("a folder below --unknown-dir that bears the name of an artist of the network",
                        "artists that it does not know", "take that folder away")
    temperature = 1.0 if known.right.all() else fit_temperature(known.logits, known.targets)
    scores, unknown = known.scores(temperature), others.scores(temperature)
    confident, possible = verdict_thresholds(scores, known.right, unknown, error_rate)
    calibration = Calibration(fingerprint=fingerprint, view=view, temperature=temperature, confident=confident,
                              possible=possible, error_rate=error_rate)
    verdicts = [[calibration.verdict(score) for score in group]
                for group in (scores[known.right], scores[~known.right], unknown)]
    figures = {"pictures": len(scores), "outside_pictures": len(unknown), "accuracy": float(known.right.mean()),
               "ece_before": calibration_error(known.scores(1), known.right),
               "ece_after": calibration_error(scores, known.right),
               "verdicts": {name: [group.count(name) / max(1, len(group)) for group in verdicts] for name in VERDICTS}}
    return calibration, figures | (separation(scores, unknown) if len(unknown) else {})


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


def verdict_thresholds(scores: np.ndarray, right: np.ndarray, unknown: np.ndarray,
                       error_rate: float) -> tuple[float, float]:
    """From which score on an answer is confident, and from which on it is possible.

    Confident is the lowest score from which on at most `error_rate` of the answers are wrong; every answer to a picture
    of an unknown artist is wrong. At most `error_rate` of the known artists' pictures lie below possible.

    Args:
        scores: highest probability of each validation picture, (N,).
        right: whether its class is right, (N,).
        unknown: highest probability of each picture of unknown artists, (M,), M ≥ 0.
        error_rate: 0 to 1.
    """
    possible = float(np.sort(scores)[int(error_rate * len(scores))])
    everything = np.concatenate([scores, unknown])
    wrong = np.concatenate([~right, np.ones(len(unknown), bool)])
    order = np.argsort(-everything, kind="stable")
    share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    ranked = everything[order]
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    good = np.flatnonzero((share <= error_rate) & last_of_ties)
    confident = float(ranked[good[-1]]) if len(good) else 2.0
    return max(confident, possible), possible


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
