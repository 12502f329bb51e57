"""What inference writes: every picture has a record, and the rows of the features are the lines of the names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from runtime.predictor import Failure, Result
from runtime.records import (
    FEATURES,
    FOLDER_RESULTS,
    NAMES,
    extract_features,
    record,
    write_features,
    write_folder,
    write_single,
)

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


def test_a_record_holds_what_the_mode_asks_for(tmp_path: Path) -> None:
    shapes = {mode: record(result(tmp_path / "a.png", 1), mode=mode, **ANY) for mode in ("classify", "cluster", "both")}
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


@pytest.mark.parametrize("mode", ["classify", "cluster", "both"])
def test_an_unreadable_picture_has_a_record_too(mode: str) -> None:
    assert record(Failure(Path("a.png"), "truncated"), mode=mode, **ANY) == {"error": "truncated"}


def test_a_single_picture_has_the_record_it_has_in_a_folder(tmp_path: Path) -> None:
    path = write_single(result(tmp_path / "my test.jpg", 1), tmp_path / "out", mode="both", **ANY)
    write_folder([result(tmp_path / "my test.jpg", 1)], tmp_path, tmp_path / "out", mode="both", **ANY)
    assert path == tmp_path / "out" / "my test_result.json"
    single = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads((tmp_path / "out" / FOLDER_RESULTS).read_text(encoding="utf-8")) == {"my test.jpg": single}


@pytest.mark.parametrize("mode", ["cluster", "both"])
def test_a_failure_in_the_middle_shifts_no_row(mode: str, tmp_path: Path) -> None:
    failures = write_folder(answers(tmp_path / "in"), tmp_path / "in", tmp_path / "out", mode=mode, **ANY)
    records = json.loads((tmp_path / "out" / FOLDER_RESULTS).read_text(encoding="utf-8"))
    assert list(records) == ["a.png", "b.png", "sub/石.png"]
    assert failures == [Failure(tmp_path / "in" / "b.png", "truncated")]
    assert records["b.png"] == {"error": "truncated"}
    readable = {name: entry["features"] for name, entry in records.items() if "features" in entry}
    assert rows_by_name(tmp_path / "out") == readable == {"a.png": [1.0, 1.25], "sub/石.png": [2.0, 2.25]}


def test_classifying_writes_no_features(tmp_path: Path) -> None:
    write_folder(answers(tmp_path / "in"), tmp_path / "in", tmp_path / "out", mode="classify", **ANY)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [FOLDER_RESULTS]


def test_extracted_features_are_those_of_the_folders_records(tmp_path: Path) -> None:
    names, features, failures = extract_features(iter(answers(tmp_path)), tmp_path)
    assert names == ["a.png", "sub/石.png"]
    assert features.tolist() == [[1.0, 1.25], [2.0, 2.25]]
    assert [failure.path.name for failure in failures] == ["b.png"]


def test_nothing_readable_leaves_files_that_load(tmp_path: Path) -> None:
    failure = Failure(tmp_path / "b.png", "truncated")
    assert write_folder([failure], tmp_path, tmp_path / "out", mode="both", **ANY) == [failure]
    assert rows_by_name(tmp_path / "out") == {}
    assert extract_features([failure], tmp_path)[:2] == ([], pytest.approx(np.empty((0, 0))))


@pytest.mark.parametrize("name", ["a\nb.png", "a\r\nb.png", "a\u2028b.png", "a\x85b.png", "a\x0bb.png"])
def test_a_line_break_in_a_name_shifts_no_row(name: str, tmp_path: Path) -> None:
    write_features(tmp_path, ["before.png", name, "after.png"], np.arange(3, dtype=np.float32)[:, None])
    assert rows_by_name(tmp_path) == {"before.png": [0.0], "a b.png": [1.0], "after.png": [2.0]}


def test_a_name_that_is_no_unicode_is_recorded(tmp_path: Path) -> None:
    name = b"a\xff.png".decode("utf-8", errors="surrogateescape")
    write_folder([result(tmp_path / name, 1)], tmp_path, tmp_path / "out", mode="both", **ANY)
    assert list(json.loads((tmp_path / "out" / FOLDER_RESULTS).read_text(encoding="utf-8"))) == [name]
    assert rows_by_name(tmp_path / "out") == {"a\\udcff.png": [1.0, 1.25]}
