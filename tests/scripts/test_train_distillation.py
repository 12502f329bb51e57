"""Distillation without labels: a start that every command takes, resumed to the bit, the same on two processes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import inference_artist
import train_artist_style
import train_distillation
from runtime.checkpoint import read_checkpoint
from tests import forked
from tests.forked import UNDRAWN, finish, start_ranks
from tests.hub_cache import fill_hub_cache, use_hub_cache
from tests.pictures import stroke_picture
from tools import build_gallery

TEACHER = "test_efficientnet"
FAST = ["--model", "test_vit", "--input-size", 32, "--num-workers", 0, "--batch-size", 8]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's weights, in a cache of downloads, too: `hub` beside them."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "bare.safetensors"
    network = timm.create_model(TEACHER)
    network(torch.randn(8, 3, 64, 64))  # running statistics that are not those of a new network
    save_file(network.state_dict(), path)
    fill_hub_cache(path.with_name("hub"), TEACHER, path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures in folders that are no artists, and loose ones."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for number in range(24):
        path = root / ("", "a", "b/c")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        stroke_picture(number / 4, rng, 40).save(path)
    return root


@pytest.fixture(autouse=True)
def _offline(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_hub_cache(monkeypatch, teacher.with_name("hub"))


def distil(data: Path, output: Path, *more: object) -> int:
    return train_distillation.main(list(map(str, ["--data-path", data, "--output-dir", output, "--teacher-model",
                                                  TEACHER, *FAST, *more])))


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path).model


def assert_same_bits(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_the_backbone_is_a_start_for_training_and_gives_features_without_it(
        teacher: Path, pictures: Path, data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = forked.run("train_distillation.py", "--data-path", pictures, "--output-dir", "start", *FAST, "--model",
                      "lsnet_t_artist", "--epochs", 1, "--teacher-views", 1, "--teacher-path", teacher,
                      "--teacher-model", TEACHER, cwd=tmp_path, env=UNDRAWN)
    assert done.returncode == 0, done.stderr
    assert "1 view of each picture" in done.stdout
    start = tmp_path / "start"
    assert {path.name for path in start.iterdir()} >= {"checkpoint.pth", "model_best.pth", "best_checkpoint.pth",
                                                       "config.json", "model.safetensors"}
    assert not (start / "class_mapping.csv").exists()
    assert not any(key.startswith(("head", "backbone")) for key in load_file(start / "model.safetensors"))
    assert -1 <= records(start)[0]["val_cosine"] <= 1
    timm.create_model(f"local-dir:{start}", pretrained=True)
    monkeypatch.chdir(tmp_path)
    run = ["--data-path", data_set, "--finetune-from", start, "--num-workers", 0]
    assert train_artist_style.main(list(map(str, [*run, "--output-dir", "probe", "--linear-probe"]))) == 0
    probed = weights(tmp_path / "probe" / "model_best.pth")
    assert all(torch.equal(probed[f"backbone.{key}"], value) for key, value in weights(start).items())
    for mode in ("cluster", "both"):
        code = inference_artist.main(["--checkpoint", str(start), "--mode", mode, "--input", str(data_set / "val"),
                                      "--output", mode, "--num-workers", "0"])
        assert code == (0 if mode == "cluster" else 2)  # it knows no artists
    assert np.load(tmp_path / "cluster" / "features.npy").shape == (12, 2 * (64 + 128) + 384)
    assert build_gallery.main(["--checkpoint", str(start), "--images-dir", str(data_set / "train"), "--gallery",
                               "gallery", "--num-workers", "0"]) == 0


@pytest.mark.parametrize("views", [0, 2])
def test_a_resumed_run_ends_with_the_same_bits(pictures: Path, tmp_path: Path, views: int,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--epochs", 3, "--teacher-views", views]
    assert distil(pictures, tmp_path / "whole", *flags, "--save-every", 1) == 0
    (tmp_path / "rest").mkdir()
    for number in (1, 2):
        shutil.copy(tmp_path / "whole" / f"checkpoint_{number}.pth", tmp_path / "rest" / "checkpoint.pth")
        assert distil(pictures, tmp_path / "rest", *flags, "--resume", "auto") == 0
        assert_same_bits(tmp_path / "whole" / "checkpoint.pth", tmp_path / "rest" / "checkpoint.pth")
        assert records(tmp_path / "whole")[-1]["val_cosine"] == records(tmp_path / "rest")[-1]["val_cosine"]
    assert "resumed" in capsys.readouterr().out
    assert distil(pictures, tmp_path / "rest", *flags, "--resume", "auto") == 0
    assert "finished already" in capsys.readouterr().out


def test_a_folder_with_both_sides_validates_with_its_own(data_set: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    assert distil(data_set, tmp_path / "run", "--epochs", 1, "--teacher-views", 1) == 0
    said = capsys.readouterr().out
    assert "24 pictures to train and 12 to validate" in said
    assert f"train_artist_style.py --finetune-from {tmp_path / 'run'} --data-path {data_set}" in said


def test_a_student_learns_to_tell_what_its_teacher_sees(pictures: Path, tmp_path: Path) -> None:
    assert distil(pictures, tmp_path / "run", "--epochs", 12, "--model", "test_resnet", "--teacher-views", 2,
                  "--no-model-ema", "--scale", 0.8, 1) == 0
    figures = [record["val_cosine"] for record in records(tmp_path / "run")]
    assert max(figures[-3:]) > max(0.3, figures[0] + 0.2), figures


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="tests of several processes use POSIX signals")
@pytest.mark.parametrize("views", [0, 2])
def test_two_processes_learn_what_one_learns(teacher: Path, pictures: Path, tmp_path: Path, views: int) -> None:
    for processes, batch_size in ((1, 8), (2, 4)):  # batch norms would see other pictures
        finish(start_ranks(processes, "train_distillation.py", *FAST, "--batch-size", batch_size, "--epochs", 2,
                           "--freeze-bn", "--teacher-views", views, "--data-path", pictures, "--output-dir",
                           tmp_path / str(processes), "--teacher-model", TEACHER, "--teacher-path", teacher,
                           cwd=tmp_path, env=UNDRAWN))
    for one, two in zip(records(tmp_path / "1"), records(tmp_path / "2"), strict=True):
        assert one["train_loss"] == pytest.approx(two["train_loss"], abs=1e-4)
        assert one["val_cosine"] == pytest.approx(two["val_cosine"], abs=1e-4)
    one, two = (weights(tmp_path / name / "checkpoint.pth") for name in "12")
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4


@pytest.mark.parametrize(("flags", "found"), [
    ([], "no teacher"),
    (["--teacher-model", "resnet_of_nobody"], "the unknown model resnet_of_nobody"),
    (["--teacher-model", "test_vit"], "the weights of test_vit, which cannot be downloaded"),
    (["--teacher-model", "lsnet_xl_artist"], "lsnet_xl_artist, of which nobody published weights"),
    (["--teacher-path", "no_such.pth"], "no file no_such.pth"),
    (["--teacher-model", TEACHER, "--model", "nothing"], "the unknown model nothing"),
    (["--teacher-model", TEACHER, "--input-size", "16"], "--input-size 16"),
    (["--teacher-model", TEACHER, "--val-share", "0.9"], "--val-share 0.9"),
    (["--teacher-model", TEACHER, "--data-path", "empty"], "no picture in empty"),
    (["--teacher-model", TEACHER, "--data-path", "absent"], "absent"),
    (["--teacher-model", TEACHER, "--smoothing", "0.1"], "the unknown argument --smoothing")])
def test_wrong_input_is_one_line(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str], flags: list[str], found: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert train_distillation.main(["--data-path", str(pictures), "--output-dir", "run", *flags]) == 2
    said = capsys.readouterr().err
    assert found in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("run/*.*"))


def test_other_trainers_and_teachers_do_not_go_on_with_it(pictures: Path, data_set: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert distil(pictures, tmp_path / "run", "--epochs", 1, "--teacher-views", 1) == 0
    latest, other = str(tmp_path / "run" / "checkpoint.pth"), tmp_path / "other.pth"
    torch.save(timm.create_model("test_resnet").state_dict(), other)
    assert train_artist_style.main(["--data-path", str(data_set), "--resume", latest, "--output-dir",
                                    str(tmp_path / "other")]) == 2
    assert "another trainer" in capsys.readouterr().err
    assert distil(pictures, tmp_path / "run", "--resume", "auto", "--teacher-path", other, "--teacher-model",
                  "test_resnet") == 2
    assert "another teacher" in capsys.readouterr().err
