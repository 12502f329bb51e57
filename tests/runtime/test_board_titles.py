"""Figures on TensorBoard are called by words, and a run that an earlier version began goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from runtime.logbook import METRICS, Logbook, board_title


@pytest.mark.parametrize(("name", "title"), [
    ("train_loss", "training/loss"), ("lr", "training/learning rate"), ("val_loss", "validation/loss"),
    ("val_top1", "validation/top-1, %"), ("val_macro_map_error", "validation/macro map error"),
    ("images_per_second", "training/pictures per second"), ("val_recall5", "validation/recall5")])
def test_titles_are_words(name: str, title: str) -> None:
    assert board_title(name) == title


def test_a_run_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "tensorboard")) as board:
        board.add_scalar("val_top1", 50.0, 1)
    (tmp_path / METRICS).write_text('{"epoch": 1, "val_top1": 50.0}\n', encoding="utf-8")
    with Logbook(tmp_path, first_epoch=1) as logbook:
        logbook.hyperparameters({"lr": 0.1}, "top1")
        assert len(logbook.record({"epoch": 2, "val_top1": 60.0})) == 2
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("val_top1")] == [(1, 50.0)]
    assert [(event.step, event.value) for event in board.Scalars("validation/top-1, %")][-1] == (2, 60.0)
