"""--eval-retrieval: the trainer tells and records more, and learns the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import MODEL
from train_artist_style import main


def test_an_evaluation_has_a_second_line(trained: Path, data_set: Path, capsys) -> None:
    flags = ["--data-path", str(data_set), "--resume", str(trained / "model_best.pth"), "--eval", "-j", "0"]
    assert main(flags) == 0
    assert main([*flags, "--eval-retrieval"]) == 0
    plain, _, first, second, _ = capsys.readouterr().out.splitlines()  # after each evaluation, what to do next
    assert first == plain
    assert re.fullmatch(r"retrieval: recall@1 [\d.]+ @5 [\d.]+ @10 [\d.]+ mAP [\d.]+ kNN [\d.]+", second)


def test_a_run_records_it_and_learns_the_same(trained: Path, data_set: Path, tmp_path: Path) -> None:
    assert main(["--model", MODEL, "--data-path", str(data_set), "--output-dir", str(tmp_path), "--input-size", "32",
                 "--epochs", "2", "--batch-size", "8", "-j", "0", "--eval-retrieval"]) == 0
    records, plain = ([json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
                      for folder in (tmp_path, trained))
    for record, without in zip(records, plain, strict=True):
        assert record["train_loss"] == without["train_loss"]
        assert record["val_top1"] == without["val_top1"]
        assert record["val_loss"] == pytest.approx(without["val_loss"], rel=1e-5)
        assert record["val_queries"] == 12
        assert 0 <= record["val_recall1"] <= record["val_recall5"] <= record["val_recall10"] <= 100
    assert (tmp_path / "report.csv").exists()
