"""Scores of unknown artists against scikit-learn and torch, the choice among them, and their file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.covariance import ShrunkCovariance
from sklearn.neighbors import NearestNeighbors

from evaluation.answers import Answers
from evaluation.calibration import Calibration, fit_calibration
from evaluation.unknown_scores import (
    COMBINED,
    NEAREST,
    SHRINKAGE,
    ScoreName,
    Scorer,
    choose_score,
    estimate_aurocs,
    fit_scorers,
    usable_scores,
)
from search.standardisation import Standardisation
from utils import UserError

BLOCKS = [6, 4]
CENTRES = np.random.default_rng(0).normal(size=(6, 10)) * 2
NOBODY = Answers(logits=torch.empty(0, 5), targets=torch.empty(0).long(), features=np.empty((0, 10), np.float32))


def answers(seed: int, artists: int = 5, each: int = 12) -> Answers:
    """Answers of a network whose features lie around one centre per artist, and whose logits say little."""
    random = np.random.default_rng(seed)
    targets = np.repeat(np.arange(artists), each)
    features = (CENTRES[targets] + random.normal(size=(len(targets), 10))).astype(np.float32)
    logits = torch.from_numpy(random.normal(size=(len(targets), artists)).astype(np.float32))
    logits[np.arange(len(targets)), targets] += 1
    return Answers(logits=logits, targets=torch.from_numpy(targets), features=features)


TRAINING, KNOWN = answers(1), answers(2)


def fit(name: ScoreName) -> Scorer:
    return fit_scorers([name], 2.0, TRAINING, BLOCKS)[0]


def test_scores_of_logits_are_those_of_torch() -> None:
    probability, energy = (fit(name).score(KNOWN.logits.numpy(), None) for name in ("probability", "energy"))
    np.testing.assert_allclose(probability, (KNOWN.logits.double() / 2).softmax(1).amax(1))
    np.testing.assert_allclose(energy, KNOWN.logits.double().logsumexp(1))


@pytest.mark.parametrize(("name", "width"), [("mahalanobis", 10), ("style", 6)])
def test_mahalanobis_distances_are_those_of_scikit_learn(name: ScoreName, width: int) -> None:
    assert TRAINING.features is not None
    assert KNOWN.features is not None
    standard = Standardisation.fit(TRAINING.features[:, :width], BLOCKS if width == 10 else BLOCKS[:1])
    rows, queries = (standard.apply(found[:, :width]).astype(float) for found in (TRAINING.features, KNOWN.features))
    numbers = TRAINING.targets.numpy()
    means = np.stack([rows[numbers == number].mean(0) for number in range(5)])
    within = ShrunkCovariance(shrinkage=SHRINKAGE, assume_centered=True).fit(rows - means[numbers])
    total = ShrunkCovariance(shrinkage=SHRINKAGE).fit(rows)
    expected = total.mahalanobis(queries) - np.min([within.mahalanobis(queries - mean) for mean in means], axis=0)
    np.testing.assert_allclose(fit(name).score(KNOWN.logits.numpy(), KNOWN.features), expected, rtol=1e-3, atol=1e-3)


def test_neighbours_are_those_of_scikit_learn() -> None:
    assert TRAINING.features is not None
    assert KNOWN.features is not None
    standard = Standardisation.fit(TRAINING.features, BLOCKS)
    nearest = NearestNeighbors(n_neighbors=NEAREST, metric="cosine").fit(standard.apply(TRAINING.features))
    expected = 1 - nearest.kneighbors(standard.apply(KNOWN.features))[0].mean(1)
    np.testing.assert_allclose(fit("neighbours").score(KNOWN.logits.numpy(), KNOWN.features), expected, atol=1e-5)


def test_combined_is_the_sum_of_both_distances() -> None:
    expected = sum(fit(name).score(KNOWN.logits.numpy(), KNOWN.features) for name in COMBINED)
    np.testing.assert_allclose(fit("combined").score(KNOWN.logits.numpy(), KNOWN.features), expected, rtol=1e-12)


@pytest.mark.parametrize(("aurocs", "highest", "pretrained"), [
    ({"energy": 0.9, "mahalanobis": 0.88, "combined": 0.86}, "energy", "combined"),
    ({"energy": 0.92, "combined": 0.86}, "energy", "energy"),
    ({"probability": 0.7, "neighbours": 0.8}, "neighbours", "neighbours"), ({}, "probability", "probability")])
def test_a_pretrained_network_takes_combined_unless_another_is_clearly_better(
        aurocs: dict[ScoreName, float], highest: str, pretrained: str) -> None:
    assert (choose_score(aurocs), choose_score(aurocs, pretrained=True)) == (highest, pretrained)


def test_the_score_that_tells_artists_apart_is_chosen_without_unknown_pictures() -> None:
    fitted = fit_calibration(KNOWN, NOBODY, 0.05, "abc", "default", training=TRAINING, blocks=BLOCKS)
    aurocs = fitted.figures["estimated_aurocs"]
    assert fitted.calibration.score == max(aurocs, key=aurocs.get)
    assert fitted.calibration.estimated_auroc == aurocs[fitted.calibration.score] > 0.8
    constant = replace(KNOWN, features=np.ones_like(KNOWN.features))
    useless = estimate_aurocs(["mahalanobis"], constant, TRAINING, 1.0, BLOCKS)
    assert useless == {"mahalanobis": 0.5}


def test_without_training_pictures_or_with_two_artists_it_stays_the_probability() -> None:
    bare = replace(KNOWN, features=None)
    assert fit_calibration(bare, NOBODY, 0.05, "abc", "default").calibration.score == "probability"
    assert fit_calibration(bare, NOBODY, 0.05, "abc", "default", score="energy").calibration.score == "energy"
    with pytest.raises(UserError, match="--score style"):
        fit_calibration(bare, NOBODY, 0.05, "abc", "default", score="style")
    two = answers(3, artists=2)
    fitted = fit_calibration(two, NOBODY, 0.05, "abc", "default", training=answers(4, artists=2), blocks=BLOCKS)
    assert (fitted.calibration.score, fitted.figures["estimated_aurocs"]) == ("probability", {})
    assert not {"style", "combined"} & {*usable_scores(TRAINING, [10])}


def write(folder: Path, name: ScoreName) -> tuple[Calibration, Scorer]:
    fitted = fit_calibration(KNOWN, NOBODY, 0.05, "abc", "default", training=TRAINING, blocks=BLOCKS, score=name)
    fitted.calibration.write(folder / "calibration.json", {}, fitted.scorer)
    found = Calibration.beside(folder, "abc", "default")
    assert found is not None
    return found, fitted.scorer


@pytest.mark.parametrize("name", ["energy", "neighbours", "mahalanobis", "style", "combined"])
def test_what_is_written_is_read(tmp_path: Path, name: ScoreName) -> None:
    calibration, scorer = write(tmp_path, name)
    assert (tmp_path / "calibration.npz").exists() == scorer.needs_features == bool(calibration.statistics)
    found = calibration.read_scorer(tmp_path)
    np.testing.assert_array_equal(found.score(KNOWN.logits.numpy(), KNOWN.features),
                                  scorer.score(KNOWN.logits.numpy(), KNOWN.features))
    with pytest.raises(ValueError, match=name):
        calibration.verdict(0.9)


def test_another_score_takes_the_earlier_file_away(tmp_path: Path) -> None:
    write(tmp_path, "style")
    calibration, _ = write(tmp_path, "probability")
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    assert calibration.read_scorer(tmp_path).name == "probability"


@pytest.mark.parametrize("name", ["mahalanobis", "combined"])
def test_a_file_that_does_not_belong_to_the_calibration_is_refused(tmp_path: Path, name: ScoreName) -> None:
    calibration, scorer = write(tmp_path, name)
    file = tmp_path / "calibration.npz"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(UserError, match="does not belong"):
        calibration.read_scorer(tmp_path)
    file.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        calibration.read_scorer(tmp_path)
    for array in scorer.arrays:
        arrays = {**scorer.arrays, array: np.ones((2, 3), np.float32)}
        digest = Scorer(name, 1.0, arrays).write(file)
        with pytest.raises(UserError, match="does not fit"):
            Scorer.read(file, name, 1.0, digest)
    digest = Scorer(name, 1.0, {"mean": np.ones((1, 3))}).write(file)
    with pytest.raises(UserError, match="no vectors"):
        Scorer.read(file, name, 1.0, digest)


def test_features_of_another_network_are_refused() -> None:
    with pytest.raises(UserError, match="features of 3 numbers"):
        fit("mahalanobis").score(KNOWN.logits.numpy(), np.ones((1, 3), np.float32))
