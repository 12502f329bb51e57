"""An output folder keeps what earlier runs left: moved aside whole, never overwritten, never mixed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from data.class_mapping import read_class_mapping, write_class_mapping
from data.prepare.dataset import DATASET_INFO
from evaluation.calibration import CALIBRATION
from runtime.checkpoint import (
    BEST,
    BEST_ALIAS,
    HUB_CONFIG,
    LATEST,
    WEIGHTS,
    Checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from runtime.logbook import LOG, METRICS, Logbook
from runtime.options import RunOptions
from tests.kills import count_calls
from training import run_folder
from training.run_folder import CLASS_MAPPING, closing_lines, find_checkpoint, open_output
from utils import UserError

CLASSES = ["anna", "bob"]
RUN = (LATEST, BEST, BEST_ALIAS, HUB_CONFIG, WEIGHTS, CLASS_MAPPING, LOG, METRICS, "checkpoint_5.pth",
       "checkpoint_10.pth", "calibration.json", "calibration.png", "evaluation.json", "robustness.json")


def leave_run(folder: Path, classes: list[str] = CLASSES, epoch: int = 3) -> Checkpoint:
    """All that a trainer writes, and a file of the user's own; the latest checkpoint."""
    with Logbook(folder) as logbook:
        logbook.log("old line")
        logbook.record({"epoch": 1, "loss": 1.0})
    save_checkpoint(folder / LATEST, {"model": {"w": torch.zeros(1)}, "classes": classes, "config": {}, "epoch": epoch})
    for name in (*RUN[1:5], *RUN[8:], "notes.txt"):
        (folder / name).write_text(f"old {name}", encoding="utf-8")
    write_class_mapping(folder / CLASS_MAPPING, classes)
    return read_checkpoint(folder / LATEST)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- a new run -------------------------------------------------------------------------------------------------------


def test_a_new_folder_gets_the_mapping(tmp_path: Path) -> None:
    assert open_output(tmp_path / "a" / "run", CLASSES, None) == []
    assert read_class_mapping(tmp_path / "a" / "run" / CLASS_MAPPING) == CLASSES
    assert open_output(tmp_path / "a" / "run", CLASSES, None) == []  # a run that ended before its first checkpoint


def test_an_earlier_run_moves_aside_whole(tmp_path: Path) -> None:
    leave_run(tmp_path)
    before = contents(tmp_path)
    notes = open_output(tmp_path, CLASSES, None)
    assert notes == [f"the earlier run in {tmp_path} moves to previous_1/"]
    after = contents(tmp_path)
    moved = {name.removeprefix("previous_1/"): content for name, content in after.items() if "previous_1/" in name}
    assert moved == {name: content for name, content in before.items() if name != "notes.txt"}
    assert set(RUN) < moved.keys()
    assert any(name.startswith("tensorboard/") for name in moved)
    assert after.keys() - {f"previous_1/{name}" for name in moved} == {"notes.txt", CLASS_MAPPING}


def test_each_earlier_run_has_its_own_folder(tmp_path: Path) -> None:
    for number, epoch in enumerate((3, 4, 5), start=1):
        leave_run(tmp_path, epoch=epoch)
        assert f"previous_{number}/" in open_output(tmp_path, CLASSES, None)[0]
    kept = [read_checkpoint(tmp_path / f"previous_{number}" / LATEST).content["epoch"] for number in (1, 2, 3)]
    assert kept == [3, 4, 5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_what_a_kill_left_half_moved_is_moved_whole(tmp_path: Path) -> None:
    for point in range(1, len(RUN) + 3):
        folder = tmp_path / str(point)
        leave_run(folder)
        if not os.fork():
            count_calls(("mkdir", "rename"), point, lambda call: os._exit(9))
            open_output(folder, CLASSES, None)
            os._exit(0)
        os.wait()
        open_output(folder, CLASSES, None)
        assert [path.name for path in folder.glob("*previous*")] == ["previous_1"]
        assert {name for name in RUN if (folder / "previous_1" / name).exists()} == set(RUN)


def test_a_mapping_that_contradicts_the_data_is_named_and_kept_with_its_run(tmp_path: Path) -> None:
    leave_run(tmp_path)
    warning, moved = open_output(tmp_path, ["anna", "zoe"], None)
    assert warning.startswith(f"warning: the data set contradicts {tmp_path / CLASS_MAPPING}: class 1 is 'zoe'")
    assert "'bob'" in warning
    assert "previous_1/" in moved
    assert read_class_mapping(tmp_path / CLASS_MAPPING) == ["anna", "zoe"]
    assert read_class_mapping(tmp_path / "previous_1" / CLASS_MAPPING) == CLASSES


def test_a_mapping_without_a_checkpoint_is_replaced_with_a_warning(tmp_path: Path) -> None:
    write_class_mapping(tmp_path / CLASS_MAPPING, ["zoe"])
    warning, = open_output(tmp_path, CLASSES, None)
    assert warning.startswith("warning: ")
    assert read_class_mapping(tmp_path / CLASS_MAPPING) == CLASSES


def test_a_file_in_the_way_and_a_damaged_mapping_are_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written"):
        open_output(tmp_path / "run", CLASSES, None)
    leave_run(tmp_path / "damaged")
    (tmp_path / "damaged" / CLASS_MAPPING).write_text("nonsense\n", encoding="utf-8")
    before = contents(tmp_path / "damaged")
    with pytest.raises(UserError, match="line 1"):
        open_output(tmp_path / "damaged", CLASSES, None)
    assert contents(tmp_path / "damaged") == before


def test_a_data_set_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / DATASET_INFO).write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="holds a prepared data set"):
        open_output(tmp_path, CLASSES, None)
    assert [path.name for path in tmp_path.iterdir()] == [DATASET_INFO]


# ---- a resumed run ---------------------------------------------------------------------------------------------------


def test_a_resumed_run_stays_where_it_is(tmp_path: Path) -> None:
    resumed = leave_run(tmp_path)
    before = contents(tmp_path)
    assert open_output(tmp_path, CLASSES, resumed) == []
    assert contents(tmp_path) == before


def test_a_resumed_run_goes_on_in_another_folder(tmp_path: Path) -> None:
    resumed = leave_run(tmp_path / "old")
    assert open_output(tmp_path / "new", CLASSES, resumed) == []
    assert read_class_mapping(tmp_path / "new" / CLASS_MAPPING) == CLASSES


def leave_best(folder: Path, metric: float, name: str = BEST) -> Checkpoint:
    save_checkpoint(folder / name, {"model": {"w": torch.ones(1)}, "classes": CLASSES, "config": {}, "epoch": 2,
                                    "best_metric": metric})
    return read_checkpoint(folder / name)


def test_the_best_network_comes_along_to_another_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    leave_run(old)
    best, resumed = leave_best(old, 80.0), leave_best(old, 80.0, LATEST)
    before = contents(old)
    assert open_output(new, CLASSES, resumed) == [f"the best network so far comes along from {old}"]
    brought = contents(new)
    assert {*brought} == {BEST, BEST_ALIAS, HUB_CONFIG, WEIGHTS, METRICS, CLASS_MAPPING}
    assert brought[BEST] == best.path.read_bytes()
    assert contents(old) == before
    assert closing_lines(new, "top-1", 80.0, improved=False) == [f"best top-1 80.000; everything is in {new}"]


@pytest.mark.parametrize("best", [85.0, None])
def test_a_best_network_of_another_time_stays_and_is_not_claimed(best: float | None, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    if best:
        leave_best(old, best)
    assert open_output(new, CLASSES, leave_best(old, 80.0, "checkpoint_5.pth")) == []
    assert {*contents(new)} == {CLASS_MAPPING}
    for folder in (old, new):
        line, = closing_lines(folder, "top-1", 80.0, improved=False)
        assert line == ("best top-1 80.000, reached before the resumed checkpoint: these weights are not in "
                        f"{folder}, all else is")


def test_a_calibration_of_earlier_weights_is_named_at_the_end(tmp_path: Path) -> None:
    leave_best(tmp_path, 80.0)
    (tmp_path / CALIBRATION).write_text("{}")
    assert len(closing_lines(tmp_path, "top-1", 80.0, improved=False)) == 1
    stale, line = closing_lines(tmp_path, "top-1", 80.0, improved=True)
    assert stale == f"{tmp_path / CALIBRATION} is of earlier weights: run tools/calibrate.py again"
    assert line.endswith(f"everything is in {tmp_path}")


@pytest.mark.parametrize("name", [WEIGHTS, HUB_CONFIG, CALIBRATION, "checkpoint_5.pth", METRICS])
def test_what_belongs_to_other_weights_never_stays_beside_new_ones(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("old")
    (tmp_path / LOG).write_text("old")
    assert "previous_1/" in open_output(tmp_path, CLASSES, None)[0]
    assert {*contents(tmp_path)} == {f"previous_1/{name}", f"previous_1/{LOG}", CLASS_MAPPING}


def test_a_run_resumed_from_elsewhere_overwrites_no_other(tmp_path: Path) -> None:
    resumed = leave_run(tmp_path / "a", epoch=1)
    leave_run(tmp_path / "b", epoch=9)
    assert "previous_1/" in open_output(tmp_path / "b", CLASSES, resumed)[0]
    assert read_checkpoint(tmp_path / "b" / "previous_1" / LATEST).content["epoch"] == 9
    assert not (tmp_path / "b" / LATEST).exists()


@pytest.mark.parametrize("classes", [["anna", "zoe"], ["anna"], ["anna", "bob", "zoe"], ["bob", "anna"]])
def test_a_resume_with_other_artists_is_refused_and_changes_nothing(classes: list[str], tmp_path: Path) -> None:
    resumed = leave_run(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(UserError, match="the data set, which contradicts"):
        open_output(tmp_path, classes, resumed)
    assert contents(tmp_path) == before


def test_a_resume_beside_a_contradicting_mapping_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    resumed = leave_run(tmp_path)
    write_class_mapping(tmp_path / CLASS_MAPPING, ["bob", "anna"])
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"class_mapping\.csv, which contradicts the data set: class 0"):
        open_output(tmp_path, CLASSES, resumed)
    assert contents(tmp_path) == before


def test_the_flag_finds_its_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoint(RunOptions(output_dir=tmp_path)) is None
    assert find_checkpoint(RunOptions(output_dir=tmp_path, resume="auto")) is None
    leave_run(tmp_path, epoch=7)
    assert find_checkpoint(RunOptions(output_dir=tmp_path)) is None
    assert find_checkpoint(RunOptions(output_dir=tmp_path, resume="auto")).content["epoch"] == 7
    named = RunOptions(output_dir=tmp_path / "elsewhere", resume=str(tmp_path / LATEST))
    assert find_checkpoint(named).content["epoch"] == 7
    with pytest.raises(UserError, match="no file"):
        find_checkpoint(RunOptions(output_dir=tmp_path, resume=str(tmp_path / "nothing.pth")))


def test_a_folder_that_cannot_be_written_is_the_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path))

    monkeypatch.setattr(run_folder, "write_class_mapping", refuse)
    with pytest.raises(UserError, match="cannot be written"):
        run_folder.open_output(tmp_path / "out", ["a", "b"], None)
