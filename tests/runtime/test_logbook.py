"""A run's records: lines, one JSON object per epoch and TensorBoard agree, and a resume drops what it will redo."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from runtime.logbook import LOG, METRICS, Logbook, fitted
from runtime.progress import progress


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(name)]


def write_epochs(folder: Path, *losses: float, first_epoch: int = 0) -> None:
    with Logbook(folder, first_epoch=first_epoch) as logbook:
        for number, loss in enumerate(losses, start=first_epoch + 1):
            logbook.record({"epoch": number, "loss": loss})


def test_a_line_is_on_the_terminal_and_in_the_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("first 齐白石", "second"):
        with Logbook(tmp_path) as logbook:
            logbook.log(text)
    assert capsys.readouterr().out == "first 齐白石\nsecond\n"
    assert (tmp_path / LOG).read_bytes() == "first 齐白石\nsecond\n".encode()


def test_a_line_fits_a_terminal_and_stays_one_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    text = "  three pictures of my-folder/and-a-long-path.png are damaged"
    with Logbook(tmp_path) as logbook:
        logbook.log(text)
    assert capsys.readouterr().out == "  three pictures of\n  my-folder/and-a-long-path.png\n  are damaged\n"
    assert (tmp_path / LOG).read_text() == text + "\n"
    assert fitted("a table\nof two lines") == "a table\nof two lines"


def test_a_file_name_that_is_no_unicode_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Logbook(tmp_path) as logbook:
        monkeypatch.setattr("runtime.logbook.tqdm.write", lambda text, file: None)  # `command` looks after the terminal
        logbook.log(b"left out: a\xff.png".decode("utf-8", errors="surrogateescape"))
    assert (tmp_path / LOG).read_text(encoding="utf-8") == "left out: a\\udcff.png\n"


def test_other_ranks_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Logbook(tmp_path, is_writer=False) as logbook:
        logbook.log("not heard")
        logbook.record({"epoch": 1, "loss": 2.0})
        logbook.bar("epoch", 3).update()
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_without_a_folder_there_is_the_terminal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with Logbook(None) as logbook:
        logbook.log("heard")
        logbook.record({"epoch": 1})
    assert capsys.readouterr().out == "heard\n"
    assert not list(tmp_path.iterdir())


def test_an_epoch_is_one_json_object_and_one_point_per_scalar(tmp_path: Path) -> None:
    write_epochs(tmp_path / "new", 2.5, 1.5)
    assert records(tmp_path / "new") == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 1.5}]
    assert scalars(tmp_path / "new", "training/loss") == [(1, 2.5), (2, 1.5)]


def test_a_figure_that_is_not_finite_is_null(tmp_path: Path) -> None:
    write_epochs(tmp_path, float("nan"), float("inf"), 1.0)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / METRICS).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line, parse_constant=refuse)["loss"] for line in lines] == [None, None, 1.0]


def test_a_resume_drops_the_epochs_it_redoes(tmp_path: Path) -> None:
    write_epochs(tmp_path, 3.0, 2.0, 1.0)
    write_epochs(tmp_path, 2.25, first_epoch=1)
    assert records(tmp_path) == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.25}]
    assert scalars(tmp_path, "training/loss") == [(1, 3.0), (2, 2.25)]


@pytest.mark.parametrize("half", ['{"epoch": 2, "lo', '{"epoch": 2, "loss": 2.0}', "\0\0\0"])
def test_half_a_last_line_is_dropped(half: str, tmp_path: Path) -> None:
    write_epochs(tmp_path, 3.0)
    with open(tmp_path / METRICS, "a", encoding="utf-8") as metrics:
        metrics.write(half)  # a kill in the middle of writing
    write_epochs(tmp_path, 2.5, first_epoch=1)
    assert records(tmp_path) == [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": 2.5}]


def test_a_new_run_starts_afresh(tmp_path: Path) -> None:
    write_epochs(tmp_path, 3.0, 2.0)
    write_epochs(tmp_path, 9.0)
    assert records(tmp_path) == [{"epoch": 1, "loss": 9.0}]


def test_pictures_are_on_the_board(tmp_path: Path) -> None:
    with Logbook(tmp_path) as logbook:
        logbook.show_images("first batch", 7 * torch.randn(20, 3, 8, 8))
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    event, = board.Images("first batch")
    assert (event.width, event.height) == (4 * 10 + 2, 4 * 10 + 2)  # sixteen of them, in frames of 2 px


@pytest.mark.parametrize(("speaks", "terminal", "told"), [(True, False, "update 50\n"), (True, True, ""),
                                                          (False, False, "")])
def test_a_line_stands_in_for_the_bar_off_terminals(speaks: bool, terminal: bool, told: str, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    Logbook(None, is_writer=speaks).log_off_terminal("update 50")
    assert capsys.readouterr().out == told


def test_no_bar_where_nobody_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Logbook(tmp_path) as logbook, logbook.bar("epoch", 3, 1) as bar:
        bar.update()
        bar.set_postfix_str("loss 1")
    assert list(progress(iter("abc"), 3)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
