"""A folder of odd pictures, system folders and results of ours: each command accounts for every file below it."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import inference_artist
import predict_artist_multilabel
import prepare_dataset
import tools.bench_inference
import tools.build_gallery
import tools.calibrate
import tools.corrupt_dataset
import tools.extract_cluster_features
import tools.generate_multilabel_csv
import tools.split_multilabel_dataset
import train_artist_style
from data.images import EXTENSION_FORMATS
from data.names import as_text, from_text, line_problem, nfc
from data.picture_files import PictureFolder, find_pictures
from inference.predictor import Prediction, Predictor
from runtime.options import InferenceOptions
from tests.odd_pictures import ARTISTS, MAX_PIXELS, OLD, Fate, write_odd_pictures

Call = Callable[..., int]
MANY = 300  # files
RUN = OLD / "run" / "model_best.pth"
TRAIN = ["--model", "test_efficientnet", "--input-size", 32, "--epochs", 1, "--batch-size", 16, "--num-workers", 0,
         "--max-pixels", MAX_PIXELS]


@dataclass(frozen=True)
class Odd:
    """A folder of odd pictures, and what becomes of each file."""

    root: Path
    fates: dict[str, Fate]

    def names(self, fate: Fate, *, in_artists: bool = False) -> set[str]:
        """The files of this fate; where only those in artists' folders count, a loose picture is passed over."""
        loose = {name for name, each in self.fates.items() if in_artists and "/" not in name and each == "used"}
        found = {name for name, each in self.fates.items() if each == fate}
        return found | loose if fate == "passed over" else found - loose

    def check(self, found: PictureFolder, used: Iterable[str], damaged: Iterable[str], *,
              in_artists: bool = False) -> None:
        """Every file is used, damaged, or passed over itself or with its folder, and each as it should be."""
        assert set(used) == self.names("used", in_artists=in_artists)
        assert set(damaged) == self.names("damaged")
        others = self.fates.keys() - {*used, *damaged}
        assert others == self.names("passed over", in_artists=in_artists)
        assert {name for name in others if not _is_below(name, found.passed_over)} == set()


def _is_below(name: str, folders: Iterable[str]) -> bool:
    return any(name == folder or name.startswith(f"{folder}/") for folder in folders)


@pytest.fixture(scope="module", params=["few", pytest.param("many", marks=pytest.mark.exhaustive)])
def odd(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Odd:
    """A folder of odd pictures, and among them what is to be passed over."""
    if sys.platform != "linux":
        pytest.skip("other systems have no such names")
    root = tmp_path_factory.mktemp("odd") / "pictures"
    return Odd(root, write_odd_pictures(root, many=request.param == "many"))


@pytest.fixture(scope="module")
def alone(odd: Odd, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prediction]:
    """The answer to each picture that is used, in a folder of its own and under a plain name."""
    return answer_alone(odd, RUN, tmp_path_factory.mktemp("alone"))


def answer_alone(odd: Odd, checkpoint: Path, place: Path) -> dict[str, Prediction]:
    predictor = Predictor.from_checkpoint(checkpoint, device="cpu")
    answers = {}
    for number, name in enumerate(sorted(odd.names("used"))):
        (place / str(number)).mkdir()
        copy = shutil.copyfile(odd.root / name, place / str(number) / "picture.png")
        answers[name], = predictor.predict([copy], InferenceOptions(num_workers=0))
    return answers


def check_features(folder: Path, names: Sequence[str], alone: dict[str, Prediction]) -> None:
    """Row by row those of the picture alone."""
    np.testing.assert_allclose(np.load(folder / "features.npy"),
                               torch.stack([alone[name].features for name in names]), atol=1e-5, rtol=1e-5)


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """The records of batch_results.json by the pictures' paths."""
    records = json.loads((folder / "batch_results.json").read_text(encoding="utf-8"))
    return {from_text(name): record for name, record in records.items()}


def check_report(found: PictureFolder, printed: str) -> None:
    assert [line for line in printed.splitlines() if line.startswith("passed over")] == found.report()
    counts = [int(count) for count in re.findall(r"^passed over: (\d+) ", printed, re.MULTILINE)]
    assert sum(counts) == len(found.passed_over)


def call(command: Call, *arguments: object) -> int:
    return command([str(argument) for argument in arguments])


def check_lines(folder: Path, names: Iterable[str]) -> None:
    """image_names.txt has a line for each name."""
    assert (folder / "image_names.txt").read_text(encoding="utf-8").split("\n") == [*map(as_text, names), ""]


def test_prepare_accounts_for_every_file(odd: Odd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(prepare_dataset.main, "--source-dir", odd.root, "--output-dir", tmp_path / "out", "--workers", 0,
                "--max-pixels", MAX_PIXELS, "--min-images", 2, "--resize", 16) == 0
    found = find_pictures(odd.root).without_loose()
    info = json.loads((tmp_path / "out" / "dataset_info.json").read_text(encoding="utf-8"))
    with open(tmp_path / "out" / "split_info.txt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    used = [*(row["source"] for row in rows), *info["duplicates"]]
    damaged = {name for name in odd.fates if as_text(name) in info["damaged"]}
    unfit = {name for name in odd.names("used") if line_problem(name)}  # no line of a table can hold these names
    assert unfit <= damaged
    odd.check(found, [*used, *unfit], damaged - unfit, in_artists=True)
    assert len(info["damaged"]) == len(damaged)
    assert info["passed_over"] == found.passed_over
    assert set(info["classes"]) == ARTISTS
    assert len({nfc(row["file"]).casefold() for row in rows}) == len(rows)
    printed = capsys.readouterr().out
    assert [line for line in printed.splitlines() if line.startswith("passed over")] == found.report()[:40]
    for row in rows:  # every name says what the file is, so that other programs read it
        with Image.open(tmp_path / "out" / row["file"]) as image:
            assert image.format == EXTENSION_FORMATS[Path(row["file"]).suffix.lower()]
    if len(odd.fates) > MANY:
        assert call(train_artist_style.main, "--data-path", tmp_path / "out", "--output-dir", tmp_path / "run",
                    *TRAIN) == 0
        assert not re.search("left out|passed over", capsys.readouterr().out)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("mode", "file"), [("classify", "batch_results.csv"), ("cluster", "batch_results.jsonl")])
def test_every_mode_and_format_accounts_for_every_file(odd: Odd, alone: dict[str, Prediction], mode: str, file: str,
                                                       tmp_path: Path) -> None:
    sheet = ["--contact-sheet", "--no-calibration"] if mode == "classify" else []
    assert call(inference_artist.main, "--mode", mode, "--checkpoint", RUN, "--input", odd.root, "--output", tmp_path,
                "--max-pixels", MAX_PIXELS, "--workers", 0, "--format", Path(file).suffix[1:], *sheet) == 3
    with open(tmp_path / file, encoding="utf-8", newline="") as lines:
        records = [*csv.DictReader(lines)] if mode == "classify" else list(map(json.loads, lines))
    names = sorted(odd.names("used") | odd.names("damaged"))
    for name, record in zip(names, records, strict=True):
        assert record["image"] == as_text(name)
        assert bool(record.get("error")) == (name not in alone)
        if not record.get("error") and mode == "classify":
            best, = alone[name].top(1)
            assert record["classification.1.class_name"] == best["class_name"]
            assert float(record["classification.1.probability"]) == pytest.approx(best["probability"], abs=1e-5)
    if mode == "cluster":
        check_features(tmp_path, sorted(alone), alone)


def test_inference_and_its_next_run_account_for_every_file(odd: Odd, alone: dict[str, Prediction], tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    found, results = find_pictures(odd.root), []
    for number in range(2):  # the second run finds what the first one wrote
        output = odd.root / f"answers {number}"
        assert call(inference_artist.main, "--mode", "both", "--checkpoint", RUN, "--input", odd.root, "--output",
                    output, "--max-pixels", MAX_PIXELS, "--workers", 0, "--no-calibration") == 3
        records = read_records(output)
        failed = {name for name, record in records.items() if "error" in record}
        odd.check(find_pictures(odd.root), records.keys() - failed, failed)
        check_lines(output, sorted(records.keys() - failed))
        check_features(output, sorted(records.keys() - failed), alone)
        results.append(records)
    assert results[0] == results[1]
    for name in alone:
        assert results[0][name]["classification"] == [
            pytest.approx(entry, abs=1e-5) for entry in alone[name].top(5)]
    assert find_pictures(odd.root).passed_over.items() - found.passed_over.items() == {
        ("answers 0", "results of inference"), ("answers 1", "results of inference")}
    assert "answers 0" in capsys.readouterr().out
    for number in range(2):
        shutil.rmtree(odd.root / f"answers {number}")


def test_galleries_clusters_and_predictions_account_for_every_file(odd: Odd, alone: dict[str, Prediction],
                                                                   tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--checkpoint", RUN, "--max-pixels", MAX_PIXELS, "--workers", 0]
    assert call(tools.build_gallery.main, "--images-dir", odd.root, "--gallery", tmp_path / "gallery", *common) == 3
    printed = capsys.readouterr()
    found = find_pictures(odd.root).of_artists()
    check_report(found, printed.out)
    used = sorted(odd.names("used", in_artists=True))
    odd.check(found, used, named_unreadable(odd, printed.err), in_artists=True)
    with open(tmp_path / "gallery" / "pictures.csv", encoding="utf-8", newline="") as file:
        rows = [(row["artist"], row["image"]) for row in csv.DictReader(file)]
    assert [(artist, nfc(name)) for artist, name in rows] == [
        (nfc(name.partition("/")[0]), nfc(as_text(name))) for name in used]
    assert len(set(rows)) == len(rows)
    check_features(tmp_path / "gallery", used, alone)
    assert call(tools.build_gallery.main, "--add", odd.root, "--gallery", tmp_path / "gallery", *common) == 3
    check_features(tmp_path / "gallery", used, alone)  # the same pictures replace themselves
    assert call(inference_artist.main, "--mode", "search", "--gallery", tmp_path / "gallery", "--input", odd.root,
                "--output", tmp_path / "found", *common) == 3
    records = read_records(tmp_path / "found")
    for name in used:  # each finds itself, or its equal
        nearest = records[name]["pictures"][0]
        assert nearest["cosine_similarity"] == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(alone[used[rows.index((nearest["artist"], nearest["image"]))]].features,
                                   alone[name].features, atol=1e-3, rtol=1e-3)
    capsys.readouterr()
    assert call(tools.extract_cluster_features.main, "--images-dir", odd.root, "--output-dir", tmp_path / "clusters",
                "--num-clusters", 3, "--projection", "pca", *common) == 3
    printed = capsys.readouterr()
    odd.check(find_pictures(odd.root), alone, named_unreadable(odd, printed.err))
    check_lines(tmp_path / "clusters", sorted(alone))
    check_features(tmp_path / "clusters", sorted(alone), alone)
    check_report(find_pictures(odd.root), printed.out)


def named_unreadable(odd: Odd, printed: str) -> set[str]:
    """The damaged files that stderr names, and nothing else."""
    named = {name for name in odd.fates if as_text(f"not read: {odd.root / name} (") in printed}
    assert printed.count("not read: ") == len(named)
    return named


def test_prediction_accounts_for_every_file(odd: Odd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = OLD / "multilabel_run" / "best_checkpoint.pth"
    assert call(predict_artist_multilabel.main, "--inputs", odd.root, "--recursive", "--output", tmp_path / "out.json",
                "--checkpoint", checkpoint, "--max-pixels", MAX_PIXELS, "--workers", 0, "--debug-full") == 3
    check_report(find_pictures(odd.root), capsys.readouterr().out)
    records = {from_text(record["image"][len(f"{odd.root.as_posix()}/"):]): record
               for record in json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))}
    failed = {name for name, record in records.items() if "error" in record}
    odd.check(find_pictures(odd.root), records.keys() - failed, failed)
    for name, answer in answer_alone(odd, checkpoint, tmp_path).items():
        assert records[name]["raw_confidence"] == pytest.approx(answer.logits.sigmoid().tolist(), abs=1e-5)


@pytest.mark.exhaustive
def test_training_on_odd_folders_is_training_on_their_sound_pictures(
        odd: Odd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("train", "val"):
        assert write_odd_pictures(tmp_path / "odd" / side, many=len(odd.fates) > MANY) == odd.fates
        for number, name in enumerate(sorted(odd.names("used", in_artists=True))):
            copy = tmp_path / "clean" / side / nfc(name.partition("/")[0]) / f"{number:04}.png"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(odd.root / name, copy)
    figures = []
    for kind in ("clean", "odd"):
        assert call(train_artist_style.main, "--data-path", tmp_path / kind, "--output-dir", tmp_path / f"{kind} run",
                    *TRAIN) == 0
        lines = (tmp_path / f"{kind} run" / "metrics.jsonl").read_text().splitlines()
        figures.append([{key: value for key, value in json.loads(line).items() if key.endswith(("loss", "top1"))}
                        for line in lines])
    assert figures[0] == figures[1]
    printed = capsys.readouterr().out
    for side in ("train", "val"):
        root = tmp_path / "odd" / side
        found = find_pictures(root).without_loose()
        assert [line for line in printed.splitlines() if line.startswith(f"{root}: ")] == [
            f"{root}: {line}" for line in found.report()]
        left_out = {name for name in odd.fates if as_text(f"left out: {root / name} (") in printed}
        odd.check(found, set(map(found.name, found.images)) - left_out, left_out, in_artists=True)


@pytest.mark.parametrize(("command", "pictures", "code", "flags"), [
    (inference_artist.main, "artists", 3, "--mode cluster --checkpoint {old}/run --input {root} --output {out}"),
    (predict_artist_multilabel.main, "artists", 3, "--checkpoint {old}/multilabel_run/best_checkpoint.pth "
                                                   "--inputs {root} --recursive --output {out}/labels.json"),
    (tools.extract_cluster_features.main, "artists", 3, "--checkpoint {old}/run --images-dir {root} --num-clusters 2 "
                                                        "--projection pca --output-dir {out}"),
    (tools.build_gallery.main, "artists", 3, "--checkpoint {old}/run --images-dir {root} --gallery {out}"),
    (tools.calibrate.main, "dataset/val", 3, "--checkpoint {out}/model_best.pth --data-path {root}/.."),
    (tools.bench_inference.main, "artists", 3, "--checkpoint {old}/run --input {root} --batch-size 4 --pictures 4 "
                                               "--rounds 1"),
    (tools.corrupt_dataset.main, "artists", 3, "--input-dir {root} --output-dir {out} --kinds jpeg --short-side 8 "
                                               "--workers 0"),
    (tools.generate_multilabel_csv.main, "mixtures/pictures", 3, "--input-dir {root} --recursive --output-csv "
                                                                 "{out}/a.csv"),
    (tools.split_multilabel_dataset.main, "mixtures/pictures", 3, "--input-dir {root} --recursive --train-csv "
                                                                  "{out}/train.csv --val-csv {out}/val.csv"),
    (prepare_dataset.main, "artists", 0, "--source-dir {root} --output-dir {out} --workers 0 --min-images 1")],
    ids=lambda value: value.__module__ if callable(value) else "")
def test_a_folder_that_cannot_be_read_is_a_failure_but_in_preparing(
        command: Call, pictures: str, code: int, flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    root, out = tmp_path / "in" / "val", tmp_path / "out"
    shutil.copytree(OLD / pictures, root)
    (root / "artist_0" / "secret").mkdir(parents=True)
    if command is tools.calibrate.main:
        out.mkdir()
        shutil.copy(OLD / "run" / "model_best.pth", out)
    original = os.scandir

    def scandir(path: str = ".") -> Iterator[os.DirEntry[str]]:
        if os.path.basename(os.fspath(path)) == "secret":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return original(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert command(flags.format(old=OLD, root=root, out=out).split()) == code
    told = capsys.readouterr()
    assert "passed over: 1 (a folder that cannot be read: Permission denied): artist_0/secret" in told.out
    is_named = "artist_0/secret (a folder that cannot be read: Permission denied)\n" in told.err
    assert is_named == ("--checkpoint" in flags and command is not tools.bench_inference.main)
