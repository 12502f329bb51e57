"""Records hold what the mode asks for; every format says the same, and rows of features are the lines of names."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from data.csv_files import read_rows
from data.names import named_file
from evaluation.calibration import Calibration
from inference.journal import Entry, Journal
from inference.modes import MODES, InferenceRequest, ModeName
from inference.predictor import Failure, Prediction
from inference.records import (
    Summary,
    extract_features,
    find_earlier_results,
    make_entries,
    make_record,
    write_results,
    write_single,
)
from runtime.options import ResultFormat, ResultOptions
from search.gallery import Gallery
from search.gallery_search import GallerySearch
from search.vectors import FeatureSpace, read_vectors

CLASSES = ("anna", "齐白石", "bob")


def request(mode: ModeName, **options: object) -> InferenceRequest:
    return InferenceRequest(mode=MODES[mode], **{"top_k": 2, **options})


def prediction(path: Path, number: int = 0) -> Prediction:
    """Logits whose softmax is 0.2, 0.3, 0.5; features (number, number + 0.25)."""
    return Prediction(path, torch.tensor([number, number + 0.25]), torch.tensor([0.2, 0.3, 0.5]).log(), CLASSES)


def answers(folder: Path) -> list[Prediction | Failure]:
    """Readable, damaged, readable, in a sub-folder."""
    return [prediction(folder / "a.png", 1), Failure(folder / "b.png", "truncated"),
            prediction(folder / "sub" / "石.png", 2)]


def test_a_record_holds_what_the_mode_asks_for() -> None:
    one = prediction(Path("a.png"), 1)
    shapes = {mode: make_record(one, request(mode)) for mode in ("classify", "cluster", "both")}
    assert shapes["classify"] == {"classification": [
        {"class_id": 2, "class_name": "bob", "probability": pytest.approx(0.5)},
        {"class_id": 1, "class_name": "齐白石", "probability": pytest.approx(0.3)}]}
    assert shapes["cluster"] == {"features": [1.0, 1.25]}
    assert shapes["both"] == shapes["classify"] | shapes["cluster"]


@pytest.mark.parametrize(("top_k", "threshold", "ids"), [(1, 0.0, [2]), (9, 0.0, [2, 1, 0]), (9, 0.25, [2, 1]),
                                                        (9, 0.6, [])])
def test_top_k_and_threshold(top_k: int, threshold: float, ids: list[int]) -> None:
    found = make_record(prediction(Path("a.png")), request("classify", top_k=top_k, threshold=threshold))
    assert [entry["class_id"] for entry in found["classification"]] == ids


@pytest.mark.parametrize(("confident", "possible", "verdict"), [(0.6, 0.3, "confident"), (0.7, 0.3, "possible"),
                                                                (0.9, 0.8, "unknown")])
def test_calibration_adds_a_probability_and_a_verdict(confident: float, possible: float, verdict: str) -> None:
    half = Calibration(fingerprint="", view="default", temperature=0.5, confident=confident, possible=possible,
                       error_rate=0.05)
    found = make_record(prediction(Path("a.png")), request("classify", calibration=half))
    squares = np.array([0.5, 0.3]) ** 2 / (0.5**2 + 0.3**2 + 0.2**2)  # 0.658 and 0.237
    assert [entry["calibrated_probability"] for entry in found["classification"]] == pytest.approx(squares)
    assert [entry["probability"] for entry in found["classification"]] == pytest.approx([0.5, 0.3])
    assert found["verdict"] == verdict


@pytest.mark.parametrize("batch_size", [1, 2, 3, 9])
def test_an_unreadable_picture_has_a_record_too(tmp_path: Path, batch_size: int) -> None:
    found = dict(make_entries(answers(tmp_path), tmp_path, request("cluster"), batch_size=batch_size))
    assert found == {"a.png": {"features": [1.0, 1.25]}, "b.png": {"error": "truncated"},
                     "sub/石.png": {"features": [2.0, 2.25]}}


def test_extracted_features_are_in_order_and_failures_apart(tmp_path: Path) -> None:
    found, failures = extract_features(iter(answers(tmp_path)), tmp_path)
    assert found.names == ["a.png", "sub/石.png"]
    assert found.rows.tolist() == [[1.0, 1.25], [2.0, 2.25]]
    assert [failure.path.name for failure in failures] == ["b.png"]


def test_nothing_readable_is_an_empty_matrix(tmp_path: Path) -> None:
    found, _ = extract_features([Failure(tmp_path / "b.png", "truncated")], tmp_path)
    assert (found.names, found.rows) == ([], pytest.approx(np.empty((0, 0))))


def test_pictures_searched_together_have_the_records_they_have_alone() -> None:
    rows = np.array([[1, 0], [0, 1], [1, 2], [2, 1]], np.float32)
    gallery = Gallery.of_folder(FeatureSpace(model="m"), Path("p"), ["Anna/1", "Bob/1", "Bob/2", "Anna/2"], rows)
    ask = request("search", search=GallerySearch(gallery, neighbours=3))
    predictions = [Prediction(Path(f"{row}"), torch.from_numpy(features), torch.zeros(2), ())
                   for row, features in enumerate(rows[:3] + np.float32(0.1))]
    together, alone = (list(make_entries(predictions, Path("."), ask, batch_size=size)) for size in (3, 1))
    assert together == alone
    assert len(together) == 3
    failure = Failure(Path("x.png"), "truncated")
    assert list(make_entries([failure], Path("."), ask)) == [("x.png", {"error": "truncated"})]


# ---- files -----------------------------------------------------------------------------------------------------------

ANNA = {"class_id": 0, "class_name": "anna", "probability": 0.75}
QI = {"class_id": 1, "class_name": '齐白石, "老人"', "probability": 0.25}
ENTRIES: list[Entry] = [
    ("a.png", {"classification": [ANNA], "verdict": "confident", "features": [1.0, 2.5]}),
    ("b.png", {"error": "truncated"}),
    ("sub/石.png", {"classification": [QI, ANNA], "verdict": "unknown", "features": [3.0, 1 / 3]})]


def journals(folder: Path, *parts: list[Entry]) -> list[Journal]:
    made = [Journal.begin(folder / str(number), {"pictures": len(part)}) for number, part in enumerate(parts)]
    for journal, part in zip(made, parts, strict=True):
        journal.extend(part, batch_size=2)
    return made


def write(tmp_path: Path, entries: list[Entry], mode: ModeName = "both", **options: str) -> Path:
    write_results(journals(tmp_path / "journal", entries), tmp_path / "out", ResultOptions(**options), MODES[mode])
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
    found = write_results(parts, tmp_path, ResultOptions(), MODES["both"])
    assert (found.pictures, found.rows, found.failures) == (3, 2, [("b.png", "truncated")])
    features = np.load(tmp_path / "features.npy")
    assert features.dtype == np.float32
    assert np.array_equal(features, np.float32([[1, 2.5], [3, 1 / 3]]))
    assert (tmp_path / "image_names.txt").read_text(encoding="utf-8") == "a.png\nsub/石.png\n"
    assert list(json.loads((tmp_path / "batch_results.json").read_text(encoding="utf-8"))) == [
        name for name, _ in ENTRIES]


def test_an_archive_holds_features_and_exact_names(tmp_path: Path) -> None:
    output = write(tmp_path, ENTRIES, features_format="npz")
    assert sorted(path.name for path in output.iterdir()) == ["batch_results.json", "features.json", "features.npz"]
    with np.load(output / "features.npz") as archive:
        assert np.array_equal(archive["features"], np.float32([[1, 2.5], [3, 1 / 3]]))
        assert archive["image_names"].tolist() == ["a.png", "sub/石.png"]


@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_nothing_readable_leaves_files_that_load(tmp_path: Path, kind: str) -> None:
    output = write(tmp_path, [("b.png", {"error": "truncated"})], features_format=kind)
    loaded = np.load(output / f"features.{kind}")
    features = loaded["features"] if kind == "npz" else loaded
    assert features.shape == (0, 0)


def test_classifying_writes_no_features(tmp_path: Path) -> None:
    output = write(tmp_path, [("a.png", {"classification": [ANNA]})], mode="classify")
    assert [path.name for path in output.iterdir()] == ["batch_results.json"]


@pytest.mark.parametrize("kind", get_args(ResultFormat))
def test_a_single_picture_has_the_record_it_has_in_a_folder(tmp_path: Path, kind: str) -> None:
    entry = ("my test.jpg", in_float32(ENTRIES)[0][1])
    path = write_single(Path(entry[0]), entry[1], tmp_path / "out", ResultOptions(format=kind))
    whole = (write(tmp_path, [entry], format=kind) / f"batch_results.{kind}").read_text()
    assert path == tmp_path / "out" / f"my test_result.{kind}"
    if kind == "json":
        assert json.loads(whole) == {"my test.jpg": json.loads(path.read_text())}
    elif kind == "jsonl":
        assert path.read_text() == whole
    else:
        single, folder = (list(csv.DictReader(text.splitlines())) for text in (path.read_text(), whole))
        assert single == folder


def singles(output: Path, *pictures: Path, kind: ResultFormat = "json") -> list[str]:
    """Names of the results of these pictures, whose records say which they are."""
    return [write_single(picture, {"features": [float(number)]}, output, ResultOptions(format=kind)).name
            for number, picture in enumerate(pictures)]


@pytest.mark.parametrize("kind", get_args(ResultFormat))
def test_pictures_of_one_stem_get_files_of_their_own_and_keep_them(tmp_path: Path,
                                                                   kind: ResultFormat) -> None:
    pictures = [tmp_path / "x" / "a.jpg", tmp_path / "x" / "a.png", tmp_path / "y" / "a.png", tmp_path / "x" / "b.png"]
    names = singles(tmp_path, *pictures, kind=kind)
    assert [names[0], names[1], names[3]] == [f"a_result.{kind}", f"a.png_result.{kind}", f"b_result.{kind}"]
    assert names[2].startswith("a.png-")
    assert singles(tmp_path, *pictures, kind=kind) == names
    assert singles(tmp_path, *reversed(pictures), kind=kind) == names[::-1]


def test_a_result_is_found_again_from_another_folder_and_of_earlier_versions(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "a_result.json").write_text("{}")  # whose is not recorded: replaced, as ever
    assert singles(tmp_path, tmp_path / "x" / "a.jpg") == ["a_result.json"]
    monkeypatch.chdir(tmp_path / "x")
    assert singles(tmp_path, Path("a.jpg"), Path("a.png")) == ["a_result.json", "a.png_result.json"]
    (tmp_path / "a_result.json").unlink()
    with open(tmp_path / ".result_sources.jsonl", "a") as sources:
        sources.write('{"odd": 1}\n["cut')
    assert singles(tmp_path, Path("a.png"), Path("a.webp")) == ["a.png_result.json", "a_result.json"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file systems that refuse such names themselves")
def test_names_up_to_the_limit_and_of_any_bytes_get_results(tmp_path: Path) -> None:
    pictures = [tmp_path / (letter * count + ending) for letter, count in (("a", 251), ("石", 83))
                for ending in (".png", ".jpg")]
    pictures += [tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path / "line\nbreak\r.png", tmp_path / "\u3000.png"]
    names = singles(tmp_path, *pictures)
    assert len(set(names)) == len(pictures)
    assert singles(tmp_path, *pictures) == names
    assert [json.loads((tmp_path / name).read_text())["features"] for name in names] == [
        [float(number)] for number in range(len(pictures))]


@pytest.mark.parametrize(("format", "features"), [("json", "npy"), ("csv", "npz")])
def test_names_of_any_bytes_are_the_same_text_in_every_file(tmp_path: Path, format: str, features: str) -> None:
    odd = ["a\nb.png", "a\rb.png", "c\u2028d\x85.png", os.fsdecode(b"e\xff.png"), "f\x0b\x1c.png", "\ufeffg,\".png"]
    found = [prediction(tmp_path / name, row) for row, name in enumerate(odd)]
    output = write(tmp_path, list(make_entries(found, tmp_path, request("cluster"))), mode="cluster", format=format,
                   features_format=features)
    names = extract_features(found, tmp_path)[0].names
    vectors = read_vectors([output / f"features.{features}"])
    assert vectors.names == names
    assert [named_file(tmp_path, name) for name in names] == [tmp_path / name for name in odd]
    assert vectors.rows[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    if format == "json":
        assert list(json.loads((output / "batch_results.json").read_text(encoding="utf-8"))) == names
    else:
        table = [row for _, row in read_rows(output / "batch_results.csv", ["image"])]
        assert [row[0] for row in table[1:]] == names


def test_the_summary_keeps_no_pictures(tmp_path: Path) -> None:
    found = Summary.of(journals(tmp_path, ENTRIES * 50))
    assert (found.pictures, found.rows, found.length, found.longest_name) == (150, 100, 2, 9)
    assert len(found.columns) == 9


def test_files_of_an_earlier_run_are_named(tmp_path: Path) -> None:
    out = write(tmp_path, ENTRIES, format="csv")
    assert find_earlier_results(out, 0.0) == []
    for path in out.iterdir():
        os.utime(path, (1000, 1000))
    write(tmp_path, ENTRIES, mode="classify")
    assert find_earlier_results(out, 2000.0) == ["batch_results.csv", "features.npy", "image_names.txt"]
    assert find_earlier_results(tmp_path / "nowhere", 2000.0) == []
