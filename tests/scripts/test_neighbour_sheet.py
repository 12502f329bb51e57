"""inference_artist.py --mode search --neighbour-sheet: pictures beside their nearest of a gallery, also a moved one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from drawing.contact_sheet import GAP, SIDE
from inference_artist import main
from tools.build_gallery import main as build


def run(trained: Path, source: Path, output: Path, *more: object, mode: str = "search") -> int:
    return main(["--mode", mode, "--checkpoint", str(trained / "model_best.pth"), "--input", str(source), "--output",
                 str(output), "--workers", "0", *map(str, more)])


def test_a_sheet_of_a_folder_and_of_one_picture(trained: Path, data_set: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(data_set / "val", moved)
    assert build(["--images-dir", str(moved), "--checkpoint", str(trained / "model_best.pth"), "--gallery",
                  str(tmp_path / "gallery"), "--workers", "0"]) == 0
    (moved / "artist_0" / "val_0.png").unlink()
    drawn = []
    monkeypatch.setattr("drawing.contact_sheet._draw_picture", lambda sheet, draw, tile, *where: drawn.append(tile))
    flags = ["--gallery", tmp_path / "gallery", "--neighbour-sheet", moved, "--top-k", 2]
    assert run(trained, data_set / "val", tmp_path / "out", *flags) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["batch_results.json", "neighbours.png"]
    with Image.open(tmp_path / "out" / "neighbours.png") as sheet:
        assert sheet.width == max(640, GAP + 3 * (SIDE + GAP))
    assert len(drawn) == 3 * 12
    for query, nearest in zip(drawn[::3], drawn[1::3], strict=True):
        assert nearest.file == query.file
        assert nearest.caption.startswith("1.00 artist_")
        assert nearest.picture == (None if query.file == "artist_0/val_0.png" else moved / query.file)
    drawn.clear()
    assert run(trained, data_set / "val" / "artist_1" / "val_2.png", tmp_path / "one", *flags) == 0
    assert (tmp_path / "one" / "val_2_result.png").is_file()
    assert [tile.file for tile in drawn][:2] == ["val_2.png", "artist_1/val_2.png"]


@pytest.mark.parametrize(("mode", "flags", "told"), [
    ("classify", ["--neighbour-sheet", "."], "--neighbour-sheet with --mode classify"),
    ("search", ["--gallery", "g", "--neighbour-sheet", "nowhere"], "no folder nowhere"),
    ("search", ["--gallery", "g", "--neighbour-sheet", ".", "--shard", "1/2"], "--neighbour-sheet with --shard")])
def test_what_does_not_go_together_is_refused(trained: Path, data_set: Path, tmp_path: Path, mode: str,
                                              flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, data_set / "val", tmp_path / "out", *flags, mode=mode) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
