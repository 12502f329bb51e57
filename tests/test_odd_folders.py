"""A folder of odd pictures, system folders and results of ours: each command accounts for every file below it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inference_artist
import predict_artist_multilabel
import prepare_dataset
import tools.build_gallery
import tools.extract_cluster_features
from data.images import EXTENSION_FORMATS
from data.picture_files import PictureFolder, find_pictures
from tests.pictures import stroke_picture

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "HSV", "LAB")
PASSED_OVER = ("@eaDir/anna/SYNOPHOTO.jpg", "#recycle/1.png", ".thumbnails/1.png", "System Volume Information/1.png",
               "__MACOSX/1.png", "lost+found/1.png", "$RECYCLE.BIN/1.png", "anna/@eaDir/1.jpg", "anna/.hidden.png",
               "results/batch_results.json", "results/contact_sheet.png", "anna/groups/cluster_assignments.json",
               "anna/groups/clusters.png", "runs/one/model_best.pth", "runs/one/curves.png",
               "runs/one/tensorboard/events.out.tfevents.1", "old/.lsnet_output.json", "old/train/anna/1.png",
               "anna/notes.txt", "anna/raw.dng", "bob/README", "Thumbs.db", "loose.txt")
OLD = Path(__file__).resolve().parent / "old_outputs"  # two small networks
Call = Callable[..., int]


def write_modes(folder: Path) -> None:
    """Every mode in every format that Pillow writes it in."""
    picture = stroke_picture(1, np.random.default_rng(1), 24)
    for extension, kind in EXTENSION_FORMATS.items():
        for mode in MODES:
            try:
                picture.convert("L" if mode in ("I;16", "F") else mode).convert(mode).save(
                    folder / f"{mode.replace(';', '_')}{extension}", format=kind)
            except (OSError, ValueError, KeyError):  # this format has no such mode, or Pillow lacks the plug-in
                (folder / f"{mode.replace(';', '_')}{extension}").unlink(missing_ok=True)


def write_odd(folder: Path) -> None:
    """Pictures without a known extension, hostile names, damaged files and special ones."""
    picture = stroke_picture(2, np.random.default_rng(2), 24)
    for number, name in enumerate(("photo", "photo.jpg_large", "photo.php?id=3", "a b", "-n", "é", "画", "%s{}")):
        picture.rotate(number).save(folder / name, format=("PNG", "JPEG", "WEBP")[number % 3])
    content = (folder / "photo").read_bytes()
    for name, damaged in (("cut.png", content[:99]), ("cut", content[:99]), ("empty.jpg", b""), ("text.png", b"hello"),
                          ("phone.heic", b"\0\0\0\x1cftypheic\0\0\0\0mif1heic"), ("new.jxl", b"\xff\n" + b"\0" * 30)):
        (folder / name).write_bytes(damaged)
    Image.new("1", (2000, 2000)).save(folder / "bomb.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        os.mkfifo(folder / "pipe")
        (folder / "broken.png").symlink_to("nowhere")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some hundred odd files of the artists anna and bob, and what is to be passed over."""
    root = tmp_path_factory.mktemp("odd") / "pictures"
    for name in PASSED_OVER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), "red").save(root / name, format="PNG")
        if not name.endswith((".png", ".jpg", ".dng")):
            (root / name).write_bytes(b"text")
    write_modes(root / "anna")
    write_odd(root / "bob")
    rng = np.random.default_rng(0)
    for artist, name in (("anna", "sub/sub/1.png"), ("bob", "sub/1.png"), (".", "loose.png")):
        (root / artist / name).parent.mkdir(parents=True, exist_ok=True)
        stroke_picture(0.5, rng).save(root / artist / name)
    return root


def below(root: Path) -> set[str]:
    return {Path(parent, name).relative_to(root).as_posix() for parent, _, names in os.walk(root) for name in names}


def check_account(found: PictureFolder, used: Iterable[str], damaged: Iterable[str]) -> None:
    """Every file is used, damaged, or passed over itself or with its folder, and only one of these."""
    used, damaged = set(used), set(damaged)
    passed_over = {name for name in below(found.root)
                   if any(name == each or name.startswith(f"{each}/") for each in found.passed_over)}
    assert sorted([*used, *damaged, *passed_over]) == sorted(below(found.root))
    assert {*PASSED_OVER} <= passed_over
    assert {"bob/photo", "bob/photo.jpg_large", "bob/é", "anna/sub/sub/1.png"} <= used
    assert {"bob/cut.png", "bob/empty.jpg", "bob/text.png", "bob/bomb.png"} <= damaged


def check_report(found: PictureFolder, printed: str) -> None:
    assert [line for line in printed.splitlines() if line.startswith("passed over")] == found.report()
    counts = [int(count) for count in re.findall(r"^passed over: (\d+) ", printed, re.MULTILINE)]
    assert sum(counts) == len(found.passed_over)


def call(command: Call, *arguments: object) -> int:
    return command([str(argument) for argument in arguments])


def names_of(folder: Path) -> list[str]:
    return (folder / "image_names.txt").read_text(encoding="utf-8").splitlines()


def test_prepare_accounts_for_every_file(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(prepare_dataset.main, "--source-dir", odd, "--output-dir", tmp_path / "out", "--workers", 0,
                "--max-pixels", 1_000_000, "--min-images", 2, "--resize", 16) == 0
    found = find_pictures(odd).without_loose()
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    with open(tmp_path / "out" / "split_info.txt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    check_account(found, [*(row["source"] for row in rows), *info["duplicates"]], info["damaged"])
    assert info["passed_over"] == found.passed_over
    assert set(info["classes"]) == {"anna", "bob"}
    assert {row["file"].partition("/")[2] for row in rows} >= {"bob/photo.jpg", "anna/RGB.apng.png"}
    check_report(found, capsys.readouterr().out)
    for row in rows:  # every name says what the file is, so that other programs read it
        with Image.open(tmp_path / "out" / row["file"]) as image:
            assert image.format == EXTENSION_FORMATS[Path(row["file"]).suffix.lower()]


def test_inference_and_its_next_run_account_for_every_file(odd: Path, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    root = shutil.copytree(odd, tmp_path / "pictures", symlinks=True, ignore=shutil.ignore_patterns("pipe*"))
    found, results = find_pictures(root), []
    for number in range(2):  # the second run finds what the first one wrote
        output = root / f"answers {number}"
        assert call(inference_artist.main, "--mode", "both", "--checkpoint", OLD / "run" / "model_best.pth", "--input",
                    root, "--output", output, "--max-pixels", 1_000_000, "--workers", 0) == 3
        records = json.loads((output / "batch_results.json").read_text(encoding="utf-8"))
        failed = {name for name, record in records.items() if "error" in record}
        assert names_of(output) == sorted(records.keys() - failed)
        check_account(find_pictures(root), records.keys() - failed, failed)
        results.append(records)
    assert results[0] == results[1]
    assert find_pictures(root).passed_over.items() - found.passed_over.items() == {
        ("answers 0", "results of inference"), ("answers 1", "results of inference")}
    assert "answers 0" in capsys.readouterr().out


def test_galleries_clusters_and_predictions_account_for_every_file(odd: Path, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--checkpoint", OLD / "run" / "model_best.pth", "--max-pixels", 1_000_000, "--workers", 0]
    assert call(tools.build_gallery.main, "--images-dir", odd, "--gallery", tmp_path / "gallery", *common) == 3
    printed = capsys.readouterr()
    failed = [name[len(f"{odd}/"):] for name in re.findall(r"^not read: (.*?) \(", printed.err, re.MULTILINE)]
    found = find_pictures(odd).of_artists()
    check_account(found, names_of(tmp_path / "gallery"), failed)
    check_report(found, printed.out)
    artists = json.loads((tmp_path / "gallery" / "gallery.json").read_text(encoding="utf-8"))["artists"]
    assert [entry["artist"] for entry in artists] == ["anna", "bob"]
    assert call(tools.extract_cluster_features.main, "--images-dir", odd, "--output-dir", tmp_path / "clusters",
                "--num-clusters", 3, "--projection", "pca", *common) == 3
    check_account(find_pictures(odd), names_of(tmp_path / "clusters"), failed)
    check_report(find_pictures(odd), capsys.readouterr().out)


def test_prediction_accounts_for_every_file(odd: Path, tmp_path: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert call(predict_artist_multilabel.main, "--inputs", odd, "--recursive", "--output", tmp_path / "out.json",
                "--checkpoint", OLD / "multilabel_run" / "best_checkpoint.pth", "--max-pixels", 1_000_000,
                "--workers", 0) == 3
    records = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    names = {Path(record["image"]).relative_to(odd).as_posix(): "error" in record for record in records}
    check_account(find_pictures(odd), [name for name, failed in names.items() if not failed],
                  [name for name, failed in names.items() if failed])
    check_report(find_pictures(odd), capsys.readouterr().out)
