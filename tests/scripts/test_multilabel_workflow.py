"""The documented way from labelled pictures to predicted shares: every command once, in order, as users run them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
from sklearn.metrics import average_precision_score

import model  # noqa: F401  (registers the presets)
from data.class_mapping import read_class_mapping
from data.csv_files import read_rows
from data.multilabel.annotations import AnnotationRules, read_annotations
from data.multilabel.dataset import STATS_COLUMNS
from evaluation.thresholds import read_thresholds
from runtime.checkpoint import read_checkpoint
from tests.conftest import MODEL
from tests.pictures import parse_labels, write_annotated_set

SMALL = ("--input-size", 32, "--epochs", 2, "--num_workers", 1)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run_script) -> Path:
    """What the documented commands leave behind; `pictures` is the input, a few of its labels are rare."""
    folder = tmp_path_factory.mktemp("workflow")
    pictures = write_annotated_set(folder / "set") / "pictures"
    with open(next(pictures.glob("*.txt")), "a", encoding="utf-8") as labels:
        labels.write("\n(re:zero:1.4)\n")
    annotations, run = folder / "annotations", folder / "run"
    train = ("--data-path", pictures, "--train-ann", annotations / "train_multilabel.csv", "--val-ann",
             annotations / "val_multilabel.csv", "--model", MODEL)
    for script, *arguments in (
            ("tools/generate_multilabel_csv.py", "--input-dir", pictures, "--output-csv",
             annotations / "all_multilabel.csv", "--recursive"),
            ("tools/split_multilabel_dataset.py", "--input-dir", pictures, "--train-csv",
             annotations / "train_multilabel.csv", "--val-csv", annotations / "val_multilabel.csv", "--val-ratio", 0.2,
             "--min-label-count", 5, "--relative-paths", "--recursive"),
            ("train_artist_multilabel.py", *train, "--output-dir", run, "--batch-size", 96, *SMALL, "--threshold", 0.4),
            ("train_artist_multilabel.py", *train, "--resume", run / "best_checkpoint.pth", "--eval", "--output-dir",
             folder / "evaluated", "--num_workers", 1),
            ("predict_artist_multilabel.py", "--checkpoint", run / "best_checkpoint.pth", "--class-mapping",
             run / "class_mapping.csv", "--inputs", pictures, "--output", folder / "hybrid_confidence.json",
             "--top-k", 6, "--threshold", 0.05, "--normalize-ratio", "--debug-full")):
        done = run_script(script, *arguments)
        assert done.returncode == 0, f"{script}: {done.stderr}"
    return folder


def test_annotations_are_what_the_label_files_say_and_every_kept_label_is_on_both_sides(folder: Path) -> None:
    rules = AnnotationRules(root=folder / "set" / "pictures")
    texts = {path: path.read_text(encoding="utf-8").split("\n") for path in rules.root.glob("*.txt")}
    every, train, val = (dict(read_annotations(folder / "annotations" / f"{name}_multilabel.csv", rules)[0])
                         for name in ("all", "train", "val"))
    assert every == {path.with_suffix(".jpg").as_posix(): parse_labels(",".join(filter(None, lines)))
                     for path, lines in texts.items()}
    assert any("re:zero" in labels for labels in every.values())
    assert not train.keys() & val.keys()
    assert {(rules.root / name).as_posix() for name in train.keys() | val.keys()} == every.keys()
    classes = read_class_mapping(folder / "run" / "class_mapping.csv")
    for side in (train, val):
        assert sorted({label for labels in side.values() for label in labels}) == classes


def test_the_run_leaves_the_promised_files_and_they_load(folder: Path) -> None:
    run = folder / "run"
    classes = read_class_mapping(run / "class_mapping.csv")
    assert [row[1] for _, row in read_rows(run / "label_stats.csv", STATS_COLUMNS)][1:] == classes
    assert len(read_thresholds(run / "thresholds.csv", classes)) == len(classes)
    for name in ("checkpoint.pth", "model_best.pth", "best_checkpoint.pth"):
        checkpoint = read_checkpoint(run / name)
        assert (checkpoint.classes, checkpoint.task) == (classes, "multilabel")
    assert timm.create_model(f"local-dir:{run}", pretrained=True).num_classes == len(classes)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2


def test_prediction_scores_what_the_evaluation_said(folder: Path) -> None:
    rules = AnnotationRules(root=folder / "set" / "pictures")
    val = dict(read_annotations(folder / "annotations" / "val_multilabel.csv", rules)[0])
    figures = json.loads((folder / "evaluated" / "evaluation.json").read_text(encoding="utf-8"))
    classes = read_class_mapping(folder / "run" / "class_mapping.csv")
    records = {Path(record["image"]).name: record for record in
               json.loads((folder / "hybrid_confidence.json").read_text(encoding="utf-8"))}
    assert list(records) == sorted(path.name for path in rules.root.glob("*.jpg"))
    scores = np.array([records[name]["raw_confidence"] for name in val])
    weights = np.array([[labels.get(label, 0.0) for label in classes] for labels in val.values()])
    assert 100 * average_precision_score(weights > 0, scores) == pytest.approx(figures["macro_map"], abs=1e-3)
    shares = scores / scores.sum(1, keepdims=True)
    error = np.abs(weights / weights.sum(1, keepdims=True) - shares)[weights > 0].mean()
    assert error == pytest.approx(figures["share_error"], abs=1e-4)
    for name, row in zip(val, shares, strict=True):
        assert all(label["ratio"] == pytest.approx(row[label["class_id"]]) for label in records[name]["labels"])
