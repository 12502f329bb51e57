"""The multi-label trainer as users run it: its files, what its flags reach, and its answers to bad input."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from evaluation.thresholds import read_thresholds
from runtime.checkpoint import read_checkpoint
from tests.forked import UNDRAWN, finish, start_ranks
from tests.pictures import write_annotated_set
from train_artist_multilabel import main

HEADLINE = re.compile(r"^\* mAP (\d+\.\d{3}) \(micro .*\) F1 .* share error (\d\.\d{4})$", re.MULTILINE)
FAST = ["--model", "test_resnet.r160_in1k", "--input-size", "32", "--epochs", "1", "--batch-size", "8",
        "--num-workers", "0"]
CLASSES = ["Mina_Contour", "Otto_Dots", "Vera_Hatch"]


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures to train and 8 to validate by one to three artists each. Tests leave it as it is."""
    return write_annotated_set(tmp_path_factory.mktemp("annotated") / "set")


def flags(annotated: Path, output: Path, *more: object) -> list[str]:
    return [str(word) for word in ("--data-path", annotated / "pictures", "--train-ann", annotated / "train.csv",
                                   "--val-ann", annotated / "val.csv", "--output-dir", output, *FAST, *more)]


def train(annotated: Path, output: Path, *more: object) -> int:
    return main(flags(annotated, output, *more))


@pytest.fixture(scope="module")
def trained(annotated: Path, run_script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of two epochs, trained as a user trains. Tests leave it as it is."""
    output = tmp_path_factory.mktemp("trained_multilabel") / "run"
    done = run_script("train_artist_multilabel.py", *flags(
        annotated, output, "--epochs", 2, "--threshold", 0.4, "--num_workers", 1,
        "--save-every", 1))
    assert done.returncode == 0, done.stderr
    return output


def test_a_run_leaves_every_promised_file(trained: Path, annotated: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"checkpoint.pth", "checkpoint_1.pth", "model_best.pth", "best_checkpoint.pth", "class_mapping.csv",
                     "label_stats.csv", "thresholds.csv", "config.json", "model.safetensors", "train_log.txt",
                     "metrics.jsonl", "curves.png", "tensorboard"}
    assert len(HEADLINE.findall((trained / "train_log.txt").read_text())) == 2
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    best = read_checkpoint(trained / "best_checkpoint.pth")
    assert best.classes == CLASSES
    assert best.config["task"] == "multilabel"
    assert best.content["best_metric"] == max(record["val_macro_map"] for record in records)
    assert len(read_thresholds(trained / "thresholds.csv", CLASSES)) == 3
    with open(trained / "label_stats.csv", encoding="utf-8", newline="") as file:
        stats = list(csv.DictReader(file))
    texts = [path.read_text() for path in sorted((annotated / "pictures").glob("*.txt"))[:16]]
    assert [int(row["count"]) for row in stats] == [sum(name in text for text in texts) for name in CLASSES]


def test_the_documented_evaluation_prints_and_writes_the_best_figures(trained: Path, annotated: Path, tmp_path: Path,
                                                                      capsys) -> None:
    checkpoint = trained / "best_checkpoint.pth"
    assert train(annotated, tmp_path / "out", "--resume", checkpoint, "--eval",
                 "--threshold", 0.4, "--batch-size", 3) == 0
    told = capsys.readouterr().out
    best = read_checkpoint(checkpoint).content["metrics"]
    assert float(HEADLINE.search(told)[1]) == pytest.approx(best["macro_map"], abs=1e-3)
    assert re.search(r"^precision, % +\d+\.\d{3} +\d+\.\d{3}$", told, re.MULTILINE)
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written == pytest.approx(best, rel=1e-3)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"evaluation.json", "thresholds.csv"}


def test_a_resumed_run_ends_with_the_same_bits(trained: Path, annotated: Path, tmp_path: Path) -> None:
    assert train(annotated, tmp_path, "--epochs", 2, "--threshold", 0.4, "--resume",
                 trained / "checkpoint_1.pth") == 0
    whole, resumed = (read_checkpoint(folder / "checkpoint.pth") for folder in (trained, tmp_path))
    assert all(torch.equal(whole.model[key], resumed.model[key]) for key in whole.model)
    assert whole.content["best_metric"] == resumed.content["best_metric"]


@pytest.fixture(scope="module")
def plain_loss(annotated: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    """The loss of one epoch without further flags."""
    output = tmp_path_factory.mktemp("plain")
    assert train(annotated, output) == 0
    return json.loads((output / "metrics.jsonl").read_text())["train_loss"]


@pytest.mark.parametrize("more", [["--loss", "asl"], ["--loss", "focal"], ["--ratio-weight", "0"],
                                  ["--pos-weight-cap", "0.3"], ["--smoothing", "0.1"],
                                  ["--mixup", "0.8", "--cutmix", "1"]], ids=lambda more: more[-1])
def test_each_flag_of_the_objective_changes_what_is_learned(annotated: Path, tmp_path: Path, plain_loss: float,
                                                            more: list[str]) -> None:
    assert train(annotated, tmp_path, *more) == 0
    assert 0 < json.loads((tmp_path / "metrics.jsonl").read_text())["train_loss"] != plain_loss


@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_student_learns_from_a_teacher_of_the_same_labels(annotated: Path, trained: Path, tmp_path: Path,
                                                            plain_loss: float, kind: str) -> None:
    assert train(annotated, tmp_path, "--teacher-path", trained / "model_best.pth", "--distillation-type", kind) == 0
    assert 0 < json.loads((tmp_path / "metrics.jsonl").read_text())["train_loss"] != plain_loss


def test_finetuning_starts_from_another_run(annotated: Path, trained: Path, tmp_path: Path, capsys) -> None:
    assert train(annotated, tmp_path, "--finetune-from", trained / "model_best.pth",
                 "--freeze-backbone", 1) == 0
    assert "head included: the artists are the same" in capsys.readouterr().out


def test_labels_and_pictures_that_are_left_out_are_listed(annotated: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(annotated, tmp_path / "set")
    (mine / "pictures" / "0001.jpg").write_bytes(b"no picture")
    lines = (mine / "val.csv").read_text().splitlines(keepends=True)
    lines[1:3] = [lines[1].split(",")[0] + ",\"Vera_Hatch,somebody new\"\n", lines[2].split(",")[0] + ",nobody\n"]
    (mine / "val.csv").write_text("".join(lines) + "../elsewhere.jpg,Vera_Hatch\n")
    output = tmp_path / "run"
    assert train(mine, output, "--skip-invalid") == 0
    log = (output / "train_log.txt").read_text()
    for expected in (r"0001\.jpg \(.+\)", "the label somebody new of 1 picture", "the label nobody of 1", r"0018\.jpg",
                     r"\.\./elsewhere\.jpg.*line 10"):
        assert re.search(f"left out: .*{expected}", log), expected
    assert "15 pictures to train and 7 to validate" in log


def test_an_earlier_run_moves_aside_with_all_its_files(annotated: Path, tmp_path: Path) -> None:
    assert train(annotated, tmp_path) == 0
    first = {name: (tmp_path / name).read_bytes() for name in ("thresholds.csv", "label_stats.csv", "model_best.pth")}
    assert train(annotated, tmp_path, "--seed", 7) == 0
    assert {name: (tmp_path / "previous_1" / name).read_bytes() for name in first} == first


# ---- several processes ----


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="gloo is started as on POSIX")
def test_two_processes_learn_and_measure_what_one_does(annotated: Path, tmp_path: Path) -> None:
    for processes, batch_size in ((1, 8), (2, 4)):
        finish(start_ranks(processes, "train_artist_multilabel.py", *flags(
            annotated, tmp_path / str(processes), "--model", "test_vit", "--epochs", 2, "--batch-size", batch_size,
            "--dist-eval"), cwd=tmp_path, env=UNDRAWN))
    one, two = ([json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
                for name in "12")
    for a, b in zip(one, two, strict=True):
        assert a["train_loss"] == pytest.approx(b["train_loss"], abs=1e-4)
        assert a["val_share_error"] == pytest.approx(b["val_share_error"], abs=1e-4)


# ---- bad input: one line, exit code 2, nothing lost ----


def refuses(capsys, expected: str, arguments: list[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert re.search(expected, told), told


@pytest.mark.parametrize(("more", "expected"), [
    (["--threshold", "1"], "--threshold 1.*below 1"),
    (["--ratio-weight", "-1"], "--ratio-weight -1.*at least 0"),
    (["--pos-weight-cap", "0"], "--pos-weight-cap 0; expected a number, at least 0.001"),
    (["--loss", "mse"], "--loss.*mse"),
    (["--label-delimiter", "a"], "delimiter 'a'"),
    (["--train-ann", "nowhere.csv"], "nowhere.csv"),
    (["--eval"], "--eval without a checkpoint"),
])
def test_flags_that_cannot_work(annotated: Path, tmp_path: Path, capsys, more: list[str], expected: str) -> None:
    refuses(capsys, expected, flags(annotated, tmp_path / "out", *more))
    assert not list(tmp_path.rglob("*.pth"))


def test_training_needs_annotations_to_train_on(annotated: Path, tmp_path: Path, capsys) -> None:
    arguments = flags(annotated, tmp_path)
    place = arguments.index("--train-ann")
    refuses(capsys, "no --train-ann", arguments[:place] + arguments[place + 2:])


def test_a_checkpoint_of_other_labels_is_refused(annotated: Path, trained: Path, tmp_path: Path, capsys) -> None:
    mine = shutil.copytree(annotated, tmp_path / "set")
    (mine / "train.csv").write_text((mine / "train.csv").read_text().replace("Otto_Dots", "Odo_Dots"))
    for more in (["--resume", trained / "checkpoint.pth"], ["--resume", trained / "model_best.pth", "--eval"]):
        refuses(capsys, "class 1 is 'Odo_Dots' where 'Otto_Dots' is expected",
                flags(mine, tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


def test_the_other_trainers_checkpoint_is_refused(annotated: Path, tmp_path: Path, capsys) -> None:
    assert train(annotated, tmp_path / "run") == 0
    content = torch.load(tmp_path / "run" / "checkpoint.pth", weights_only=True)
    del content["config"]["task"]
    torch.save(content, tmp_path / "single.pth")
    capsys.readouterr()
    refuses(capsys, "another trainer", flags(annotated, tmp_path / "out", "--resume", tmp_path / "single.pth"))
