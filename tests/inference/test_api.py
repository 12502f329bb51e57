"""The three lines for Python give what the commands write, from runs, exported folders and names on the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inference.api import load
from inference_artist import main as infer
from predict_artist_multilabel import main as predict
from tests.hub_cache import fill_repository, use_hub_cache
from tests.small_runs import CLASSES, write_run
from utils import UserError


@pytest.fixture(scope="module")
def pictures(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of other kinds than the network sees: turned, transparent, grey, and a JPEG."""
    folder = tmp_path_factory.mktemp("pictures")
    source = sorted((data_set / "val").rglob("*.png"))
    wide = Image.open(source[0]).resize((90, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide.save(folder / "a.jpg", exif=exif)
    wide.convert("LA").save(folder / "b.png")
    wide.convert("P").save(folder / "c.gif")
    for number, path in enumerate(source[1:5]):
        shutil.copyfile(path, folder / f"d{number}.png")
    (folder / "e.png").write_bytes(b"no picture")
    return sorted(folder.iterdir())


def test_it_answers_as_the_command_does(calibrated: Path, pictures: list[Path], tmp_path: Path) -> None:
    assert infer(["--checkpoint", str(calibrated), "--input", str(pictures[0].parent), "--output", str(tmp_path),
                  "--mode", "both", "--batch-size", "3"]) == 3
    expected = json.loads((tmp_path / "batch_results.json").read_text())
    artist = load(str(calibrated), batch_size=3)
    assert artist.classes == CLASSES
    records = artist.predict(pictures)
    assert records == [{key: value for key, value in expected[path.name].items() if key != "features"}
                       for path in pictures]
    assert "verdict" in records[0]
    assert records[-1]["error"]
    np.testing.assert_array_equal(artist.features(pictures[:-1]), np.load(tmp_path / "features.npy"))


def test_images_of_pillow_are_their_files(calibrated: Path, pictures: list[Path], tmp_path: Path) -> None:
    artist = load(calibrated, calibration=False)
    readable = pictures[:-1]
    opened = [Image.open(path) for path in readable]
    assert artist.predict([*opened[:2], *readable[2:]]) == artist.predict(readable)
    assert "verdict" not in artist.predict(readable)[0]
    same = Image.open(pictures[0])
    assert len({str(record) for record in artist.predict([same] * 5, top_k=1)}) == 1
    torn = tmp_path / "torn.jpg"
    torn.write_bytes(pictures[0].read_bytes()[:-400])
    failed, good = artist.predict([Image.open(torn), readable[0]])
    assert failed["error"].startswith("cannot be read")
    assert good == artist.predict(readable[:1] * 2)[0]


def test_an_exported_folder_and_a_hub_name(calibrated: Path, exported: Path, pictures: list[Path], tmp_path: Path,
                                           monkeypatch) -> None:
    fill_repository(tmp_path / "cache", "someone/artists", calibrated)
    use_hub_cache(monkeypatch, tmp_path / "cache")
    run, hub, export = (load(source) for source in (calibrated, "hf-hub:someone/artists", exported))
    assert hub.predict(pictures) == run.predict(pictures)
    for found, expected in zip(export.predict(pictures[:-1]), run.predict(pictures[:-1]), strict=True):
        assert [each["class_name"] for each in found["classification"]] == [
            each["class_name"] for each in expected["classification"]]
        assert found["verdict"] == expected["verdict"]
    np.testing.assert_allclose(export.features(pictures[:-1]), run.features(pictures[:-1]), rtol=1e-3, atol=1e-4)


def test_several_labels(pictures: list[Path], tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "multilabel")
    assert predict(["--checkpoint", str(run), "--inputs", *map(str, pictures), "--output",
                    str(tmp_path / "labels.json"), "--normalize-ratio", "--top-k", "2", "--threshold", "0.1"]) == 3
    expected = [{key: value for key, value in record.items() if key != "image"}
                for record in json.loads((tmp_path / "labels.json").read_text())]
    found = load(run, feature_kind="pooled").predict(pictures, top_k=2, threshold=0.1)
    assert found == expected


def test_what_cannot_be_is_said(calibrated: Path, pictures: list[Path], tmp_path: Path) -> None:
    artist = load(calibrated)
    with pytest.raises(UserError, match=r"e\.png, which has no features"):
        artist.features(pictures)
    with pytest.raises(UserError, match="no file"):
        load(tmp_path)
    with pytest.raises(TypeError, match="a list of pictures"):
        artist.predict(str(pictures[0]))
    assert artist.predict([]) == []
    assert artist.features([]).shape == (0, artist.features(pictures[:1]).shape[1])
