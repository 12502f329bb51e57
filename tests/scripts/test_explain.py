"""--explain of both inference commands: a sheet per picture, arrays that agree, and one line where it cannot be."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawing.class_maps import SIDE
from drawing.contact_sheet import GAP
from inference.explanations import ClassMaps, check_explained
from inference.predictor import Predictor
from inference_artist import main
from predict_artist_multilabel import main as predict
from runtime.options import ExplainOptions, InferenceOptions
from tools.build_gallery import main as build
from utils import UserError


def run(trained: Path, source: Path, output: Path, *more: object, mode: str = "classify") -> int:
    return main(["--mode", mode, "--checkpoint", str(trained / "model_best.pth"), "--input", str(source), "--output",
                 str(output), "--workers", "0", *map(str, more)])


def test_a_folder_gets_a_sheet_and_arrays_of_each_picture_whatever_the_batch_size(
        trained: Path, data_set: Path, tmp_path: Path, run_script) -> None:
    flags = ["--explain-artist", "top3", "--explain-arrays", "--explain-grid"]
    assert run(trained, data_set / "val", tmp_path / "a", "--explain", tmp_path / "maps", *flags) == 0
    done = run_script("inference_artist.py", "--checkpoint", trained / "model_best.pth", "--input", data_set / "val",
                      "--output", tmp_path / "b", "--batch-size", 1, "--explain", tmp_path / "again", *flags)
    assert done.returncode == 0, done.stderr
    sheets = sorted(path.relative_to(tmp_path / "maps") for path in (tmp_path / "maps").rglob("*.png"))
    assert [*map(str, sheets)] == sorted(f"artist_{artist}/val_{number}.png.png" for artist in range(3)
                                         for number in range(4))
    with Image.open(tmp_path / "maps" / sheets[0]) as sheet:
        assert sheet.width == GAP + 6 * (SIDE + GAP)
    for name in sheets:
        first, second = (np.load(tmp_path / folder / name.with_suffix(".npz")) for folder in ("maps", "again"))
        assert all(np.array_equal(first[key], second[key]) for key in first.files)
        assert first["maps"].shape == (3, 8, 8)  # of 32 px, at stride 4
        assert first["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        assert sorted(first["artists"]) == ["artist_0", "artist_1", "artist_2"]


def test_a_picture_smaller_than_a_tile_has_a_map_and_a_line(trained: Path, tmp_path: Path,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (20, 40)).save(tmp_path / "small.png")
    assert run(trained, tmp_path / "small.png", tmp_path / "out", "--explain", tmp_path / "maps",
               "--explain-grid") == 3
    assert (tmp_path / "maps" / "small.png.png").is_file()
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "20x40 px, smaller than a tile of 32 px" in error
    assert "leave --explain-grid away" in error


def test_a_gallery_draws_what_is_alike_beside_the_neighbour(trained: Path, data_set: Path, tmp_path: Path) -> None:
    assert build(["--images-dir", str(data_set / "train"), "--checkpoint", str(trained / "model_best.pth"),
                  "--gallery", str(tmp_path / "gallery"), "--workers", "0"]) == 0
    query = data_set / "val" / "artist_1" / "val_2.png"
    assert run(trained, query, tmp_path / "out", "--gallery", tmp_path / "gallery", "--neighbour-sheet",
               data_set / "train", "--explain", tmp_path / "maps", "--explain-arrays", mode="search") == 0
    with Image.open(tmp_path / "maps" / "val_2.png.png") as sheet:
        assert sheet.width == GAP + 4 * (SIDE + GAP)
    arrays = np.load(tmp_path / "maps" / "val_2.png.npz")
    assert arrays["maps"].shape[0] == 2
    assert arrays["pictures"][0] == "val_2.png"


def test_a_network_of_several_labels_is_explained_by_its_own_command(
        trained: Path, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "check_task", lambda *_: None)  # a network of one artist serves as well
    assert predict(["--checkpoint", str(trained / "model_best.pth"), "--inputs", str(data_set / "val"), "--recursive",
                    "--output", str(tmp_path / "labels.json"), "--workers", "0", "--explain", str(tmp_path / "maps"),
                    "--explain-artist", "artist_1"]) == 0
    assert len([*(tmp_path / "maps").rglob("*.png")]) == 12


@pytest.mark.parametrize(("flags", "mode", "told"), [
    (["--explain-grid"], "classify", "--explain-grid without --explain"),
    (["--explain", "maps", "--explain-artist", "artist_l"], "classify", "such as artist_"),
    (["--explain", "maps"], "cluster", "--explain with --mode cluster"),
    (["--explain", "maps", "--gallery", "g"], "search", "add --neighbour-sheet"),
    (["--explain", "maps", "--gallery", "g", "--neighbour-sheet", ".", "--explain-grid"], "search",
     "leave --explain-grid away")])
def test_what_cannot_be_is_one_line(trained: Path, data_set: Path, tmp_path: Path, flags: list[str], mode: str,
                                    told: str, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(trained, data_set / "val", tmp_path / "out", *flags, mode=mode) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not (tmp_path / "maps").exists()


def test_sheets_inside_the_input_are_refused(trained: Path, data_set: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, data_set / "val", tmp_path / "out", "--explain", data_set / "val" / "maps") == 2
    assert "choose another output folder" in capsys.readouterr().err


def test_an_exported_network_is_told_what_works_instead() -> None:
    exported: Any = SimpleNamespace(source=Path("my_export/model.onnx"))  # no module of torch
    with pytest.raises(UserError, match=r"my_export/model.onnx.*give the checkpoint"):
        check_explained(exported)


def test_three_hundred_artists_and_a_misspelt_name_are_told_shortly(trained: Path) -> None:
    predictor = Predictor.from_checkpoint(trained / "model_best.pth")
    predictor.classes = [f"artist_{number}" for number in range(300)]
    with pytest.raises(UserError) as told:
        ClassMaps(predictor, ExplainOptions(explain=Path("maps"), explain_artist="artist_2x7"), InferenceOptions())
    assert "artist_2x7" in str(told.value)
    assert len(str(told.value)) < 250
