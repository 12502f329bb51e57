"""The figures are scikit-learn's, to the last digits, however the batches are dealt."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, log_loss, top_k_accuracy_score

from evaluation import metrics
from evaluation.metrics import ClassificationMeter
from utils import UserError

CLASSES, COUNT = 11, 203


@pytest.fixture(scope="module")
def evaluation() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (203, 11), better than chance; targets in which the classes are uneven and the last is missing."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.multinomial(torch.arange(CLASSES, 0, -1).float() - 1, COUNT, replacement=True, generator=generator)
    logits = torch.randn(COUNT, CLASSES, generator=generator)
    logits[torch.arange(COUNT), targets] += 1
    return logits, targets


def measure(logits: torch.Tensor, targets: torch.Tensor, size: int, classes: int = CLASSES) -> dict[str, float]:
    meter = ClassificationMeter(classes)
    for number, (part, truth) in enumerate(zip(logits.split(size), targets.split(size), strict=True)):
        meter.update(number, part, truth)
    return meter.result()


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
def test_the_figures_are_scikit_learns(evaluation: tuple) -> None:
    logits, targets = evaluation
    probabilities, labels = logits.double().softmax(1).numpy(), list(range(CLASSES))
    expected = {"top1": 100 * top_k_accuracy_score(targets, probabilities, k=1, labels=labels),
                "top5": 100 * top_k_accuracy_score(targets, probabilities, k=5, labels=labels),
                "balanced": 100 * balanced_accuracy_score(targets, probabilities.argmax(1)),
                "pictures": COUNT}
    found = measure(logits, targets, 32)
    assert found.pop("loss") == pytest.approx(log_loss(targets, probabilities, labels=labels), rel=1e-6)
    assert found == pytest.approx(expected, rel=1e-13)
    assert 20 < found["balanced"] < found["top1"] < found["top5"] < 100


@pytest.mark.parametrize("size", [1, 7, 64, COUNT])
def test_the_size_of_batches_changes_nothing_but_rounding(size: int, evaluation: tuple) -> None:
    assert measure(*evaluation, size) == pytest.approx(measure(*evaluation, 32), rel=1e-12)


@pytest.mark.parametrize("ranks", [2, 3, 9])
def test_batches_dealt_to_ranks_in_any_order_give_the_same_to_the_last_digit(
        ranks: int, evaluation: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = evaluation
    logits = logits * torch.logspace(-3, 5, COUNT)[:, None]  # so that the order of adding shows
    alone = measure(logits, targets, 32)
    batches = list(enumerate(zip(logits.split(32), targets.split(32), strict=True)))
    meters = [ClassificationMeter(CLASSES) for _ in range(ranks)]
    for number, batch in reversed(batches):
        meters[number % ranks].update(number, *batch)
    told: list = []
    monkeypatch.setattr(metrics, "gather", lambda value: told.append(value) or [value])
    for meter in meters:
        if meter.sums:
            meter.result()
    monkeypatch.setattr(metrics, "gather", lambda value: told)
    assert {tuple(meter.result().items()) for meter in meters} == {tuple(alone.items())}


def test_asking_twice_gives_the_same_on_two_ranks(evaluation: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = measure(*evaluation, 32)
    first, second = ClassificationMeter(CLASSES), ClassificationMeter(CLASSES)
    for number, batch in enumerate(zip(*(values.split(32) for values in evaluation), strict=True)):
        (first, second)[number % 2].update(number, *batch)
    told: list = []
    monkeypatch.setattr(metrics, "gather", lambda value: told.append(value) or [value])
    second.result()
    monkeypatch.setattr(metrics, "gather", lambda value: [value, *told])
    for _ in range(2):
        assert first.result() == alone
        assert first.support.sum() == first.hits.sum() + first.confusions.total() == COUNT


def test_with_few_classes_all_are_among_the_first_five() -> None:
    found = measure(torch.eye(3), torch.tensor([0, 1, 0]), 2, classes=3)
    assert (found["top1"], found["top5"]) == (pytest.approx(200 / 3), 100)
    assert found["balanced"] == 75


def test_half_precision_logits_are_summed_in_double() -> None:
    logits, targets = torch.tensor([[8.0, -8.0]]).half().expand(3000, 2), torch.ones(3000, dtype=torch.int64)
    assert measure(logits, targets, 3000, classes=2)["loss"] == pytest.approx(16, rel=1e-6)


def test_a_loss_that_is_no_number_is_seen() -> None:
    assert math.isnan(measure(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]), 1, classes=2)["loss"])


def test_an_evaluation_of_nothing_is_told() -> None:
    with pytest.raises(UserError, match="found no picture to evaluate"):
        ClassificationMeter(3).result()
