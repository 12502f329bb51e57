"""Errors on validation pictures, from answers; figures against scikit-learn and the meters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from data.image_folder import ImageFolder
from data.loaders import EvalBatches, Loading, make_loader
from data.transforms import Preprocessing, eval_transform
from evaluation import mistakes, validation_answers
from evaluation.classification import classification_evaluation
from evaluation.evaluator import evaluate_loader
from evaluation.mistakes import confused_pairs, find_mistakes, mean_average_precision, recognised, reliability
from evaluation.validation_answers import AnsweredPicture, PictureFiles, ValidationAnswers, keep_answers
from runtime.logbook import Logbook
from runtime.networks import make_architecture
from runtime.placement import Placement
from tests.conftest import MODEL


def make_answers(task: str, pictures: list[AnsweredPicture], classes: int) -> ValidationAnswers:
    return ValidationAnswers(task=task, classes=[f"c{number}" for number in range(classes)], made={}, folder="/",
                             pictures=pictures, mapped=[], train=[])


def test_of_one_label_the_surest_errors_come_first() -> None:
    answers = make_answers("classification", [
        AnsweredPicture("right", [0], [0.9], [(0, 0.9), (1, 0.1)]),
        AnsweredPicture("unsure", [0], [0.4], [(1, 0.6), (0, 0.4)]),
        AnsweredPicture("sure", [0], [0.1], [(1, 0.9), (0, 0.1)]),
        AnsweredPicture("other", [1], [0.2], [(0, 0.8), (1, 0.2)])], 2)
    found = find_mistakes(answers)
    assert [answers.pictures[mistake.place].name for mistake in found] == ["sure", "other", "unsure"]
    assert {pair: len(each) for pair, each in confused_pairs(found).items()} == {(0, 1): 2, (1, 0): 1}
    assert list(confused_pairs(found)) == [(0, 1), (1, 0)]
    assert recognised(answers, 0) == [0]
    assert sum(count for *_, count in reliability(answers)) == 4
    assert (pytest.approx(0.9), 0.5, 2) in reliability(answers)


def test_of_several_labels_both_a_missed_and_a_wrong_one_are_errors() -> None:
    answers = make_answers("multilabel", [
        AnsweredPicture("right", [0, 1], [0.9, 0.8], [(0, 0.9), (1, 0.8), (2, 0.1)]),
        AnsweredPicture("missed", [0, 1], [0.9, 0.3], [(0, 0.9), (1, 0.3), (2, 0.1)]),
        AnsweredPicture("told", [], [], [(2, 0.7), (0, 0.2), (1, 0.1)]),
        AnsweredPicture("both", [0], [0.2], [(2, 0.6), (0, 0.2), (1, 0.1)])], 3)
    found = {answers.pictures[mistake.place].name: (mistake.missed, mistake.told) for mistake in find_mistakes(answers)}
    assert found == {"missed": ((1, 0.3), None), "told": (None, (2, 0.7)), "both": ((0, 0.2), (2, 0.6))}
    assert list(confused_pairs(find_mistakes(answers))) == [(0, 2)]
    assert recognised(answers, 1) == [0]
    assert sum(count for *_, count in reliability(answers)) == 12


def test_map_of_draws_is_scikit_learns_with_counts_as_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mistakes, "RESAMPLES", 3)
    rng = np.random.default_rng(1)
    scores, present = rng.permutation(60).reshape(20, 3) / 60, rng.random((20, 3)) < 0.4
    pictures = [AnsweredPicture("", np.flatnonzero(row).tolist(), score[row].tolist(), sorted(
        enumerate(score.tolist()), key=lambda pair: -pair[1])) for score, row in zip(scores, present, strict=True)]
    found = mean_average_precision(make_answers("multilabel", pictures, 3))
    again = np.random.default_rng(0)
    draws = [np.ones(20), *(again.multinomial(20, np.full(20, 1 / 20)) for _ in range(3))]
    assert found == pytest.approx([np.mean([average_precision_score(present[:, label], scores[:, label],
                                                                    sample_weight=counts) for label in range(3)])
                                   for counts in draws])
    pictures[0].answers.pop()
    assert mean_average_precision(make_answers("multilabel", pictures, 3)) is None


def test_answers_are_kept_without_changing_a_figure(data_set: Path, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_answers, "MOST_MAPPED", 5)
    preprocessing = Preprocessing.from_dict({"input_size": 32, "crop_pct": 0.875, "interpolation": "bicubic",
                                             "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2), "fit": "crop"})
    train_set, val_set = (ImageFolder(data_set / side, eval_transform(preprocessing)) for side in ("train", "val"))
    placement, loading = Placement.resolve("cpu"), Loading(batch_size=5, num_workers=0)
    torch.manual_seed(0)
    network = make_architecture(MODEL, 3).create()
    plain = classification_evaluation(val_set.classes)
    kept = keep_answers(plain, val_set, placement, with_features=True,
                        files=lambda: PictureFiles.of(data_set, train_set, val_set))
    meters, figures = [plain.make_meter(), kept.make_meter()], []
    with Logbook(None) as logbook:
        for each, meter in zip((plain, kept), meters, strict=True):
            figures.append(evaluate_loader(each.wrap_model(network), make_loader(
                val_set, EvalBatches(12, loading), loading), meter, placement, logbook))
    assert figures[0] == figures[1]
    kept.write_report(tmp_path, meters[1])
    answers = ValidationAnswers.read(tmp_path)
    images = torch.stack([val_set.prepare(index) for index in range(12)])
    with torch.inference_mode():
        shares = network.eval()(images).softmax(1).numpy()
        read = network.forward_head(network.forward_features(images), pre_logits=True).numpy()
    assert [picture.name for picture in answers.pictures] == val_set.names
    assert np.array([[dict(picture.answers)[label] for label in range(3)] for picture in answers.pictures]) == (
        pytest.approx(shares, abs=1e-5))
    assert [picture.own[0] for picture in answers.pictures] == pytest.approx(
        shares[np.arange(12), val_set.targets].tolist(), abs=1e-5)
    assert answers.mapped == [0, 3, 6, 9]  # evenly spaced over batches of 5
    assert answers.read_features(tmp_path) == pytest.approx(read[answers.mapped], abs=1e-4)


def test_of_many_classes_the_highest_probabilities_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation_answers, "MOST_ANSWERS", 100)
    meter = validation_answers._AnswerMeter(classification_evaluation([str(n) for n in range(50)]).make_meter(), 20)
    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
    meter.update(0, (logits, None), torch.arange(20))
    assert {len(picture.answers) for picture in meter.rows()} == {8}
    assert [picture.answers[0][0] for picture in meter.rows()] == logits.argmax(1).tolist()
    assert meter.features()[1] == []
