"""What is said of a picture, and features whose rows are the lines of the names."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.calibration import Calibration
from inference.predictor import Failure, Result
from inference.records import describe_each, extract_features, record, records, write_features
from search.vectors import FEATURES, NAMES

CLASSES = ("anna", "齐白石", "bob")
ANY = {"top_k": 2, "threshold": 0.0}


def result(path: Path, number: int = 0) -> Result:
    """Logits whose softmax is 0.2, 0.3, 0.5; features (number, number + 0.25)."""
    return Result(path, torch.tensor([number, number + 0.25]), torch.tensor([0.2, 0.3, 0.5]).log(), CLASSES)


def answers(folder: Path) -> list[Result | Failure]:
    """Readable, damaged, readable, in a sub-folder."""
    return [result(folder / "a.png", 1), Failure(folder / "b.png", "truncated"), result(folder / "sub" / "石.png", 2)]


def rows_by_name(output: Path) -> dict[str, list[float]]:
    features = np.load(output / FEATURES)
    names = (output / NAMES).read_text(encoding="utf-8").splitlines()
    assert features.dtype == np.float32
    return dict(zip(names, features.tolist(), strict=True))


def test_a_record_holds_what_the_mode_asks_for() -> None:
    shapes = {mode: record(result(Path("a.png"), 1), mode=mode, **ANY) for mode in ("classify", "cluster", "both")}
    assert shapes["classify"] == {"classification": [
        {"class_id": 2, "class_name": "bob", "probability": pytest.approx(0.5)},
        {"class_id": 1, "class_name": "齐白石", "probability": pytest.approx(0.3)}]}
    assert shapes["cluster"] == {"features": [1.0, 1.25]}
    assert shapes["both"] == shapes["classify"] | shapes["cluster"]


@pytest.mark.parametrize(("top_k", "threshold", "ids"), [(1, 0.0, [2]), (9, 0.0, [2, 1, 0]), (9, 0.25, [2, 1]),
                                                        (9, 0.6, [])])
def test_top_k_and_threshold(top_k: int, threshold: float, ids: list[int]) -> None:
    found = record(result(Path("a.png")), mode="classify", top_k=top_k, threshold=threshold)["classification"]
    assert [entry["class_id"] for entry in found] == ids


@pytest.mark.parametrize(("confident", "possible", "verdict"), [(0.6, 0.3, "confident"), (0.7, 0.3, "possible"),
                                                                (0.9, 0.8, "unknown")])
def test_calibration_adds_a_probability_and_a_verdict(confident: float, possible: float, verdict: str) -> None:
    half = Calibration(fingerprint="", view="default", temperature=0.5, confident=confident, possible=possible,
                       error_rate=0.05)
    found = record(result(Path("a.png")), mode="classify", calibration=half, **ANY)
    squares = np.array([0.5, 0.3]) ** 2 / (0.5**2 + 0.3**2 + 0.2**2)  # 0.658 and 0.237
    assert [entry["calibrated_probability"] for entry in found["classification"]] == pytest.approx(squares)
    assert [entry["probability"] for entry in found["classification"]] == pytest.approx([0.5, 0.3])
    assert found["verdict"] == verdict


@pytest.mark.parametrize("together", [1, 2, 3, 9])
def test_an_unreadable_picture_has_a_record_too(tmp_path: Path, together: int) -> None:
    describe = functools.partial(describe_each, mode="cluster", **ANY)
    found = dict(records(answers(tmp_path), tmp_path, describe, together=together))
    assert found == {"a.png": {"features": [1.0, 1.25]}, "b.png": {"error": "truncated"},
                     "sub/石.png": {"features": [2.0, 2.25]}}


def test_extracted_features_are_in_order_and_failures_apart(tmp_path: Path) -> None:
    names, features, failures = extract_features(iter(answers(tmp_path)), tmp_path)
    assert names == ["a.png", "sub/石.png"]
    assert features.tolist() == [[1.0, 1.25], [2.0, 2.25]]
    assert [failure.path.name for failure in failures] == ["b.png"]


def test_nothing_readable_is_an_empty_matrix(tmp_path: Path) -> None:
    assert extract_features([Failure(tmp_path / "b.png", "truncated")], tmp_path)[:2] == (
        [], pytest.approx(np.empty((0, 0))))


@pytest.mark.parametrize("name", ["a\nb.png", "a\r\nb.png", "a\u2028b.png", "a\x85b.png", "a\x0bb.png"])
def test_a_line_break_in_a_name_shifts_no_row(name: str, tmp_path: Path) -> None:
    write_features(tmp_path, ["before.png", name, "after.png"], np.arange(3, dtype=np.float32)[:, None])
    assert rows_by_name(tmp_path) == {"before.png": [0.0], "a b.png": [1.0], "after.png": [2.0]}
