"""Confidences are sigmoids, shares are p / sum(p), and each format says the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest
import torch

from data.csv_files import read_rows
from inference.label_records import (
    LabelChoice,
    choose_format,
    make_label_record,
    make_label_records,
    parse_thresholds,
    write_label_records,
)
from inference.predictor import Failure, Prediction
from runtime.options import ResultFormat
from utils import UserError

CLASSES = ["a", "b, c", "画"]
PREDICTION = Prediction(Path("in/x.png"), torch.zeros(2), torch.tensor([3.0, 1.0, 0.25]).log(), CLASSES)
P = [0.75, 0.5, 0.2]  # the sigmoid of log(o) is o / (1 + o)


def choose(*, top_k: int = 5, threshold: str = "0", ratio: str | None = None, raw: bool = False,
           checkpoint: Path = Path("model_best.pth")) -> LabelChoice:
    return LabelChoice(top_k=top_k, thresholds=parse_thresholds(threshold, CLASSES, checkpoint), ratio=ratio, raw=raw)


def test_confidences_are_sigmoids_in_falling_order() -> None:
    record = make_label_record(PREDICTION, choose())
    assert list(record) == ["image", "labels"]
    assert record["image"] == "in/x.png"
    assert [(label["class_id"], label["label"]) for label in record["labels"]] == list(enumerate(CLASSES))
    assert [label["confidence"] for label in record["labels"]] == pytest.approx(P)
    assert all("ratio" not in label for label in record["labels"])


@pytest.mark.parametrize(("ratio", "expected"), [("all", [0.75 / 1.45, 0.5 / 1.45]), ("kept", [0.6, 0.4])])
def test_shares_add_up_over_all_labels_or_over_those_told(ratio: str, expected: list[float]) -> None:
    labels = make_label_record(PREDICTION, choose(ratio=ratio, threshold="0.3"))["labels"]
    assert [label["ratio"] for label in labels] == pytest.approx(expected)
    whole = make_label_record(PREDICTION, choose(ratio=ratio))["labels"]
    assert sum(label["ratio"] for label in whole) == pytest.approx(1)


@pytest.mark.parametrize("ratio", ["all", "kept"])
def test_shares_of_confidences_that_are_too_small_for_a_number(ratio: str) -> None:
    tiny = Prediction(PREDICTION.path, PREDICTION.features, torch.tensor([3.0, 2.0, 1.0]).log() - 5000, CLASSES)
    labels = make_label_record(tiny, choose(ratio=ratio))["labels"]
    assert [label["confidence"] for label in labels] == [0, 0, 0]
    assert {label["label"]: label["ratio"] for label in labels} == pytest.approx(
        dict(zip(CLASSES, (3 / 6, 2 / 6, 1 / 6), strict=True)), rel=1e-3)


def test_all_confidences_are_told_in_the_order_of_ids() -> None:
    other = Prediction(PREDICTION.path, PREDICTION.features, PREDICTION.logits.flip(0), CLASSES)
    record = make_label_record(other, choose(top_k=1, raw=True))
    assert record["raw_confidence"] == pytest.approx(P[::-1])
    assert [label["label"] for label in record["labels"]] == ["画"]


def test_each_label_has_its_threshold_and_the_count_is_of_those_above(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.csv"
    path.write_text('class_id,class_name,threshold,ap,f1\n0,a,0.8,1,1\n1,"b, c",0.5,1,1\n2,画,0.1,,\n',
                    encoding="utf-8")
    for choice in (choose(top_k=1, threshold=str(path)),
                   choose(top_k=1, threshold="trained", checkpoint=tmp_path / "model_best.pth")):
        labels = make_label_record(PREDICTION, choice)["labels"]
        assert [label["label"] for label in labels] == ["b, c"]  # at its threshold; a, more confident, is below its own
    assert make_label_record(PREDICTION, choose(threshold="1"))["labels"] == []


@pytest.mark.parametrize("text", ["x", "-0.1", "1.01", "nan", ""])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--threshold"):
        parse_thresholds(text, CLASSES, Path("model_best.pth"))


def test_every_format_has_a_record_for_every_input(tmp_path: Path) -> None:
    answers = [PREDICTION, Failure(Path("bad.png"), "damaged"),
               Prediction(Path("none.png"), PREDICTION.features, PREDICTION.logits - 9, CLASSES)]
    choice = choose(ratio="all", threshold="0.3")
    records = [make_label_record(answer, choice) for answer in answers]
    for style in get_args(ResultFormat):
        assert write_label_records(make_label_records(answers, choice), tmp_path / style, style) == [answers[1]]
    assert records[1] == {"image": "bad.png", "error": "damaged"}
    assert json.loads((tmp_path / "json").read_text(encoding="utf-8")) == records
    assert [json.loads(line) for line in (tmp_path / "jsonl").read_text(encoding="utf-8").splitlines()] == records
    told = [[str(records[0]["labels"][row][key]) for key in ("confidence", "ratio")] for row in (0, 1)]
    assert [row for _, row in read_rows(tmp_path / "csv", [])] == [
        ["image", "class_id", "label", "confidence", "ratio", "error"], ["in/x.png", "0", "a", *told[0], ""],
        ["in/x.png", "1", "b, c", *told[1], ""], ["bad.png", "", "", "", "", "damaged"],
        ["none.png", "", "", "", "", ""]]


@pytest.mark.parametrize(("name", "asked", "style"), [
    ("x.json", None, "json"), ("x.JSONL", None, "jsonl"), ("x.csv", None, "csv"), ("x.txt", None, "json"),
    ("x", None, "json"), ("x.csv", "jsonl", "jsonl")])
def test_the_ending_decides_where_nothing_is_asked_for(tmp_path: Path, name: str, asked: str | None,
                                                       style: str) -> None:
    assert choose_format(tmp_path / name, asked) == style


def test_folders_and_pictures_are_never_written_over(tmp_path: Path) -> None:
    for output in (tmp_path, tmp_path / "x.PNG"):
        with pytest.raises(UserError, match="the output"):
            choose_format(output, "json")
