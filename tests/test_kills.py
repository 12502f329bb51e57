"""A kill before any fsync, rename or new folder loses nothing; the next run gives the bytes of an undisturbed one."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Completed
from tests.kills import Case, kill_everywhere
from tests.pictures import write_data_set

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
PUBLISHED = ("model_best.pth", "best_checkpoint.pth", "model.safetensors", "config.json", "report.csv",
             "class_mapping.csv", "checkpoint.pth")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """With pictures of three artists in `train` and in `val`."""
    return write_data_set(tmp_path / "start", train=4, val=2)


SOME = pytest.mark.parametrize("every", [14, pytest.param(1, marks=pytest.mark.exhaustive)])


def check(case: Case, least: int, every: int = 1) -> None:
    points, wrong = kill_everywhere(dataclasses.replace(case, every=every))
    assert not wrong, "\n".join(wrong[:20])
    assert points >= least


def prepare(start: Path, *flags: str, seed: int = 0) -> Case:
    work = start.with_name("work")
    return Case("prepare_dataset", [
        "--source-dir", work / "train", "--output-dir", work / "new" / "out", "--min-images", 3, "--workers", 0,
        "--seed", seed, "--overwrite", *flags], start, work)


@SOME
def test_a_data_set(start: Path, every: int) -> None:
    check(prepare(start, "--no-near-duplicates"), 20, every)


@SOME
def test_a_split(start: Path, every: int) -> None:
    for number, picture in enumerate(sorted((start / "train").rglob("*.png"))):
        picture.with_suffix(".txt").write_text(f"hand {number % 3}", encoding="utf-8")
    (start / "train.csv").write_text("image_path,labels\nearlier.png,hand\n", encoding="utf-8")
    shutil.copy(start / "train.csv", start / "val.csv")
    work = start.with_name("work")
    check(Case("tools.split_multilabel_dataset", [
        "--input-dir", work / "train", "--recursive", "--train-csv", work / "train.csv", "--val-csv", work / "val.csv",
        "--workers", 0, "--overwrite"], start, work), 8, every)


@pytest.fixture
def network(trained: Path, start: Path) -> list[object]:
    """Flags of a trained network, which lies in `start`."""
    shutil.copy(trained / "model_best.pth", start)
    return ["--checkpoint", start.with_name("work") / "model_best.pth", "--num-workers", 0, "--device", "cpu"]


def infer(start: Path, network: list[object], *flags: object, again: tuple[object, ...] = ()) -> Case:
    work = start.with_name("work")
    arguments = ["--mode", "both", "--input", work / "train", "--output", work / "results", "--batch-size", 4, *network]
    return Case("inference_artist", [*arguments, *flags], start, work, [*arguments, *flags, *again])


@SOME
def test_results_over_a_journal_of_other_flags(start: Path, network: list[object],
                                               run_script: Callable[..., Completed], every: int) -> None:
    first = infer(start, network)
    arguments = [str(each).replace(str(first.work), str(start)) for each in first.arguments]
    assert run_script("inference_artist.py", *arguments, "--top-k", 1).returncode == 0
    # A journal of --top-k 1 whose run was killed at its end.
    assert run_script("inference_artist.py", *arguments, "--top-k", 1, "--shard", "1/1").returncode == 0
    (start / "results" / "shard_1_of_1").rename(start / "results" / ".unfinished")
    check(infer(start, network, "--top-k", 2, again=("--resume",)), 10, every)


def gallery(start: Path, network: list[object], *flags: object) -> Case:
    work = start.with_name("work")
    uses = [] if "--remove" in flags else [*network, "--batch-size", 4]
    return Case("tools.build_gallery", ["--gallery", work / "gallery", *flags, *uses], start, work)


@pytest.fixture
def with_gallery(start: Path, network: list[object], run_script: Callable[..., Completed]) -> Path:
    """The folder `start` with a gallery in it."""
    arguments = [str(each).replace(str(start.with_name("work")), str(start)) for each in gallery(
        start, network, "--images-dir", start / "train").arguments]
    assert run_script("tools/build_gallery.py", *arguments).returncode == 0
    return start


@SOME
def test_a_gallery_that_loses_an_artist(with_gallery: Path, network: list[object], every: int) -> None:
    # After the swap the artist is gone already, which the second run says; what it leaves beside, the next one deletes.
    case, names = gallery(with_gallery, network, "--remove", "artist_1"), os.listdir(with_gallery / "gallery")
    check(dataclasses.replace(case, codes=(0, 2), same=[f"gallery/{name}" for name in names]), 8, every)


@pytest.mark.exhaustive
@pytest.mark.parametrize("flags", [[], ["--hardlink"], ["--resize", "16"]])
@pytest.mark.parametrize("earlier", [False, True])
def test_every_form_of_a_data_set(start: Path, run_script: Callable[..., Completed], flags: list[str], *,
                                  earlier: bool) -> None:
    case = prepare(start, *flags)
    if earlier:
        arguments = [str(each).replace(str(case.work), str(start)) for each in prepare(start, seed=1).arguments]
        assert run_script("prepare_dataset.py", *arguments).returncode == 0
    check(case, 40)


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", ["--images-dir", "--add"])
def test_a_gallery_that_is_built_again_or_grows(with_gallery: Path, network: list[object], way: str) -> None:
    pictures = with_gallery.with_name("work") / "val"
    flags = ["--overwrite"] if way == "--images-dir" else []
    check(gallery(with_gallery, network, way, pictures, *flags), 20)


@pytest.mark.exhaustive
@pytest.mark.parametrize("again", [(), ("--resume",)])
@pytest.mark.parametrize("files", ["npy", "npz"])
def test_results(start: Path, network: list[object], again: tuple[str, ...], files: str) -> None:
    check(infer(start, network, "--features-format", files, again=again), 15)


@pytest.mark.exhaustive
def test_clusters_over_earlier_ones(start: Path, network: list[object], run_script: Callable[..., Completed]) -> None:
    work = start.with_name("work")
    arguments = ["--images-dir", work / "train", "--output-dir", work / "clusters", "--projection", "pca", *network]
    earlier = [str(each).replace(str(work), str(start)) for each in arguments]
    assert run_script("tools/extract_cluster_features.py", *earlier, "--num-clusters", 2).returncode == 0
    case = Case("tools.extract_cluster_features", [*arguments, "--num-clusters", 3], start, work)
    check(case, 20)


def train(start: Path, *flags: object) -> Case:
    work = start.with_name("work")
    return Case("train_artist_style", [
        "--data-path", work, "--output-dir", work / "run", "--model", "test_efficientnet", "--input-size", 32,
        "--epochs", 1, "--batch-size", 4, "--num-workers", 0, "--device", "cpu", *flags], start, work,
        same=[f"run/{name}" for name in PUBLISHED])


@pytest.mark.exhaustive
def test_a_run(start: Path) -> None:
    check(train(start, "--resume", "auto"), 20)


@pytest.mark.exhaustive
def test_a_run_in_the_folder_of_another(start: Path, run_script: Callable[..., Completed]) -> None:
    earlier = [str(each).replace(str(start.with_name("work")), str(start)) for each in train(start).arguments]
    assert run_script("train_artist_style.py", *earlier, "--seed", 1).returncode == 0
    case = train(start, "--resume", "auto")
    (start / "run" / "checkpoint.pth").rename(start / "run" / "checkpoint_1.pth")  # so that there is nothing to resume
    aside = [f"run/previous_1/{name}" for name in (*PUBLISHED[:-1], "checkpoint_1.pth")]
    check(dataclasses.replace(case, same=[*case.same, *aside]), 30)
