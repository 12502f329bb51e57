"""Logs of both forms, read into one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.log import read_log
from utils import UserError


def test_our_records_come_as_they_are(tmp_path: Path) -> None:
    records = [{"epoch": 1, "train_loss": 2.0, "lr": 0.1}, {"epoch": 2, "train_loss": 1.0, "lr": 0.2, "val_top1": 9.5}]
    (tmp_path / "log").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_log(tmp_path / "log") == records


def test_published_records_get_our_keys_and_epochs(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(
        '{"train_lr": 1e-06, "train_loss": 6.9, "test_loss": 6.8, "test_acc1": 0.4, "test_acc5": 1.9, "epoch": 0, '
        '"n_parameters": 11414808}\n{"train_lr": 0.0004, "train_loss": 6.2, "epoch": 1, "n_parameters": 11414808}\n')
    assert read_log(tmp_path / "log.txt") == [
        {"epoch": 1, "lr": 1e-06, "train_loss": 6.9, "val_loss": 6.8, "val_top1": 0.4, "val_top5": 1.9},
        {"epoch": 2, "lr": 0.0004, "train_loss": 6.2}]


def test_other_lines_are_passed_over_and_the_later_record_counts(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('header\n{"epoch": 2, "lr": 1}\n[1]\n{"lr": 3}\n{"epoch": 1, "lr": 2}\n'
                                  '{"epoch": 2, "lr": 5}\n{"epoch": 3, "l')
    assert read_log(tmp_path / "log") == [{"epoch": 1, "lr": 2}, {"epoch": 2, "lr": 5}]


def test_values_that_cannot_be_drawn_are_passed_over(tmp_path: Path) -> None:
    lines = ['{"epoch": 1, "lr": "a", "val_top1": [1], "train_loss": 2.5, "val_loss": null}',
             '{"epoch": true, "lr": 1}', '{"epoch": 1e9, "lr": 1}',
             '{"epoch": -1, "lr": 1}', f'{{"epoch": {10**30}, "lr": 1}}',
             '{"epoch": 2, "lr": 1e300, "train_loss": true}', '{"epoch": 3, "lr": NaN}', "[" * 20_000, "9" * 5000]
    (tmp_path / "log").write_text("\n".join(lines))
    assert read_log(tmp_path / "log") == [{"epoch": 1, "train_loss": 2.5, "val_loss": None}, {"epoch": 2}]


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("nothing here\n")
    with pytest.raises(UserError, match="no epoch"):
        read_log(tmp_path / "empty")
    with pytest.raises(UserError, match="nowhere"):
        read_log(tmp_path / "nowhere")
