"""inference_artist.py --mode search, as users run it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from inference_artist import main
from tools.build_gallery import main as build


@pytest.fixture(scope="module")
def gallery(trained: Path, data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    gallery = tmp_path_factory.mktemp("searched") / "gallery"
    assert build(["--images-dir", str(data_set / "val"), "--checkpoint", str(trained / "model_best.pth"), "--gallery",
                  str(gallery), "--workers", "0"]) == 0
    return gallery


def search(trained: Path, source: Path, output: Path, *more: object) -> int:
    return main(["--mode", "search", "--checkpoint", str(trained / "model_best.pth"), "--input", str(source),
                 "--output", str(output), "--workers", "0", *map(str, more)])


def test_every_picture_of_the_gallery_finds_itself(gallery: Path, trained: Path, data_set: Path, tmp_path: Path,
                                                   run_script) -> None:
    folder = tmp_path / "val"
    shutil.copytree(data_set / "val", folder)
    (folder / "artist_1" / "broken.png").write_bytes(b"")
    done = run_script("inference_artist.py", "--mode", "search", "--gallery", gallery, "--checkpoint",
                      trained / "model_best.pth", "--input", folder, "--output", tmp_path / "out", "--top-k", 2)
    assert done.returncode == 3, done.stderr
    records = json.loads((tmp_path / "out" / "batch_results.json").read_text(encoding="utf-8"))
    assert list(records.pop("artist_1/broken.png")) == ["error"]
    for name, record in records.items():
        assert list(record) == ["pictures", "artists_by_neighbours", "artists_by_mean"]
        assert record["pictures"][0]["image"] == name
        assert record["pictures"][0]["cosine_similarity"] == pytest.approx(1, abs=1e-5)
        assert [len(found) for found in record.values()] == [2, 2, 2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["batch_results.json"]


def test_one_picture_is_told_and_fewer_neighbours_vote(gallery: Path, trained: Path, data_set: Path, tmp_path: Path,
                                                       capsys) -> None:
    assert search(trained, data_set / "val" / "artist_2" / "val_3.png", tmp_path, "--gallery", gallery,
                  "--neighbours", 1) == 0
    found = json.loads((tmp_path / "val_3_result.json").read_text(encoding="utf-8"))
    assert found["artists_by_neighbours"] == [{"artist": "artist_2", "share": 1.0}]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "100.00%  artist_2, by neighbours"
    assert sum(line.endswith(", by mean") for line in lines) == 3
    assert " 1.0000  artist_2/val_3.png" in lines


@pytest.mark.parametrize(("flags", "told"), [
    ([], "--mode search without --gallery"),
    (["--mode", "both", "--gallery", "{gallery}"], "--mode both with --gallery"),
    (["--gallery", "{trained}"], "expected a gallery that tools/build_gallery.py made"),
    (["--gallery", "{gallery}", "--checkpoint", "{trained}/checkpoint.pth"], "built with another network"),
])
def test_what_does_not_go_together_is_refused(gallery: Path, trained: Path, data_set: Path, tmp_path: Path, capsys,
                                              flags: list[str], told: str) -> None:
    assert search(trained, data_set / "val", tmp_path / "out",
                  *(flag.format(gallery=gallery, trained=trained) for flag in flags)) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert told in found
    assert not (tmp_path / "out").exists()
