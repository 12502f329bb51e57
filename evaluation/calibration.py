"""What a probability is worth: temperature scaling, and the thresholds between confident, possible and unknown."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score, roc_curve

from utils import UserError, write_json

CALIBRATION = "calibration.json"
BINS = 15  # of equal width, for reliability
CONFIDENT, POSSIBLE, UNKNOWN = "confident", "possible", "unknown"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How one network's logits become probabilities that can be believed, and verdicts.

    Attributes:
        fingerprint: of the network.
        view: how pictures were looked at.
        temperature: logits are divided by it.
        confident: from this calibrated probability on, an answer is confident; above 1 where no threshold keeps the
            error rate.
        possible: from this on, it is possible; below, the artist is unknown.
        error_rate: most that may go wrong on either side, see `thresholds`.
    """

    fingerprint: str
    view: str
    temperature: float
    confident: float
    possible: float
    error_rate: float

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """(…, classes) logits -> calibrated probabilities of the same shape."""
        return (logits / self.temperature).softmax(-1)

    def verdict(self, probability: float) -> str:
        """What the highest calibrated probability of a picture says."""
        return CONFIDENT if probability >= self.confident else POSSIBLE if probability >= self.possible else UNKNOWN

    def write(self, path: Path, figures: dict[str, Any]) -> None:
        """Write calibration.json with the `figures` behind it."""
        write_json(path, {**dataclasses.asdict(self), "figures": figures})

    @classmethod
    def beside(cls, checkpoint: Path, fingerprint: str, view: str) -> Calibration | None:
        """The calibration that lies beside a checkpoint; None where there is none.

        Raises:
            UserError: it cannot be read, or was made for another network or view.
        """
        path = place(checkpoint)
        if not path.is_file():
            return None
        action = "run tools/calibrate.py again, or add --no-calibration"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            found = cls(**{each.name: content[each.name] for each in dataclasses.fields(cls)})
        except (ValueError, LookupError, TypeError) as error:
            raise UserError(f"{path}, which cannot be read ({error})", "what tools/calibrate.py wrote",
                            action) from error
        if found.fingerprint != fingerprint:
            raise UserError(f"{path}, which belongs to another network than {checkpoint}", "its own", action)
        if found.view != view:
            raise UserError(f"--view {view} with {path}, made with --view {found.view}", "the same view", action)
        return found


def place(checkpoint: Path) -> Path:
    """Where the calibration of a checkpoint, a file or a folder, lies."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / CALIBRATION


def fit_temperature(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """The temperature that gives the logits, (N, classes), the least cross-entropy with the targets, (N,).

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
    return log_temperature.exp().item()


def reliability(scores: np.ndarray, right: np.ndarray) -> list[tuple[float, float, int]]:
    """Mean score, share that is right and number of answers in each of `BINS` that holds any."""
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    return [(float(scores[bins == each].mean()), float(right[bins == each].mean()), int((bins == each).sum()))
            for each in range(BINS) if (bins == each).any()]


def calibration_error(scores: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error, 0 to 1: distance of score and share right, mean over the answers by bins."""
    return sum(count * abs(score - share) for score, share, count in reliability(scores, right)) / len(scores)


def thresholds(scores: np.ndarray, right: np.ndarray, outside: np.ndarray, error_rate: float) -> tuple[float, float]:
    """From which score on an answer is confident, and from which it is possible.

    Confident is the lowest score from which on at most `error_rate` of the answers are wrong; every answer to a picture
    of an artist outside the training set is wrong. Below possible lie at most `error_rate` of the known artists'.

    Args:
        scores: highest probability of each validation picture, (N,).
        right: whether its class is right, (N,).
        outside: highest probability of each picture of other artists, (M,), M ≥ 0.
        error_rate: 0 to 1.
    """
    possible = float(np.sort(scores)[int(error_rate * len(scores))])
    everything = np.concatenate([scores, outside])
    wrong = np.concatenate([~right, np.ones(len(outside), bool)])
    order = np.argsort(-everything, kind="stable")
    share = np.cumsum(wrong[order]) / np.arange(1, len(order) + 1)
    ranked = everything[order]
    last_of_ties = np.append(ranked[1:] != ranked[:-1], True)
    good = np.flatnonzero((share <= error_rate) & last_of_ties)
    confident = float(ranked[good[-1]]) if len(good) else 2.0
    return max(confident, possible), possible


def separation(scores: np.ndarray, outside: np.ndarray) -> dict[str, float]:
    """How well the score tells known artists, (N,), from others, (M,): `auroc`, and `fpr95`.

    `fpr95` is the share of the others that still counts as known where 95 % of the known do.
    """
    known = np.repeat([1, 0], [len(scores), len(outside)])
    values = np.concatenate([scores, outside])
    false, true, _ = roc_curve(known, values, drop_intermediate=False)
    return {"auroc": float(roc_auc_score(known, values)), "fpr95": float(false[np.argmax(true >= 0.95)])}
