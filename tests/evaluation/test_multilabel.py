"""The figures are scikit-learn's where it defines them, and bounds hold what they bound."""

from __future__ import annotations

import json
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from evaluation import multilabel
from evaluation.multilabel import MultiLabelMeter, figures_table, format_multilabel_line, write_figures
from tests.conftest import ROOT
from tests.forked import finish, start_ranks
from utils import UserError

THRESHOLD = 0.4


def evaluation(pictures: int, labels: int, *, ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits better than chance, and weights; uneven labels, of which the last is never present."""
    generator = torch.Generator().manual_seed(0)
    rates = 0.2 / torch.arange(1, labels + 1)
    rates[-1] = 0
    present = torch.rand(pictures, labels, generator=generator) < rates + 1 / labels * (rates > 0)
    weights = present * torch.rand(pictures, labels, generator=generator).add(0.1)
    logits = torch.randn(pictures, labels, generator=generator) + 2 * present - 1
    return (logits * 4).round() / 4 if ties else logits, weights


def measure(logits: torch.Tensor, weights: torch.Tensor, *, size: int = 64, **limits: int) -> MultiLabelMeter:
    meter = MultiLabelMeter(range(logits.shape[1]), THRESHOLD, **limits)
    for number, (part, truth) in enumerate(zip(logits.split(size), weights.split(size), strict=True)):
        meter.update(number, part, truth)
    return meter


@pytest.mark.parametrize("ties", [False, True])
def test_the_figures_are_scikit_learns(ties: bool) -> None:
    logits, weights = evaluation(2000, 300, ties=ties)
    scores, present = logits.sigmoid().double().numpy(), (weights > 0).numpy()
    seen, predicted = present.any(0), scores >= THRESHOLD
    singly = [reference.average_precision_score(present[:, label], logits[:, label]) for label in np.flatnonzero(seen)]
    expected = {"macro_map": 100 * np.mean(singly),
                "micro_map": 100 * reference.average_precision_score(present, logits, average="micro"),
                "coverage": reference.coverage_error(present, logits), "pictures": 2000, "labels": 299}
    for average in ("macro", "micro"):
        truth, answer = (present[:, seen], predicted[:, seen]) if average == "macro" else (present, predicted)
        found = reference.precision_recall_fscore_support(truth, answer, average=average, zero_division=0)
        expected |= {f"{average}_{name}": 100 * value for name, value in zip(("precision", "recall", "f1"), found[:3],
                                                                           strict=True)}
    shares, wanted = scores / scores.sum(1, keepdims=True), (weights / weights.sum(1, keepdim=True)).numpy()
    meter = measure(logits, weights)
    figures = meter.result()
    loss, error = figures.pop("loss"), figures.pop("share_error")
    assert figures == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert 5 < figures["micro_map"] < figures["macro_map"] < 95
    assert error == pytest.approx(np.abs(shares - wanted)[present].mean(), rel=1e-6)
    assert loss == pytest.approx(reference.log_loss(present.ravel(), scores.ravel()), rel=1e-6)
    np.testing.assert_allclose(meter.ap[seen], singly, rtol=1e-9)


@pytest.mark.parametrize("most_kept", [10**9, 0])
def test_the_best_threshold_gives_its_f1_and_no_other_a_better_one(most_kept: int) -> None:
    logits, weights = evaluation(500, 20)
    meter = measure(logits, weights, most_kept=most_kept)
    meter.result()
    scores, present = logits.double().sigmoid().numpy(), (weights > 0).numpy()
    for label in range(19):
        precision, recall, _ = reference.precision_recall_curve(present[:, label], scores[:, label])
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
        found = reference.f1_score(present[:, label], scores[:, label] >= meter.thresholds[label])
        assert found == pytest.approx(meter.f1[label], rel=1e-12)
        assert found == pytest.approx(best, rel=1e-12) if most_kept else best - 0.01 < found <= best + 1e-12
    assert (meter.thresholds[19], meter.f1[19], meter.support[19]) == (THRESHOLD, 0, 0)


def test_thresholds_lie_in_the_middle_between_neighbouring_scores_or_just_below_one_without() -> None:
    logits, weights = evaluation(300, 12, ties=True)
    logits[weights[:, 3] == 0, 3] = -torch.inf  # absent: the lowest present score has no neighbour
    logits[weights[:, 3] > 0, 3] = 1.0
    meter = measure(logits, weights)
    meter.result()
    for label in range(11):
        scores = logits[:, label].double().sigmoid().unique().numpy()
        above = scores[scores >= meter.thresholds[label]].min()
        lower = scores[scores < meter.thresholds[label]].max(initial=0)
        expected = (above + lower) / 2 if lower else (1 - 1e-6) * above
        assert meter.thresholds[label] == pytest.approx(expected, rel=1e-7)
    close = torch.nextafter(torch.tensor(0.0), torch.tensor(1.0))  # the middle to it would be too close
    meter = measure(torch.stack([close, torch.tensor(0.0)])[:, None], torch.tensor([[1.0], [0.0]]))
    meter.result()
    assert meter.thresholds[0] == pytest.approx(0.5 * (1 - 1e-6), rel=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_bins_bound_what_they_estimate_and_change_nothing_else(ties: bool) -> None:
    logits, weights = evaluation(1000, 30, ties=ties)
    logits[:5] *= 30  # beyond the bins
    exact, binned = measure(logits, weights), measure(logits, weights, most_kept=10_000)
    figures, found = exact.result(), binned.result()
    for name in ("macro_map", "micro_map"):
        error = found.pop(f"{name}_error")
        assert 0 < error < (5 if ties else 1)  # of equal scores, a half counts in the middle
        assert abs(found.pop(name) - figures.pop(name)) <= error
    assert found == figures


@pytest.mark.parametrize("size", [1, 7, 999, 1000])
def test_the_size_of_batches_changes_nothing_but_rounding(size: int) -> None:
    case = evaluation(1000, 10)
    assert measure(*case, size=size).result() == pytest.approx(measure(*case).result(), rel=1e-6)


RANKS = """
import json, os, sys
import torch
from runtime.processes import process_group, rank, world_size
from tests.evaluation.test_multilabel import evaluation
from evaluation.multilabel import MultiLabelMeter
with process_group(torch.device("cpu")):
    told = []
    for most_kept in (10**9, 20_000, 0):
        logits, weights = evaluation(1000, 30)
        meter = MultiLabelMeter(range(30), 0.4, most_kept=most_kept)
        for number, (part, truth) in enumerate(zip(logits.split(64), weights.split(64))):
            if number % world_size() == rank():
                meter.update(number, part * 10.0 ** (number - 8), truth)
        told.append([meter.result(), meter.ap.tolist(), meter.thresholds.tolist(), meter.f1.tolist()])
    print(json.dumps(told), file=open(f"{sys.argv[1]}_{rank()}", "w"))
"""


@pytest.mark.slow
def test_one_two_and_three_processes_agree_to_the_last_digit(tmp_path) -> None:
    told = set()
    for count in (1, 2, 3):
        script = tmp_path / "ranks.py"
        script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RANKS}")
        finish(start_ranks(count, script, tmp_path / str(count), cwd=tmp_path))
        told |= {(tmp_path / f"{count}_{rank}").read_text() for rank in range(count)}
    assert len(told) == 1
    assert "macro_map_error" in told.pop()


@pytest.mark.parametrize("most_kept", [10**9, 20_000])
def test_asking_twice_gives_the_same_on_two_ranks(most_kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rank is a thread; the second limit is passed by the ranks together only."""
    logits, weights = evaluation(1000, 30)
    meters = [MultiLabelMeter(range(30), THRESHOLD, most_kept=most_kept) for _ in range(2)]
    for number, (part, truth) in enumerate(zip(logits.split(64), weights.split(64), strict=True)):
        meters[number % 2].update(number, part, truth)
    barrier, values = threading.Barrier(2, timeout=60), {}

    def gather(value: Any) -> list[Any]:
        barrier.wait()
        values[threading.get_ident()] = value
        barrier.wait()
        return list(values.values())

    monkeypatch.setattr(multilabel, "gather", gather)
    with ThreadPoolExecutor(2) as ranks:
        found = list(ranks.map(lambda meter: [(meter.result(), meter.support.tolist()) for _ in range(2)], meters))
    monkeypatch.undo()
    alone = measure(logits, weights, most_kept=most_kept)
    assert found == [[(alone.result(), alone.support.tolist())] * 2] * 2


def test_a_loss_that_is_no_number_is_seen() -> None:
    logits, weights = evaluation(10, 4)
    logits[3, 2] = math.nan
    assert math.isnan(measure(logits, weights).result()["loss"])
    assert math.isnan(measure(logits, weights, most_kept=0).result()["loss"])


def test_an_evaluation_of_nothing_is_told() -> None:
    with pytest.raises(UserError, match="found no picture to evaluate"):
        MultiLabelMeter("abc", THRESHOLD).result()


# ---- shown to people and programs ------------------------------------------------------------------------------------


FIGURES = {"macro_map": 71.23456, "micro_map": 80.0, "macro_precision": 1.0, "micro_precision": 2.0,
           "macro_recall": 3.0, "micro_recall": 4.0, "macro_f1": 60.1, "micro_f1": 65.0, "share_error": 0.08125,
           "coverage": 2.5, "loss": 0.25, "pictures": 200, "labels": 30}
BOUNDED = {**FIGURES, "macro_map_error": 0.01234, "micro_map_error": 0.5}


def test_the_line_fits_a_terminal_and_tells_the_bounds_where_there_are_some() -> None:
    assert format_multilabel_line(FIGURES) == "* mAP 71.235 (micro 80.000) F1 60.100 (micro 65.000) share error 0.0813"
    assert format_multilabel_line(BOUNDED).startswith("* mAP 71.235 ± 0.012 (micro 80.000 ± 0.500) F1 60.100 (micro")


def test_the_table_holds_every_figure() -> None:
    lines = figures_table(BOUNDED)
    assert lines[1].split() == ["mAP,", "%", "71.235", "±", "0.012", "80.000", "±", "0.500"]
    assert [line.split()[-1] for line in lines[2:]] == ["2.000", "4.000", "65.000", lines[5], "0.0813", "2.500",
                                                        "0.2500", "30", "200"]
    assert max(map(len, lines)) <= 80


def test_the_file_is_json_even_where_a_figure_is_no_number(tmp_path: Path) -> None:
    write_figures(tmp_path, {**FIGURES, "loss": math.nan})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {**FIGURES, "loss": None}
