"""The single-label trainer as users run it: its files, and its answers to bad input."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import timm
import torch

from runtime.checkpoint import read_checkpoint, save_checkpoint
from tests.conftest import MODEL
from tests.pictures import write_data_set
from train_artist_style import main

HEADLINE = re.compile(r"^\* top-1 (\d+\.\d{3}) top-5 (\d+\.\d{3}) loss (\d+\.\d{4})$", re.MULTILINE)
FAST = ["--input-size", "32", "--epochs", "1", "--batch-size", "8", "--num-workers", "0"]


def train(data_set: Path, output: Path, *more: object, model: str = MODEL) -> int:
    return main(["--model", model, "--data-path", str(data_set), "--output-dir", str(output), *FAST, *map(str, more)])


@pytest.fixture(scope="module")
def lsnet(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of LSNet with switches of all kinds."""
    output = tmp_path_factory.mktemp("lsnet") / "run"
    assert train(data_set, output, "--feature-dim", 64, "--use-projection", "--fit", "pad", "--mixup", 0.8,
                 "--cutmix", 1.0, "--aa", "rand-m9-mstd0.5-inc1", "--reprob", 0.25, "--no-model-ema", "--finetune",
                 "--clip-mode", "agc", "--clip-grad", 0.02, "--drop-path", 0.1, "--accumulation-steps", 2,
                 model="lsnet_t_artist") == 0
    return output


def test_a_run_leaves_every_promised_file(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names >= {"checkpoint.pth", "model_best.pth", "best_checkpoint.pth", "class_mapping.csv", "config.json",
                     "model.safetensors", "train_log.txt", "metrics.jsonl", "report.csv", "curves.png", "tensorboard"}
    with open(trained / "class_mapping.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["class_id", "class_name"], *([str(n), f"artist_{n}"] for n in range(3))]
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert len(HEADLINE.findall((trained / "train_log.txt").read_text())) == 2
    assert read_checkpoint(trained / "checkpoint.pth").content["epoch"] == 2


def test_the_output_folder_is_a_model_for_timm(trained: Path) -> None:
    network = timm.create_model(f"local-dir:{trained}", pretrained=True).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(("run", "model"), [("trained", MODEL), ("lsnet", "lsnet_t_artist")])
def test_evaluation_repeats_the_best_figures(request: pytest.FixtureRequest, data_set: Path, capsys, run: str,
                                             model: str) -> None:
    folder = request.getfixturevalue(run)
    assert main(["--eval", "--resume", str(folder / "best_checkpoint.pth"), "--model", model,
                 "--data-path", str(data_set), "--num-workers", "0", "--batch-size", "5"]) == 0
    top1, _, loss = HEADLINE.findall(capsys.readouterr().out)[-1]
    best = read_checkpoint(folder / "model_best.pth").content
    assert float(top1) == pytest.approx(best["best_metric"], abs=1e-3)
    assert float(loss) == pytest.approx(best["metrics"]["loss"], abs=1e-3)


def test_resume_auto_starts_afresh_and_goes_on(data_set: Path, tmp_path: Path, capsys) -> None:
    assert train(data_set, tmp_path, "--resume", "auto") == 0
    assert "resumed" not in capsys.readouterr().out
    assert train(data_set, tmp_path, "--resume", "auto", "--epochs", 2) == 0
    assert re.search(r"was begun with: --epochs \d+ is now 2; only(.|\n)*resumed", capsys.readouterr().out)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_finished_run_says_so_and_is_left_alone(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    latest = trained / "checkpoint.pth"
    for epochs in (2, 1):
        assert train(data_set, tmp_path / "new", "--epochs", epochs, "--resume", latest) == 0
        assert capsys.readouterr().out.endswith(
            f"finished already: {latest} has 2 of {epochs} epochs; raise --epochs to go on\n")
    assert not (tmp_path / "new").exists()


def test_a_run_resumed_in_another_folder_ends_with_its_best_network(trained: Path, data_set: Path, tmp_path: Path,
                                                                    capsys) -> None:
    shutil.copytree(trained, tmp_path / "old")
    for name in ("checkpoint.pth", "model_best.pth"):
        content = {**read_checkpoint(tmp_path / "old" / name).content, "best_metric": 101.0}
        save_checkpoint(tmp_path / "old" / name, content)
    assert train(data_set, tmp_path / "new", "--epochs", 3, "--resume", tmp_path / "old" / "checkpoint.pth") == 0
    out = capsys.readouterr().out
    assert f"the best network so far comes along from {tmp_path / 'old'}\n" in out
    assert f"\nbest top-1 101.000; everything is in {tmp_path / 'new'}\nnext: " in out
    files = ("model_best.pth", "best_checkpoint.pth", "model.safetensors", "config.json", "report.csv")
    assert all((tmp_path / "new" / name).read_bytes() == (tmp_path / "old" / name).read_bytes() for name in files)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "new" / "metrics.jsonl").open()] == [1, 2, 3]


def test_the_small_recipe_yields_to_flags_and_is_kept_by_a_resume(data_set: Path, tmp_path: Path, capsys) -> None:
    assert train(data_set, tmp_path / "run", "--recipe", "small") == 0
    out = capsys.readouterr().out
    assert "and without it" not in out
    assert "--scale 0.05 0.5 --color-jitter 0" in out
    assert train(data_set, tmp_path / "run", "--resume", "auto", "--epochs", 2) == 0
    content = read_checkpoint(tmp_path / "run" / "checkpoint.pth").content
    saved = content["config"]["options"]
    assert (content["epoch"], saved["input_size"], saved["scale"], saved["head"]) == (2, 32, (0.05, 0.5), "style")
    assert content["config"]["model_args"]["style_head"] == "both"
    assert train(data_set, tmp_path / "plain") == 0
    assert "without it, add --recipe small\n" in capsys.readouterr().out


def test_a_second_run_keeps_the_first(trained: Path, data_set: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(trained, tmp_path / "run")
    first = (mine / "checkpoint.pth").read_bytes()
    assert train(data_set, mine, "--seed", 7) == 0
    assert (mine / "previous_1" / "checkpoint.pth").read_bytes() == first


def test_finetuning_keeps_the_rows_of_known_artists(trained: Path, tmp_path: Path, capsys) -> None:
    other = write_data_set(tmp_path / "other", artists=2)
    (other / "train" / "artist_0").rename(other / "train" / "new_artist")
    (other / "val" / "artist_0").rename(other / "val" / "new_artist")
    assert train(other, tmp_path / "out", "--finetune-from", trained / "model_best.pth", "--head-init", "none", "--lr",
                 "1e-12", "--warmup-epochs", 0, "--min-lr", 0, "--weight-decay", 0) == 0
    assert "1 of 2 artists" in capsys.readouterr().out
    old, new = read_checkpoint(trained / "model_best.pth"), read_checkpoint(tmp_path / "out" / "model_best.pth")
    assert new.classes == ["artist_1", "new_artist"]
    torch.testing.assert_close(new.model["classifier.weight"][0], old.model["classifier.weight"][1], atol=1e-6, rtol=0)
    torch.testing.assert_close(new.model["conv_stem.weight"], old.model["conv_stem.weight"], atol=1e-6, rtol=0)


def test_finetuning_at_another_input_size_resamples_the_position_biases(lsnet: Path, tmp_path: Path) -> None:
    few = write_data_set(tmp_path / "few", train=2, val=1)
    assert train(few, tmp_path / "out", "--finetune-from", lsnet / "model_best.pth", "--input-size", 96,
                 model="lsnet_t_artist") == 0
    best = read_checkpoint(tmp_path / "out" / "model_best.pth")
    assert best.config["preprocessing"]["input_size"] == 96
    assert {tensor.shape[1] for key, tensor in best.model.items() if key.endswith("attention_biases")} == {4}  # 2 x 2


def test_switches_reach_the_network_and_the_checkpoint(lsnet: Path) -> None:
    checkpoint = read_checkpoint(lsnet / "checkpoint.pth")
    assert checkpoint.config["model_args"] == {"feature_dim": 64, "img_size": 32, "drop_path_rate": 0.1}
    assert checkpoint.config["preprocessing"]["fit"] == "squash"
    assert checkpoint.content["model_ema"] is None
    assert checkpoint.content["per_update"] == 16


def test_any_timm_model_trains(data_set: Path, tmp_path: Path) -> None:
    assert train(data_set, tmp_path, model="test_resnet.r160_in1k") == 0
    assert read_checkpoint(tmp_path / "checkpoint.pth").config["architecture"] == "test_resnet.r160_in1k"


def test_damaged_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    data_set = write_data_set(tmp_path / "data")
    (data_set / "train" / "artist_0" / "train_1.png").write_bytes(b"")
    (data_set / "val" / "artist_1" / "val_2.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert train(data_set, tmp_path / "out") == 0
    log = (tmp_path / "out" / "train_log.txt").read_text()
    assert re.search(r"left out: .*train_1\.png \(.+\)", log)
    assert re.search(r"left out: .*val_2\.png \(.+\)", log)
    assert "23 pictures to train and 11 to validate" in log


# ---- bad input: one line, exit code 2, nothing lost ----


def refuses(capsys, expected: str, *arguments: object) -> None:
    assert main([str(argument) for argument in arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1, told
    assert re.search(expected, told), told
    assert "found" in told
    assert "expected" in told


@pytest.mark.parametrize(("flags", "expected"), [
    (["--epochs", "0"], "--epochs 0.*at least 1"),
    (["--model", "lsnet_t_artst"], "lsnet_t_artst.*lsnet_t_artist"),
    (["--opt", "adamm"], "--opt adamm"),
    (["--aa", "foo"], "--aa foo"),
    (["--device", "cuda:99"], "--device cuda:99"),
    (["--device", "tpu"], "--device tpu"),
    (["--use-projection"], "--feature-dim"),
    (["--no-projection", "--feature-dim", "64"], "--no-projection"),
    (["--model", "resnet18", "--feature-dim", "64"], "projection"),
    (["--eval"], "--resume"),
    (["--resume", "nowhere.pth"], "no file nowhere.pth"),
    (["--finetune-from", "nowhere.pth"], "no file nowhere.pth"),
    (["--lr", "nan"], "--lr nan"),
    (["--input-size", "31"], "--input-size 31"),
    (["--batch-size", "1"], "at least 2 pictures"),
    (["--epoch", "3"], "--epochs"),
])
def test_flags_that_cannot_work(data_set: Path, tmp_path: Path, capsys, flags: list[str], expected: str) -> None:
    refuses(capsys, expected, "--data-path", data_set, "--output-dir", tmp_path / "out", *FAST, *flags)
    assert not list(tmp_path.rglob("*.pth"))


def test_data_sets_that_cannot_work(tmp_path: Path, capsys) -> None:
    one = write_data_set(tmp_path / "one", artists=1)
    no_val = write_data_set(tmp_path / "no_val")
    shutil.rmtree(no_val / "val")
    bare_val = write_data_set(tmp_path / "bare_val", val=0)
    empty = write_data_set(tmp_path / "empty")
    (empty / "train" / "artist_9").mkdir()
    stranger = write_data_set(tmp_path / "stranger")
    shutil.copytree(stranger / "val" / "artist_0", stranger / "val" / "artist_9")
    single = write_data_set(tmp_path / "single", artists=2, train=1, val=1)
    (single / "train" / "artist_1" / "train_0.png").write_bytes(b"bad")
    for root, expected in ((tmp_path / "missing", "no folder"), (one, "one class"), (no_val, "no folder.*val"),
                           (bare_val, "no picture in"), (empty, "no picture in.*artist_9"),
                           (stranger, "artist_9.*training set lacks"), (single, r"one class \(artist_0\) with")):
        refuses(capsys, expected, "--data-path", root, "--output-dir", tmp_path / "out", *FAST)


def test_a_batch_larger_than_the_data_set_becomes_the_data_set(data_set: Path, tmp_path: Path, capsys) -> None:
    assert train(data_set, tmp_path, "--batch-size", 1000) == 0
    assert "1 update of 24 pictures" in capsys.readouterr().out


def test_resuming_with_other_artists_or_another_network_is_refused(trained: Path, data_set: Path, tmp_path: Path,
                                                                   capsys) -> None:
    mine = tmp_path / "run"
    shutil.copytree(trained, mine)
    before = {path: path.read_bytes() for path in mine.glob("*.*")}
    other = write_data_set(tmp_path / "other", artists=4)
    common = ["--output-dir", mine, *FAST, "--resume", mine / "checkpoint.pth"]
    refuses(capsys, "class 3.*artist_3", "--data-path", other, *common)
    refuses(capsys, f"holds {MODEL}", "--data-path", data_set, *common, "--model", "lsnet_s_artist")
    refuses(capsys, "--input-size 64", "--data-path", data_set, *common, "--input-size", 64)
    refuses(capsys, "feature_dim", "--data-path", data_set, *common, "--feature-dim", 64)
    (mine / "checkpoint.pth").write_bytes((mine / "checkpoint.pth").read_bytes()[:1000])
    refuses(capsys, "checkpoint.pth.*damaged", "--data-path", data_set, *common)
    del before[mine / "checkpoint.pth"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_contradicting_class_mapping_is_named_and_kept(trained: Path, tmp_path: Path, capsys) -> None:
    mine = shutil.copytree(trained, tmp_path / "run")
    mapping = (mine / "class_mapping.csv").read_text()
    other = write_data_set(tmp_path / "other", artists=4)
    assert train(other, mine) == 0
    assert re.search("warning: .*class 3", capsys.readouterr().out)
    assert (mine / "previous_1" / "class_mapping.csv").read_text() == mapping


# ---- distillation ----


@pytest.mark.parametrize("kind", ["soft", pytest.param("hard", marks=pytest.mark.exhaustive)])  # and in test_main
def test_a_taught_student_has_a_head_for_its_teacher_and_reloads(data_set: Path, tmp_path: Path, kind: str) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert train(data_set, teacher, "--input-size", 64, model="test_resnet") == 0
    assert train(data_set, student, "--teacher-path", teacher / "model_best.pth", "--distillation-type", kind,
                 "--distillation-alpha", 0.7, "--distillation-tau", 2, model="lsnet_t_artist") == 0
    best = read_checkpoint(student / "best_checkpoint.pth")
    assert best.resolve().architecture.model_args["distillation"] is True
    assert "head_dist.l.weight" in best.model
    assert main(["--eval", "--resume", str(best.path), "--data-path", str(data_set), "--num-workers", "0"]) == 0


def test_a_teacher_that_cannot_teach_is_refused(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    common = ["--data-path", data_set, "--output-dir", tmp_path / "out", *FAST]
    other = write_data_set(tmp_path / "other", artists=4)
    teacher = trained / "model_best.pth"
    refuses(capsys, "class 3", "--data-path", other, "--output-dir", tmp_path / "out", *FAST, "--teacher-path", teacher)
    refuses(capsys, "without a teacher", *common, "--distillation-type", "soft")
    refuses(capsys, "distillation-type none", *common, "--teacher-path", teacher, "--distillation-type", "none")
    refuses(capsys, "no teacher", *common, "--model", "lsnet_t_distill")
    refuses(capsys, "no file", *common, "--teacher-path", tmp_path / "nowhere.pth")


@pytest.mark.parametrize("flags", [
    ["--sampler", "sqrt", "--logit-adjustment", "1"],
    ["--contrastive-weight", "0.5", "--sampler", "balanced", "--freeze-backbone", "1", "--epochs", "2"],
], ids=["logit-adjustment", "contrastive"])
def test_long_tails_are_taught_by_flags(data_set: Path, tmp_path: Path, flags: list[str]) -> None:
    assert train(data_set, tmp_path / "whole", *flags) == 0
    best = read_checkpoint(tmp_path / "whole" / "model_best.pth")
    assert best.config["options"]["sampler"] == flags[flags.index("--sampler") + 1]
    assert main(["--eval", "--resume", str(best.path), "--data-path", str(data_set), "--num-workers", "0"]) == 0


@pytest.mark.parametrize(("flags", "found"), [
    (["--contrastive-weight", 1, "--mixup", 0.2], "--contrastive-weight with --mixup"),
    (["--logit-adjustment", 1, "--sampler", "balanced"], "--logit-adjustment with --sampler balanced")])
def test_long_tail_flags_that_contradict_are_refused(data_set: Path, tmp_path: Path, capsys, flags: list,
                                                     found: str) -> None:
    assert train(data_set, tmp_path / "refused", *flags) == 2
    assert found in capsys.readouterr().err
    assert not (tmp_path / "refused").exists()


def test_a_frozen_backbone_keeps_the_weights_it_came_with(trained: Path, data_set: Path, tmp_path: Path) -> None:
    before = read_checkpoint(trained / "model_best.pth").model
    assert train(data_set, tmp_path, "--finetune-from", trained, "--freeze-backbone", 1) == 0
    after = read_checkpoint(tmp_path / "checkpoint.pth").model
    moved = {key for key in before if not before[key].equal(after[key])}
    assert moved
    assert all(key.startswith("classifier.") for key in moved)
