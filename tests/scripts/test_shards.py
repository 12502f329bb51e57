"""A data set as WebDataset shards: prepared, trained on, evaluated and inferred with the figures of folders."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import inference_artist
import prepare_dataset
import tools.calibrate
import train_artist_style
from tests.conftest import MODEL
from tests.forked import start_ranks
from tests.pictures import list_images, stroke_picture
from tests.small_runs import write_run

Completed = subprocess.CompletedProcess[str]
ARTISTS = ("Anna", "J. B", "葛飾 北斎")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `raw`, pictures of three artists, and the same data set in `folders` and in `shards`."""
    base, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    for number, artist in enumerate(ARTISTS):
        folder = base / "raw" / artist / "early"
        folder.mkdir(parents=True)
        for picture in range(10):
            name = (f"{picture}.PNG", f"{picture}.v{number}.png")[picture % 2]
            stroke_picture(np.pi * number / 3, rng).save((folder if picture % 3 else folder.parent) / name, "PNG")
    for output, flags in (("folders", []), ("shards", ["--format", "webdataset", "--shard-size", "5"])):
        assert prepare_dataset.main(["--source-dir", str(base / "raw"), "--output-dir", str(base / output), "--workers",
                                     "0", "--no-near-duplicates", *flags]) == 0
    return base


def samples(folder: Path) -> dict[str, bytes]:
    """Path in the tar → content, of all shards in a folder, in order."""
    found = {}
    for path in sorted(folder.iterdir()):
        with tarfile.open(path) as tar:
            found |= {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]  # files
    return found


@pytest.mark.parametrize("side", ["train", "val"])
def test_shards_hold_the_bytes_and_the_order_of_the_folders(folders: Path, side: str) -> None:
    found, root = samples(folders / "shards" / side), folders / "folders" / side
    about = [json.loads(content) for name, content in found.items() if name.endswith(".json")]
    assert [each["file"] for each in about] == [path.relative_to(root).as_posix() for path in list_images(root)]
    for place, each in enumerate(about):
        picture, label, _ = list(found)[3 * place:3 * place + 3]
        assert found[picture] == (root / each["file"]).read_bytes() == (folders / "raw" / each["source"]).read_bytes()
        assert int(found[label]) == each["class_id"] == ARTISTS.index(each["artist"])
    shards = sorted(path.name for path in (folders / "shards" / side).iterdir())
    assert shards == [f"shard-{number:06}.tar" for number in range(-(-len(about) // 5))]


def test_the_same_split_is_noted_and_the_same_bytes_are_written_again(folders: Path, tmp_path: Path,
                                                                    run_script: Callable[..., Completed]) -> None:
    sides = [[line.split("\t")[:2] for line in (folders / form / "split_info.txt").read_text(
        encoding="utf-8").splitlines()] for form in ("folders", "shards")]
    assert sorted(sides[0]) == sorted(sides[1])
    done = run_script("prepare_dataset.py", "--source-dir", folders / "raw", "--output-dir", tmp_path / "again",
                      "--format", "webdataset", "--shard-size", 5, "--no-near-duplicates")
    assert (done.returncode, done.stderr) == (0, "")
    for path in (folders / "shards").glob("*/*.tar"):
        other = tmp_path / "again" / path.parent.name / path.name
        assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def test_webdataset_reads_them(folders: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed (requirements-dev.txt)")
    urls = sorted(map(str, (folders / "shards" / "train").glob("*.tar")))
    found = [(sample["png"], int(sample["cls"]), json.loads(sample["json"])["artist"])
             for sample in webdataset.WebDataset(urls, shardshuffle=False, handler=webdataset.reraise_exception)]
    root = folders / "folders" / "train"
    assert found == [(path.read_bytes(), ARTISTS.index(artist), artist)
                     for path in list_images(root) for artist in [path.relative_to(root).parts[0]]]


def test_reduced_pictures_are_packed_too(folders: Path, tmp_path: Path) -> None:
    for form in ("folders", "webdataset"):
        assert prepare_dataset.main(["--source-dir", str(folders / "raw"), "--output-dir", str(tmp_path / form),
                                     "--resize", "16", "--workers", "0", "--format", form]) == 0
    found = samples(tmp_path / "webdataset" / "val")
    for name, content in found.items():
        if name.endswith(".json"):
            picture = next(path for path in found if path.startswith(name[:-5]) and path.endswith("png"))
            assert found[picture] == (tmp_path / "folders" / "val" / json.loads(content)["file"]).read_bytes()


@pytest.mark.parametrize(("flags", "told"), [
    (["--format", "webdataset", "--hardlink"], "--format webdataset with --hardlink"),
    (["--shard-size", "5"], "--shard-size without --format webdataset")])
def test_flags_that_contradict_one_another(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                           flags: list[str], told: str) -> None:
    assert prepare_dataset.main(["--source-dir", str(folders / "raw"), "--output-dir", str(tmp_path / "out"),
                                 *flags]) == 2
    assert told in capsys.readouterr().err


def train(data: Path, output: Path, *flags: object) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without times."""
    assert train_artist_style.main([
        "--model", MODEL, "--data-path", str(data), "--output-dir", str(output), "--input-size", "32", "--batch-size",
        "8", "--seed", "3", "--epochs", "2", "--save-every", "1", *map(str, flags)]) == 0
    lines = map(json.loads, (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [{key: value for key, value in line.items() if not any(
        word in key for word in ("time", "second", "per_s", "throughput", "memory"))} for line in lines]


def test_training_on_shards_gives_the_figures_of_folders_interrupted_or_not(folders: Path, tmp_path: Path) -> None:
    expected = train(folders / "folders", tmp_path / "a", "--num_workers", 0)
    found = train(folders / "shards", tmp_path / "b", "--num_workers", 2)
    assert found == expected
    assert len(found) == 2
    resumed = train(folders / "shards", tmp_path / "c", "--num_workers", 1, "--resume",
                    tmp_path / "a" / "checkpoint_1.pth")  # of the folders, after the first epoch
    assert resumed[-1] == expected[-1]


def test_a_folder_of_tars_is_inferred_evaluated_and_calibrated_as_its_pictures(
        folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
        run_script: Callable[..., Completed]) -> None:
    run = write_run(tmp_path / "run")
    told = []
    for form in ("folders", "shards"):
        done = run_script("inference_artist.py", "--checkpoint", run / "model_best.pth", "--input",
                          folders / form / "val", "--output", tmp_path / form, "--contact-sheet")
        assert done.returncode == 0, done.stderr
        told.append([line for line in done.stdout.splitlines() if "passed over" not in line and form not in line])
    one, other = (json.loads((tmp_path / form / "batch_results.json").read_text(encoding="utf-8"))
                  for form in ("folders", "shards"))
    assert list(one.values()) == list(other.values())
    files = [json.loads(content)["file"] for name, content in samples(folders / "shards" / "val").items()
             if name.endswith(".json")]
    assert list(one) == files
    assert all(name.startswith("shard-00000") for name in other)
    assert told[0] == told[1]
    sheets = [np.asarray(Image.open(tmp_path / form / "contact_sheet.png")) for form in ("folders", "shards")]
    assert (sheets[0] == sheets[1]).all(-1).mean() > 0.9  # all but the names
    capsys.readouterr()
    assert inference_artist.main(["--checkpoint", str(run / "model_best.pth"), "--output", str(tmp_path / "out"),
                                  "--input", str(folders / "shards" / "val"), "--sort-into", str(tmp_path / "s")]) == 2
    assert "lies in a tar" in capsys.readouterr().err


def test_a_calibration_by_shards_is_that_of_folders(data_set: Path, trained: Path, tmp_path: Path) -> None:
    merged = tmp_path / "raw"
    for side in ("train", "val"):
        shutil.copytree(data_set / side, merged, dirs_exist_ok=True)
    written = []
    for form in ("folders", "webdataset"):
        assert prepare_dataset.main(["--source-dir", str(merged), "--output-dir", str(tmp_path / form), "--workers",
                                     "0", "--format", form, "--no-near-duplicates"]) == 0
        run = shutil.copytree(trained, tmp_path / f"run_{form}")
        assert tools.calibrate.main(["--checkpoint", str(run / "model_best.pth"), "--data-path",
                                     str(tmp_path / form)]) == 0
        written.append(json.loads((run / "calibration.json").read_text(encoding="utf-8")))
    assert written[0] == written[1]


def test_a_shard_that_is_cut_off_ends_in_one_line(folders: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    data = shutil.copytree(folders / "shards", tmp_path / "data")
    shard = data / "train" / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:4096])
    assert train_artist_style.main(["--model", MODEL, "--data-path", str(data), "--output-dir",
                                    str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "shard-000001.tar, which is damaged or no tar file (cut off" in error
    assert not (tmp_path / "run").exists()
    assert inference_artist.main(["--checkpoint", str(write_run(tmp_path / "net") / "model_best.pth"), "--input",
                                  str(data / "train"), "--output", str(tmp_path / "out")]) == 2
    assert "cut off" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="starts ranks by the environment of POSIX tests")
@pytest.mark.parametrize(("spoil", "told"), [
    (lambda shard: shard.write_bytes(shard.read_bytes()[:5000]), "cut off"),
    (lambda shard: pack_again(shard), "the digest of the shards is")])
def test_ranks_with_different_shards_end_with_one_line(folders: Path, tmp_path: Path, spoil: Callable[[Path], object],
                                                       told: str) -> None:
    other = tmp_path / "other"
    shutil.copytree(folders / "shards", other)
    spoil(sorted((other / "train").iterdir())[-1])
    ranks = start_ranks(2, "train_artist_style.py", "--model", MODEL, "--input-size", 32, "--num-workers", 0,
                        "--output-dir", tmp_path / "run", cwd=tmp_path, own=[
                            ("--data-path", folders / "shards"), ("--data-path", other)])
    for rank in ranks:
        text, code = rank.communicate(200)[0], rank.returncode
        assert code == 2, text
        assert told in text.splitlines()[-1]


def pack_again(shard: Path) -> None:
    """The same names in another order."""
    with tarfile.open(shard) as tar:
        files = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]  # files
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in reversed(files):
            tar.addfile(member, io.BytesIO(content))
