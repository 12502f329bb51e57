"""The benchmark of class maps runs as documented, and a true map beats a wrong one on its collages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bench import class_maps
from bench.class_maps import Collages, find_artists, measure_curves, shuffle_weights
from inference.predictor import Predictor
from tests.pictures import list_images
from tools.bench_class_maps import main


@pytest.mark.parametrize(("task", "following"), [
    ("classification", "inference_artist.py --checkpoint"),
    ("multilabel", "predict_artist_multilabel.py --checkpoint")])
def test_four_artists_are_measured(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str,
                                   following: str, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor.from_checkpoint(trained / "model_best.pth")
    predictor.classes, predictor.task = ["a", "b", "c", "d"], task
    for name in predictor.classes:
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.effect_noise((40, 40), 50).convert("RGB").save(tmp_path / "val" / name / "1.png")
    run = predictor.run
    monkeypatch.setattr(predictor, "run", lambda pixels: (run(pixels)[0], run(pixels)[1][:, [0, 1, 2, 2]]))
    monkeypatch.setattr(class_maps, "map_pictures", lambda predictor, squares, ids, network=None: torch.rand(
        len(squares), 1, 4, 4, generator=torch.Generator().manual_seed(1)))
    monkeypatch.setattr("inference.predictor.Predictor.from_options", lambda options: predictor)
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--data-path", str(tmp_path), "--cases", "4",
                 "--grids", "2", "--pictures", "2", "--rounds", "1", "--workers", "0", "--json",
                 str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert {"halves", "quarters", "inset", "grid", "deletion", "random_insertion", "correlation"} <= figures.keys()
    out = capsys.readouterr().out
    assert "with sheets" in out
    assert following in out


def test_a_map_of_the_part_itself_is_always_right_and_of_all_but_it_never(
        trained: Path, data_set: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.from_checkpoint(trained / "model_best.pth")
    whose = {number: list_images(data_set / "val" / f"artist_{number}") for number in range(3)}
    plain = {number: Image.new("RGB", (32, 32), (60 * number + 60,) * 3) for number in whose}
    monkeypatch.setattr(class_maps, "decode_image", lambda path: plain[int(path.parent.name[-1])])
    for sign, expected in ((1, 1.0), (-1, 0.0)):
        monkeypatch.setattr(class_maps, "map_pictures", lambda predictor, squares, ids, sign=sign: torch.stack([
            sign * (torch.from_numpy(np.asarray(each)[:, :, 0].copy()) == 60 * int(number) + 60).float()[None]
            for each, number in zip(squares, ids, strict=True)]))
        for kind in ("halves", "inset"):
            assert find_artists(predictor, Collages(predictor, whose), kind, 12, 1) == expected


def test_curves_of_a_network_that_looks_at_nothing_are_flat(trained: Path, data_set: Path) -> None:
    predictor = Predictor.from_checkpoint(trained / "model_best.pth")
    with torch.no_grad():
        predictor.network.classifier.weight.zero_()
    curves = measure_curves(predictor, list_images(data_set / "val")[:2], 1)
    assert curves.deletion == pytest.approx(curves.random_insertion)
    other = shuffle_weights(predictor.network, torch.Generator().manual_seed(0))
    assert all(torch.equal(one.flatten().sort().values, two.flatten().sort().values) for one, two in
               zip(predictor.network.parameters(), other.parameters(), strict=True))


def test_too_few_artists_are_told(trained: Path, data_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--checkpoint", str(trained / "model_best.pth"), "--data-path", str(data_set)]) == 2
    assert "3 of the network's artists; expected four" in capsys.readouterr().err
