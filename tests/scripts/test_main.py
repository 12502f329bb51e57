"""Plain LSNet on generated ImageNet-style folders: train, teach, fold, export, evaluate, attack."""

from __future__ import annotations

import json
import random
import re
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import timm
import torch

import train_artist_style
from data.loaders import EvalBatches, Loading, make_loader
from data.train_val import open_val
from data.transforms import Preprocessing, eval_transform
from evaluation.metrics import ClassificationMeter
from main import main
from robust_utils import wordnet_ids
from runtime.checkpoint import read_checkpoint
from runtime.networks import load_weights
from tests.model import golden
from tests.pictures import write_data_set

HEADLINE = re.compile(r"\* top-1 (\d+\.\d{3}) top-5 (\d+\.\d{3}) loss (\d+\.\d{4})")
FAST = ("--num-workers", "0", "--input-size", "32", "--batch-size", "40")


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty classes of ImageNet, 4 pictures each to train and 2 to validate."""
    root = write_data_set(tmp_path_factory.mktemp("imagenet"), artists=20, train=4, val=2)
    for number, wnid in enumerate(random.Random(0).sample(wordnet_ids("imagenet_1k"), 20)):
        for side in ("train", "val"):
            (root / side / f"artist_{number}").rename(root / side / wnid)
    return root


def call(*arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 0


def train(imagenet: Path, output: Path, *more: object) -> None:
    call("--data-path", imagenet, "--output-dir", output, "--epochs", 1, *FAST, *more)


def headlines(capsys) -> list[tuple[str, ...]]:
    return HEADLINE.findall(capsys.readouterr().out)


@pytest.fixture(scope="module")
def teacher(imagenet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small convolutional network of timm, trained for an epoch, and resumed for a second."""
    output = tmp_path_factory.mktemp("teacher") / "run"
    for epochs in (1, 2):
        train(imagenet, output, "--model", "test_resnet", "--epochs", epochs, "--resume", "auto",
              "--lr-scaling", "none")
    return output / "model_best.pth"


@pytest.fixture(scope="module")
def student(imagenet: Path, teacher: Path, run_script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a network distilled from a timm teacher as a user does it."""
    output = tmp_path_factory.mktemp("student") / "run"
    done = run_script("main.py", "--model", "lsnet_t", "--data_path", imagenet, "--output-dir", output, "--epochs", 1,
                      *FAST, "--distillation-type", "hard", "--teacher-model", "test_resnet", "--teacher-path", teacher)
    assert done.returncode == 0, done.stderr
    return output


@pytest.mark.slow
def test_every_form_of_a_network_has_the_same_top1(imagenet: Path, student: Path, capsys) -> None:
    """From file and hub folder, and folded."""
    best = read_checkpoint(student / "model_best.pth")
    assert best.resolve().architecture.model_args == {"img_size": 32, "distillation": True}
    common = ("--eval", "--model", "lsnet_t", "--data-path", imagenet, *FAST)
    call(*common, "--resume", best.path)
    call(*common, "--resume", student)
    call(*common, "--resume", best.path, "--deploy")
    found = headlines(capsys)
    assert len({top1 for top1, *_ in found}) == 1
    assert float(found[0][0]) == pytest.approx(best.content["best_metric"], abs=1e-3)
    assert [float(loss) for *_, loss in found] == pytest.approx([best.content["metrics"]["loss"]] * 3, abs=2e-4)


@pytest.mark.exhaustive
def test_an_exported_network_has_the_same_top1(imagenet: Path, student: Path) -> None:
    best = read_checkpoint(student / "model_best.pth")
    network = best.resolve().architecture.create()
    load_weights(network, best.evaluated, best.path)
    pictures = torch.zeros(20, 3, 32, 32)
    exported = torch.export.export(network.for_inference(), (pictures,)).module()
    assert top1(exported, imagenet, best, batch_size=20) == pytest.approx(best.content["best_metric"])


def top1(network: torch.nn.Module, imagenet: Path, checkpoint, batch_size: int) -> float:
    val_set = open_val(imagenet, checkpoint.classes, max_pixels=10**6)
    val_set.transform = eval_transform(Preprocessing.from_dict(checkpoint.config["preprocessing"]))
    loading = Loading(batch_size=batch_size)
    meter = ClassificationMeter(len(checkpoint.classes))
    with torch.inference_mode():
        for number, batch in enumerate(make_loader(val_set, EvalBatches(len(val_set), loading), loading)):
            meter.update(number, network(batch.images), batch.targets)
    return meter.result()["top1"]


def test_the_recipe_is_the_published_one(teacher: Path) -> None:
    options = read_checkpoint(teacher).config["options"]
    expected = {"opt": "adamw", "lr": 1e-3, "weight_decay": 0.025, "warmup_epochs": 5, "warmup_lr": 1e-6,
                "min_lr": 1e-5, "clip_mode": "agc", "clip_grad": 0.02, "aa": "rand-m9-mstd0.5-inc1", "mixup": 0.8,
                "cutmix": 1.0, "smoothing": 0.1, "reprob": 0.25, "color_jitter": 0.4, "repeated_aug": True,
                "distillation_alpha": 0.5, "train_mode": True, "freeze_bn": False}
    assert {name: options[name] for name in expected} == expected


@pytest.mark.parametrize(("flags", "moves"), [
    (["--set-bn-eval", "--ThreeAugment"], False), (["--no-train-mode"], False),
    (["--no-repeated-aug", "--three_augment"], True)])
def test_norms_keep_their_statistics_where_asked(imagenet: Path, tmp_path: Path, flags: Sequence[str],
                                                 moves: bool) -> None:
    train(imagenet, tmp_path, "--model", "test_resnet", *flags)
    state = read_checkpoint(tmp_path / "checkpoint.pth").model
    assert bool(state["bn1.running_mean"].abs().sum()) is moves


def test_the_loop_is_the_artist_trainers(imagenet: Path, tmp_path: Path) -> None:
    """Up to the speed, every figure of every epoch is the same to the last digit."""
    flags = ["--model", "test_resnet", "--data-path", str(imagenet), *FAST, "--epochs", "2", "--lr-scaling", "none",
             "--weight-decay", "0.05", "--clip-mode", "norm", "--clip-grad", "1", "--scale", "0.25", "1",
             "--color-jitter", "0.3", "--aa", "none", "--reprob", "0", "--mixup", "0.8", "--cutmix", "1"]
    assert main([*flags, "--output-dir", str(tmp_path / "main"), "--no-repeated-aug"]) == 0
    assert train_artist_style.main([*flags, "--output-dir", str(tmp_path / "artist")]) == 0
    curves = [[{key: value for key, value in json.loads(line).items() if "second" not in key and "memory" not in key}
               for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()] for name in ("main", "artist")]
    assert len(curves[0]) == 2
    assert curves[0] == curves[1]


def test_tar_files_train_and_evaluate_alike(imagenet: Path, teacher: Path, tmp_path: Path, capsys) -> None:
    for side in ("train", "val"):
        with tarfile.open(tmp_path / f"{side}.tar", "w") as archive:
            archive.add(imagenet / side, ".")
    for root in (imagenet, tmp_path):
        call("--eval", "--model", "test_resnet", "--resume", teacher, "--data-path", root, *FAST)
        train(root, tmp_path / root.name, "--model", "test_resnet")
    found = headlines(capsys)
    assert len(found) == 4
    assert found[:2] == found[2:]


# ---- published weights -----------------------------------------------------------------------------------------------


def test_published_weights_evaluate_with_the_golden_logits(imagenet: Path, tmp_path: Path, capsys) -> None:
    case = next(case for case in golden.cases() if case["model"] == "lsnet_t")
    state = golden.fill(timm.create_model("lsnet_t", **case["kwargs"])).float().state_dict()
    torch.save({"model": state, "epoch": 299}, tmp_path / "lsnet_t.pth")
    torch.save(state, tmp_path / "bare.pth")
    for name in ("lsnet_t.pth", "bare.pth"):
        checkpoint = read_checkpoint(tmp_path / name)
        network = checkpoint.resolve("lsnet_t").architecture.create().eval()
        load_weights(network, checkpoint.evaluated, name)
        with torch.inference_mode():
            logits = network(golden.pictures(case["input_size"]).float())[:, :8]
        expected = torch.tensor(case["logits"])
        assert (logits - expected).norm() <= 1e-5 * expected.norm()
    few = tmp_path / "few"
    shutil.copytree(imagenet / "val", few / "val")
    for folder in sorted((few / "val").iterdir())[4:]:
        shutil.rmtree(folder)
    call("--eval", "--model", "lsnet_t", "--resume", tmp_path / "lsnet_t.pth", "--data-path", few, "-j", 0)
    call("--eval", "--model", "lsnet_t", "--resume", tmp_path / "bare.pth", "--data-path", few, "-j", 0, "--deploy")
    plain, deployed = headlines(capsys)
    assert plain[:2] == deployed[:2]
    assert float(plain[2]) == pytest.approx(float(deployed[2]), abs=1e-3)


# ---- harder pictures -------------------------------------------------------------------------------------------------


def test_adversaries_harm_and_an_epsilon_of_0_does_not(imagenet: Path, teacher: Path, tmp_path: Path, capsys) -> None:
    common = ("--eval", "--model", "test_resnet", "--resume", teacher, "--data-path", imagenet, *FAST, "--output-dir",
              tmp_path)
    call(*common, "--adversarial", "pgd", "--epsilon", 0)
    clean, untouched = headlines(capsys)
    assert clean == untouched
    losses, shares = [float(clean[2])], [float(clean[0])]
    for attack in ("fgsm", "pgd"):
        call(*common, "--adversarial", attack, "--epsilon", 4)
        found = json.loads((tmp_path / "robustness.json").read_text())
        assert (found["adversarial"]["attack"], found["adversarial"]["epsilon"]) == (attack, 4)
        losses.append(found["adversarial"]["loss"])
        shares.append(found["adversarial"]["top1"])
    assert losses[0] < losses[1] < losses[2]
    assert shares[0] >= shares[1] >= shares[2]


def test_what_cannot_be_judged_is_refused(imagenet: Path, teacher: Path, tmp_path: Path, capsys) -> None:
    common = ["--model", "test_resnet", "--data-path", str(imagenet), "--output-dir", str(tmp_path / "out"), *FAST]
    resumed = [*common, "--eval", "--resume", str(teacher)]
    nine = timm.create_model("test_resnet", num_classes=9)
    torch.save(nine.state_dict(), tmp_path / "nine.pth")
    for flags, expected in (
            ([*common, "--inr-path", str(tmp_path)], "robustness folder in training"),
            ([*resumed, "--inr-path", "nowhere"], "no folder nowhere.*ImageNet-R"),
            ([*resumed, "--inr-path", str(tmp_path)], "a network of 20 classes, without"),
            ([*common, "--eval", "--resume", str(tmp_path / "nine.pth")], "20 classes in .*nine.pth, which tells 9"),
            (["--data-path", str(imagenet)], "--model")):
        assert main(flags) == 2
        assert re.search(expected, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()
