"""The sheet of predictions counts what is right, shows a share of the pictures and survives one that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from runtime import showcase
from runtime.plots import Tile
from runtime.predictor import Failure, Result
from runtime.showcase import MOST, Showcase

CLASSES = ("anna", "bob")


def answer(path: Path, best: int) -> Result:
    """A picture on disk, and a prediction of class `best` with probability 0.8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (600, 300), "red").save(path)
    return Result(path, torch.zeros(2), torch.tensor([0.2, 0.2]).index_fill(0, torch.tensor(best), 0.8).log(), CLASSES)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[Tile], str]]:
    """The tiles and the title of each sheet, which is drawn by another module."""
    drawn: list[tuple[list[Tile], str]] = []
    monkeypatch.setattr(showcase, "contact_sheet", lambda tiles, path, title: drawn.append((tiles, title)))
    return drawn


def test_right_and_judged_are_counted_and_answers_pass(tmp_path: Path, sheets: list) -> None:
    answers = [answer(tmp_path / "anna" / "1.png", 0), answer(tmp_path / "anna" / "2.png", 1),
               Failure(tmp_path / "bob" / "1.png", "truncated"), answer(tmp_path / "bob" / "2.png", 1),
               answer(tmp_path / "unknown" / "1.png", 1)]
    watched = Showcase(len(answers))
    assert list(watched.watch(iter(answers))) == answers
    assert (watched.right, watched.judged) == (2, 3)
    watched.write(tmp_path / "sheet.png")
    (tiles, title), = sheets
    assert title == "2 of 3 right"
    assert [tile.good for tile in tiles] == [True, False, True, None]
    assert [tile.caption for tile in tiles] == ["80% anna", "80% bob\n(is anna)", "80% bob", "80% bob"]
    assert {tile.image.size for tile in tiles} == {(256, 128)}


def test_without_the_truth_pictures_are_counted(tmp_path: Path, sheets: list) -> None:
    watched = Showcase(1)
    list(watched.watch([answer(tmp_path / "new" / "1.png", 0)]))
    watched.write(tmp_path / "sheet.png")
    assert sheets[0][1] == "1 pictures"


@pytest.mark.parametrize("total", [1, MOST, MOST + 1, 2 * MOST, 5 * MOST + 3])
def test_pictures_from_all_over_the_folder_are_shown(total: int, tmp_path: Path) -> None:
    one = answer(tmp_path / "anna" / "1.png", 0)
    watched = Showcase(total)
    list(watched.watch([one] * total))
    assert len(watched.kept) == total if total <= MOST else MOST / 2 < len(watched.kept) <= MOST
    assert watched.judged == total
    assert watched.every * len(watched.kept) >= total


def test_nothing_readable_draws_nothing(tmp_path: Path, sheets: list) -> None:
    watched = Showcase(1)
    list(watched.watch([Failure(tmp_path / "1.png", "truncated")]))
    watched.write(tmp_path / "sheet.png")
    assert not sheets


def test_a_picture_that_is_gone_by_now_is_left_out(tmp_path: Path, sheets: list) -> None:
    answers = [answer(tmp_path / "anna" / f"{number}.png", 0) for number in range(3)]
    watched = Showcase(3)
    list(watched.watch(answers))
    answers[1].path.unlink()
    watched.write(tmp_path / "sheet.png")
    assert len(sheets[0][0]) == 2


def test_the_sheet_is_drawn(tmp_path: Path) -> None:
    watched = Showcase(1)
    list(watched.watch([answer(tmp_path / "anna" / "1.png", 0)]))
    watched.write(tmp_path / "out" / "sheet.png")
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
