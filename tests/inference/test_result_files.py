"""The files of a folder's results: every format says the same, and the rows of the features are the lines of names."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from inference.journal import Entry, Journal
from inference.result_files import Overview, left_behind, write_results, write_single
from runtime.options import ResultOptions

ANNA = {"class_id": 0, "class_name": "anna", "probability": 0.75}
QI = {"class_id": 1, "class_name": '齐白石, "老人"', "probability": 0.25}
ENTRIES: list[Entry] = [
    ("a.png", {"classification": [ANNA], "verdict": "confident", "features": [1.0, 2.5]}),
    ("b.png", {"error": "truncated"}),
    ("sub/石\n.png", {"classification": [QI, ANNA], "verdict": "unknown", "features": [3.0, 1 / 3]})]


def journals(folder: Path, *parts: list[Entry]) -> list[Journal]:
    made = [Journal.begin(folder / str(number), {"pictures": len(part)}) for number, part in enumerate(parts)]
    for journal, part in zip(made, parts, strict=True):
        journal.extend(part, batch_size=2)
    return made


def write(tmp_path: Path, entries: list[Entry], has_features: bool = True, **options: str) -> Path:
    write_results(journals(tmp_path / "journal", entries), tmp_path / "out", ResultOptions(**options),
                  has_features=has_features)
    return tmp_path / "out"


def in_float32(entries: list[Entry]) -> list[Entry]:
    return [(name, {key: np.float32(value).tolist() if key == "features" else value for key, value in record.items()})
            for name, record in entries]


def test_json_is_what_json_itself_writes(tmp_path: Path) -> None:
    text = (write(tmp_path, ENTRIES) / "batch_results.json").read_text(encoding="utf-8")
    assert text == json.dumps(dict(in_float32(ENTRIES)), ensure_ascii=False, indent=2) + "\n"


def test_no_picture_is_json_too(tmp_path: Path) -> None:
    assert json.loads((write(tmp_path, []) / "batch_results.json").read_text()) == {}


def test_json_lines_name_their_picture(tmp_path: Path) -> None:
    lines = (write(tmp_path, ENTRIES, format="jsonl") / "batch_results.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [
        {"image": name, **record} for name, record in in_float32(ENTRIES)]


def test_a_table_has_a_column_for_each_value_and_its_ranks_in_order(tmp_path: Path) -> None:
    with open(write(tmp_path, ENTRIES, format="csv") / "batch_results.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "verdict", "error", *(f"classification.{rank}.{name}" for rank in (1, 2)
                                                            for name in ANNA)]
    assert [row["image"] for row in rows] == [name for name, _ in ENTRIES]
    assert [row["error"] for row in rows] == ["", "truncated", ""]
    assert [row["classification.1.class_name"] for row in rows] == ["anna", "", QI["class_name"]]
    assert [row["classification.2.probability"] for row in rows] == ["", "", "0.75"]


@pytest.mark.parametrize("split", range(4))
def test_rows_are_lines_whatever_failed_and_in_however_many_parts(tmp_path: Path, split: int) -> None:
    parts = journals(tmp_path / "parts", ENTRIES[:split], ENTRIES[split:])
    found = write_results(parts, tmp_path, ResultOptions(), has_features=True)
    assert (found.pictures, found.rows, found.failures) == (3, 2, [("b.png", "truncated")])
    features = np.load(tmp_path / "features.npy")
    assert features.dtype == np.float32
    assert np.array_equal(features, np.float32([[1, 2.5], [3, 1 / 3]]))
    assert (tmp_path / "image_names.txt").read_text(encoding="utf-8") == "a.png\nsub/石 .png\n"
    assert list(json.loads((tmp_path / "batch_results.json").read_text(encoding="utf-8"))) == [
        name for name, _ in ENTRIES]


def test_an_archive_holds_features_and_exact_names(tmp_path: Path) -> None:
    output = write(tmp_path, ENTRIES, features_format="npz")
    assert sorted(path.name for path in output.iterdir()) == ["batch_results.json", "features.npz"]
    with np.load(output / "features.npz") as archive:
        assert np.array_equal(archive["features"], np.float32([[1, 2.5], [3, 1 / 3]]))
        assert archive["image_names"].tolist() == ["a.png", "sub/石\n.png"]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_nothing_readable_leaves_files_that_load(tmp_path: Path, kind: str) -> None:
    output = write(tmp_path, [("b.png", {"error": "truncated"})], features_format=kind)
    loaded = np.load(output / f"features.{kind}")
    features = loaded["features"] if kind == "npz" else loaded
    assert features.shape == (0, 0)


def test_classifying_writes_no_features(tmp_path: Path) -> None:
    output = write(tmp_path, [("a.png", {"classification": [ANNA]})], has_features=False)
    assert [path.name for path in output.iterdir()] == ["batch_results.json"]


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_a_single_picture_has_the_record_it_has_in_a_folder(tmp_path: Path, kind: str) -> None:
    entry = ("my test.jpg", in_float32(ENTRIES)[0][1])
    path = write_single(*entry, tmp_path / "out", ResultOptions(format=kind))
    whole = (write(tmp_path, [entry], format=kind) / f"batch_results.{kind}").read_text()
    assert path == tmp_path / "out" / f"my test_result.{kind}"
    if kind == "json":
        assert json.loads(whole) == {"my test.jpg": json.loads(path.read_text())}
    elif kind == "jsonl":
        assert path.read_text() == whole
    else:
        single, folder = (list(csv.DictReader(text.splitlines())) for text in (path.read_text(), whole))
        assert single == folder


def test_a_name_that_is_no_unicode_is_recorded(tmp_path: Path) -> None:
    name = b"a\xff.png".decode("utf-8", errors="surrogateescape")
    output = write(tmp_path, [(name, {"features": [1.0]})])
    assert list(json.loads((output / "batch_results.json").read_text(encoding="utf-8"))) == [name]
    assert (output / "image_names.txt").read_text() == "a\\udcff.png\n"


def test_the_overview_keeps_no_pictures(tmp_path: Path) -> None:
    found = Overview.of(journals(tmp_path, ENTRIES * 50))
    assert (found.pictures, found.rows, found.length, found.longest) == (150, 100, 2, 10)
    assert len(found.columns) == 9


def test_files_of_an_earlier_run_are_named(tmp_path: Path) -> None:
    out = write(tmp_path, ENTRIES, format="csv")
    assert left_behind(out, 0.0) == []
    for path in out.iterdir():
        os.utime(path, (1000, 1000))
    write(tmp_path, ENTRIES, has_features=False)
    assert left_behind(out, 2000.0) == ["batch_results.csv", "features.npy", "image_names.txt"]
    assert left_behind(tmp_path / "nowhere", 2000.0) == []
