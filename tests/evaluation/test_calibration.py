"""Calibration against values worked out by hand, and against what generated the data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.answers import Answers
from evaluation.calibration import (
    Calibration,
    bound_below,
    calibration_error,
    fit_calibration,
    fit_temperature,
    reliability_bins,
    separation,
    verdict_thresholds,
)
from tools.calibrate import format_figures
from utils import UserError

ANY = Calibration(fingerprint="abc", view="default", temperature=2.0, confident=0.9, possible=0.4, error_rate=0.05)


@pytest.mark.parametrize("temperature", [0.25, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_overconfident_is_found(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    honest = 2 * torch.randn(40_000, 5, generator=generator)
    targets = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(honest * temperature, targets) == pytest.approx(temperature, rel=0.03)


def test_a_temperature_that_would_be_infinite_can_be_written_and_read(tmp_path: Path) -> None:
    targets = torch.tensor([0, 1, 2])
    logits = -1e10 * torch.nn.functional.one_hot(targets, 3).float()  # always wrong
    calibration = Calibration(**{**vars(ANY), "temperature": fit_temperature(logits, targets)})
    calibration.write(tmp_path / "calibration.json", {})
    assert Calibration.beside(tmp_path, ANY.fingerprint, ANY.view) == calibration


def test_calibrating_lowers_the_error_and_keeps_the_order() -> None:
    generator = torch.Generator().manual_seed(1)
    honest = 2 * torch.randn(5000, 4, generator=generator)
    targets = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    logits = 5 * honest
    after = Calibration(**{**vars(ANY), "temperature": fit_temperature(logits, targets)}).probabilities(logits)
    right = (logits.argmax(1) == targets).numpy()
    before_error, after_error = (calibration_error(values.amax(1).numpy(), right)
                                 for values in (logits.softmax(1), after))
    assert after_error < 0.03 < 0.15 < before_error
    assert torch.equal(after.argmax(1), logits.argmax(1))


def test_without_a_wrong_answer_probabilities_stay() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    nobody = Answers(logits=torch.empty(0, 2), targets=torch.empty(0).long())
    fitted = fit_calibration(Answers(logits=logits, targets=torch.tensor([0, 1])), nobody, 0.05, "abc", "default")
    assert fitted.calibration.temperature == 1
    told = "\n".join(format_figures(fitted))
    assert "warning: with no wrong answer" in told
    assert "unknown artists" not in told
    fitted = fit_calibration(Answers(logits=logits, targets=torch.tensor([0, 0])), nobody, 0.05, "abc", "default")
    assert fitted.calibration.temperature != 1
    assert "warning: 2 pictures give rough figures" in "\n".join(format_figures(fitted))


def test_calibration_error_by_hand() -> None:
    scores = np.array([0.95, 0.99, 0.95, 0.97, 0.41, 1.0])
    right = np.array([True, False, True, True, False, False])
    # the bin from 14/15 on: mean 0.972, 3 of 5 right; that from 6/15 on: 0.41, none right
    assert reliability_bins(scores, right) == [(pytest.approx(0.41), 0.0, 1),
                                               (pytest.approx(0.972), pytest.approx(0.6), 5)]
    assert calibration_error(scores, right) == pytest.approx((5 * 0.372 + 0.41) / 6)


def thresholds(scores: np.ndarray, right: np.ndarray, unknown: list[float], error_rate: float) -> tuple[float, float]:
    """Those of scores that are probabilities, of known artists' pictures and of unknown ones."""
    everything = np.concatenate([scores, unknown])
    known = np.arange(len(everything)) < len(scores)
    return verdict_thresholds(everything, everything, np.concatenate([right, np.zeros(len(unknown))]).astype(bool),
                              known, error_rate)


def test_thresholds_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1])
    right = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)
    # with one more that is wrong: from 0.7 on 1 of 4, from 0.4 on 2 of 7, from 0.3 on 3 of 8; midway to the next lower
    assert thresholds(scores, right, [], 0.3) == pytest.approx((0.35, 0.175))  # one more: 3 of 11 lie at or below 0.2
    assert thresholds(scores, right, [], 0.26) == pytest.approx((0.65, 0.125))
    assert thresholds(scores, right, [], 0.2) == pytest.approx((2.0, 0.125))
    # with other artists' pictures at 0.85 and 0.75, from 0.8 on 2 of 4 are wrong, from 0.9 on 1 of 2
    assert thresholds(scores, right, [0.85, 0.75], 0.3)[0] == 2
    # nothing below 0.4 is possible
    assert thresholds(scores, right, [0.85, 0.75], 0.5)[0] == pytest.approx(0.4, abs=1e-5)


def test_thresholds_stand_apart_from_the_answers_that_pass_them() -> None:
    values = np.array([5.0, 3.0, 3.0, -2.0])
    assert [bound_below(value, values) for value in (5.0, 3.0, -2.0)] == [4.0, 0.5, pytest.approx(-2, abs=1e-5)]
    assert bound_below(-2.0, values) < -2


def test_confident_answers_are_counted_among_those_that_are_not_unknown() -> None:
    probabilities, scores = np.linspace(0.99, 0.5, 40), np.zeros(40)
    right = np.ones(40, bool)
    right[:4], scores[:4] = False, -1  # the surest answers are wrong, and their scores are the lowest
    confident, possible = verdict_thresholds(probabilities, scores, right, np.ones(40, bool), 0.15)
    assert (confident, possible) == (pytest.approx(0.5, abs=1e-5), -0.5)


def test_equal_scores_share_a_verdict() -> None:
    confident, _ = thresholds(np.array([0.9, 0.8, 0.8, 0.8]), np.array([True, True, False, False]), [], 0.5)
    assert confident == pytest.approx(0.85)


def test_thresholds_about_hold_on_other_pictures_of_the_same_kind() -> None:
    random = np.random.default_rng(0)
    wrong_confident, unknown = [], []
    for _ in range(300):
        scores = random.random(160)
        right = random.random(160) < scores
        confident, possible = thresholds(scores[:80], right[:80], [], 0.1)
        sure = scores[80:] >= confident
        wrong_confident.append(~right[80:][sure])
        unknown.append(scores[80:] < possible)
    assert np.concatenate(wrong_confident).mean() < 0.13  # 0.14 without the one more
    assert np.mean(unknown) == pytest.approx(0.1, abs=0.02)


def test_separation_by_hand() -> None:
    known, outside = np.linspace(0.5, 1.0, 20), np.array([0.1, 0.2, 0.51, 0.99])
    # pairs in the right order: 20 + 20 + 19 + 1 of 80; 19 of 20 known lie above 0.52, where 1 of 4 others does
    assert separation(known, outside) == {"auroc": pytest.approx(60 / 80), "fpr95": pytest.approx(0.25)}


@pytest.mark.parametrize(("probability", "verdict"), [(0.95, "confident"), (0.9, "confident"), (0.89, "possible"),
                                                      (0.4, "possible"), (0.39, "unknown")])
def test_verdicts(probability: float, verdict: str) -> None:
    assert ANY.verdict(probability) == verdict


def test_what_is_written_is_read(tmp_path: Path) -> None:
    ANY.write(tmp_path / "calibration.json", {"auroc": 0.9})
    assert Calibration.beside(tmp_path / "model_best.pth", "abc", "default") == ANY
    assert Calibration.beside(tmp_path, "abc", "default") == ANY
    assert json.loads((tmp_path / "calibration.json").read_text())["figures"] == {"auroc": 0.9}
    assert Calibration.beside(tmp_path / "elsewhere" / "model_best.pth", "abc", "default") is None


def sound(**other: object) -> str:
    return json.dumps({**vars(ANY), **other})


@pytest.mark.parametrize(("content", "fingerprint", "view", "told"), [
    (None, "other", "default", "belongs to another network"), (None, "abc", "multicrop", "the same view"),
    *((text, "abc", "default", "cannot be read") for text in (
        "{}", "[", "[]", "null", '{"temperature": 1}', sound(temperature=0), sound(temperature="2"),
        sound(temperature=True), sound(temperature=1e300),
        sound(confident=-1), sound(possible=3), sound(error_rate=2), sound(view=None),
        sound().replace("0.9", "NaN"), sound().replace("0.9", "1e999"), sound().replace("0.9", "9" * 5000)))])
def test_another_calibration_is_refused(tmp_path: Path, content: str | None, fingerprint: str, view: str,
                                        told: str) -> None:
    ANY.write(tmp_path / "calibration.json", {})
    if content:
        (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(UserError, match=told):
        Calibration.beside(tmp_path / "model_best.pth", fingerprint, view)
