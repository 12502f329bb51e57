"""A gallery as users build, change and export it."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inference_artist import main as infer
from search.vectors import read_vectors
from tests.conftest import Completed
from tools.build_gallery import main


def sizes(gallery: Path) -> dict[str, int]:
    about = json.loads((gallery / "gallery.json").read_text(encoding="utf-8"))
    return {each["artist"]: each["pictures"] for each in about["artists"]}


@pytest.fixture(scope="module")
def built(trained: Path, data_set: Path, run_script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    gallery = tmp_path_factory.mktemp("built") / "gallery"
    done = run_script("tools/build_gallery.py", "--images-dir", data_set / "val", "--checkpoint",
                      trained / "model_best.pth", "--gallery", gallery)
    assert done.returncode == 0, done.stderr
    assert "12 pictures by 3 artists" in done.stdout
    return gallery


def change(gallery: Path, trained: Path, *more: object) -> int:
    return main(["--gallery", str(gallery), "--checkpoint", str(trained / "model.safetensors"), "--workers", "0",
                 *map(str, more)])


def test_an_artist_comes_and_goes_and_the_rest_stays(built: Path, trained: Path, data_set: Path,
                                                     tmp_path: Path) -> None:
    gallery, artist = tmp_path / "gallery", tmp_path / "New Artist"
    shutil.copytree(built, gallery)
    shutil.copytree(data_set / "train" / "artist_1", artist)
    before = read_vectors([gallery])
    assert change(gallery, trained, "--add", artist) == 0
    assert sizes(gallery) == {"New Artist": 8, "artist_0": 4, "artist_1": 4, "artist_2": 4}
    assert change(gallery, trained, "--add", artist) == 0  # again: the same pictures
    assert sizes(gallery)["New Artist"] == 8
    assert main(["--gallery", str(gallery), "--remove", "New Artist"]) == 0
    after = read_vectors([gallery])
    assert after.names == before.names
    np.testing.assert_array_equal(after.rows, before.rows)


def test_a_damaged_picture_is_listed_and_left_out(built: Path, trained: Path, data_set: Path, tmp_path: Path,
                                                  capsys) -> None:
    gallery = tmp_path / "gallery"
    shutil.copytree(built, gallery)
    shutil.copytree(data_set / "val" / "artist_0", tmp_path / "more" / "Z")
    (tmp_path / "more" / "Z" / "bad.png").write_bytes(b"")
    assert change(gallery, trained, "--add", tmp_path / "more") == 3
    assert "bad.png" in capsys.readouterr().err
    assert sizes(gallery)["Z"] == 4


def test_a_loose_picture_beside_artists_is_named_and_left_out(built: Path, trained: Path, data_set: Path,
                                                              tmp_path: Path, capsys) -> None:
    folder, picture = tmp_path / "mine", data_set / "val" / "artist_0" / "val_0.png"
    shutil.copytree(data_set / "val" / "artist_0", folder / "A")
    shutil.copytree(data_set / "val" / "artist_1", folder / "B" / "late")
    shutil.copyfile(picture, folder / "loose.png")
    assert change(tmp_path / "new", trained, "--images-dir", folder) == 0
    assert "passed over: 1 (a picture in no artist's folder): loose.png" in capsys.readouterr().out
    assert sizes(tmp_path / "new") == {"A": 4, "B": 4}
    gallery = shutil.copytree(built, tmp_path / "gallery")
    assert change(gallery, trained, "--add", folder, "--exclude", "late") == 0
    assert sizes(gallery) == {"A": 4, "artist_0": 4, "artist_1": 4, "artist_2": 4}
    assert change(tmp_path / "one", trained, "--images-dir", folder / "A") == 0
    assert sizes(tmp_path / "one") == {"A": 4}


def test_an_export_never_lands_among_other_files(built: Path, tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "picture.jpg").touch()
    for folder in (built, tmp_path):
        before = sorted(folder.iterdir())
        assert main(["--gallery", str(built), "--export", str(folder)]) == 2
        assert capsys.readouterr().err == (
            f"build_gallery.py: found other files in {folder}; expected a new or empty folder, or that of an earlier "
            "export; name another folder for --export\n")
        assert sorted(folder.iterdir()) == before


def test_an_export_is_made_without_the_model(built: Path, tmp_path: Path) -> None:
    assert main(["--gallery", str(built), "--export", str(tmp_path)]) == 0
    assert np.load(tmp_path / "vectors.npy").shape == (12, 256)
    assert len((tmp_path / "vectors.csv").read_text(encoding="utf-8").splitlines()) == 13


@pytest.mark.parametrize(("flags", "told"), [
    ([], "0 of --images-dir, --add, --remove, --list, --export, --copy-to and --copy-from"),
    (["--remove", "artist_0", "--export", "x"], "2 of --images-dir"),
    (["--remove", "artist_9"], "no artist 'artist_9'"), (["--remove", ""], '--remove ""'),
    (["--images-dir", "{data}/val"], "no --checkpoint"),
    (["--add", "{data}/val", "--checkpoint", "{trained}/checkpoint.pth"], "built with another network"),
])
def test_what_cannot_be_done_changes_nothing(built: Path, trained: Path, data_set: Path, capsys, flags: list[str],
                                             told: str) -> None:
    before = (built / "gallery.json").read_bytes()
    assert main(["--gallery", str(built), *(flag.format(data=data_set, trained=trained) for flag in flags)]) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert told in found
    assert (built / "gallery.json").read_bytes() == before


def test_a_calibrated_gallery_gives_verdicts_until_it_changes(trained: Path, data_set: Path, tmp_path: Path, run_script,
                                                              capsys) -> None:
    gallery, network = tmp_path / "gallery", ("--checkpoint", trained / "model_best.pth", "--workers", 0)
    done = run_script("tools/build_gallery.py", "--images-dir", data_set / "train", "--gallery", gallery, *network,
                      "--calibrate", "--error-rate", 0.2)
    assert done.returncode == 0, done.stderr
    assert "24 pictures left out in turn" in done.stdout
    assert "unknown artists are told by" in done.stdout

    def search(*more: object) -> list[str | None]:
        arguments = ["--mode", "search", "--gallery", gallery, "--input", data_set / "val", "--output"]
        assert infer([*map(str, [*arguments, tmp_path / "out", *network, *more])]) == 0
        records = json.loads((tmp_path / "out" / "batch_results.json").read_text())
        return [record.get("verdict") for record in records.values()]

    verdicts = search()
    assert {*verdicts} <= {"confident", "possible", "unknown"}
    told = capsys.readouterr().out
    assert ", ".join(f"{verdicts.count(name)} {name}" for name in ("confident", "possible", "unknown")) in told
    assert search("--no-calibration", "--neighbours", 3) == [None] * 12
    assert change(gallery, trained, "--add", data_set / "val" / "artist_1") == 0
    assert "no verdicts until --calibrate" in capsys.readouterr().out
    assert search() == [None] * 12
    assert main(["--gallery", str(gallery), "--calibrate"]) == 0
    assert "28 pictures left out in turn" in capsys.readouterr().out
    assert None not in search()
    assert change(gallery, trained, "--remove", "artist_1", "--calibrate") == 2
    assert "2 artists of two pictures" in capsys.readouterr().err
    assert sizes(gallery)["artist_1"] == 12


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--list", "--error-rate", "0.1"], "--error-rate without --calibrate"),
    (["--list", "--calibrate"], "--list with --calibrate"),
    (["--export", "x", "--calibrate"], "--calibrate with --export"),
    (["--calibrate", "--score", "style"], "--score style for a gallery of pooled features"),
    (["--calibrate", "--error-rate", "1"], "--error-rate 1"), (["--calibrate", "--score", "energy"], "energy")])
def test_flags_of_a_calibration_that_fit_nothing(built: Path, capsys, arguments: list[str], expected: str) -> None:
    before = sorted(built.iterdir())
    assert main(["--gallery", str(built), *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert sorted(built.iterdir()) == before


@pytest.mark.skipif(not (importlib.util.find_spec("pymilvus") and importlib.util.find_spec("milvus_lite")),
                    reason="the packages of requirements-milvus.txt are not installed")
def test_a_gallery_in_milvus_is_searched_as_the_folder(built: Path, trained: Path, data_set: Path, tmp_path: Path,
                                                       run_script: Callable[..., Completed]) -> None:
    """Only other processes open Milvus: threads of gRPC outlive it and disturb pytest's capture."""
    tool, place = "tools/build_gallery.py", f"milvus:{tmp_path / 'galleries.db'}"
    for arguments in (("--gallery", built, "--copy-to", place),
                      ("--gallery", place, "--checkpoint", trained / "model.safetensors", "--workers", 0,
                       "--add", data_set / "train" / "artist_1"),
                      ("--gallery", place, "--copy-to", tmp_path / "copy")):
        done = run_script(tool, *arguments)
        assert done.returncode == 0, done.stderr
    found = []
    for gallery, more in ((place, ()), (place, ("--exact",)), (tmp_path / "copy", ())):
        done = run_script("inference_artist.py", "--mode", "search", "--gallery", gallery, "--input", data_set / "val",
                          "--output", tmp_path / "out", "--checkpoint", trained, "--workers", 0, *more)
        assert done.returncode == 0, done.stderr
        records = json.loads((tmp_path / "out" / "batch_results.json").read_text(encoding="utf-8"))
        found.append({name: [(key, near.get("image"), near["artist"]) for key in record for near in record[key]]
                      for name, record in records.items()})
    assert found[0] == found[1] == found[2]
    done = run_script(tool, "--gallery", place, "--copy-from", place)
    assert (done.returncode, done.stderr.count("onto itself")) == (2, 1)
