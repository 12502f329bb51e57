"""train_detection.py and train_segmentation.py: resumed to the bit, the same on two processes, and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import inference_artist
import train_artist_style
import train_detection
import train_segmentation
from data.images import picture_size
from detection.architecture import dense_network
from detection.published import published_key
from detection.training import DetectionSpec
from runtime.checkpoint import read_checkpoint
from tests.detection.published_keys import TABLES, seeded
from tests.detection.sets import CLASSES, write_ade20k, write_coco
from tests.forked import UNDRAWN, finish, run, start_ranks
from tests.hub_cache import fill_hub_cache, use_hub_cache

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
FAST = ["--model", "test_resnet", "--channels", 16, "--input-size", 64, "--num-workers", 0]
TASKS = ("boxes", "instances", "semantic")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of data sets, of 8 pictures to train and 4 to validate. Tests leave them as they are."""
    root = tmp_path_factory.mktemp("sets")
    write_coco(root, "train", 8, seed=0)
    write_coco(root, "val", 4, seed=1)
    write_ade20k(root / "ade", train=8, val=4)
    return root


@pytest.fixture(scope="module")
def trained(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each task the output folder of two epochs, with the checkpoint of the first. Tests leave them as they are."""
    folders = {task: tmp_path_factory.mktemp(task) / "run" for task in TASKS}
    for task, folder in folders.items():
        assert train(task, sets, folder, "--epochs", 2, "--save-every", 1) == 0
    return folders


def script(task: str) -> ModuleType:
    return train_segmentation if task == "semantic" else train_detection


def flags(task: str, sets: Path, *, evaluates: bool = False) -> list[object]:
    """What the data and the task need."""
    if task == "semantic":
        return ["--data-path", sets / "ade", *([] if evaluates else ["--crop", 80])]
    train = [] if evaluates else ["--train-ann", sets / "train.json", "--train-images", sets / "train"]
    return ["--task", task, "--data-path", sets, *train, "--val-ann", sets / "val.json", "--val-images", sets / "val",
            *(["--rois", 16] if task == "instances" and not evaluates else [])]


def train(task: str, sets: Path, output: Path, *more: object) -> int:
    return script(task).main(list(map(str, [*flags(task, sets), *FAST, "--output-dir", output, *more])))


def evaluate(task: str, sets: Path, checkpoint: Path) -> int:
    return script(task).main(list(map(str, [*flags(task, sets, evaluates=True), "--num-workers", 0, "--eval",
                                            "--resume", checkpoint])))


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def different(one: Path, other: Path) -> list[str]:
    first, second = read_checkpoint(one).model, read_checkpoint(other).model
    assert first.keys() == second.keys()
    return [key for key in first if not torch.equal(first[key], second[key])]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_what_every_trainer_leaves(task: str, trained: dict[str, Path]) -> None:
    names = {path.name for path in trained[task].iterdir()}
    assert names >= {"checkpoint.pth", "checkpoint_1.pth", "model_best.pth", "best_checkpoint.pth", "config.json",
                     "model.safetensors", "class_mapping.csv", "train_log.txt", "metrics.jsonl"}
    config = json.loads((trained[task] / "config.json").read_text())
    assert config["label_names"] == list(CLASSES)
    found = timm.create_model(f"local-dir:{trained[task]}", pretrained=True).state_dict()
    best = read_checkpoint(trained[task] / "model_best.pth").model
    assert found.keys() == best.keys()
    assert all(torch.equal(value, best[key]) for key, value in found.items())


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_ends_with_the_same_bits(task: str, sets: Path, trained: dict[str, Path], tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(trained[task] / "checkpoint_1.pth", tmp_path / "checkpoint.pth")
    assert train(task, sets, tmp_path, "--epochs", 2, "--resume", "auto") == 0
    assert "resumed" in capsys.readouterr().out
    assert different(trained[task] / "checkpoint_1.pth", tmp_path / "checkpoint.pth")
    assert different(trained[task] / "checkpoint.pth", tmp_path / "checkpoint.pth") == []
    assert records(tmp_path)[-1].items() >= {
        key: value for key, value in records(trained[task])[-1].items() if key.startswith(("val_", "train_"))}.items()
    assert train(task, sets, tmp_path, "--epochs", 2, "--resume", "auto") == 0
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["model_best.pth", "model.safetensors"])
def test_evaluation_gives_the_figures_of_training(task: str, name: str, sets: Path, trained: dict[str, Path],
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert evaluate(task, sets, trained[task] / name) == 0
    said = capsys.readouterr().out
    best = max(records(trained[task]), key=lambda record: record["val_miou" if task == "semantic" else "val_box_ap"])
    for figure in ("miou", "aacc", "macc") if task == "semantic" else ("box_ap", "box_ap50", "box_ap75"):
        assert f"{best[f'val_{figure}']:.2f}" in said
    assert "next: " in said


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="tests of several processes use POSIX signals")
@pytest.mark.parametrize("task", ["instances", "semantic"])
def test_two_processes_learn_what_one_learns(task: str, sets: Path, tmp_path: Path) -> None:
    for processes, batch_size in ((1, 4), (2, 2)):  # batch norms would see other pictures; samplers draw for each rank
        finish(start_ranks(processes, script(task).__name__ + ".py", *flags(task, sets), *FAST, "--batch-size",
                           batch_size, "--epochs", 1, "--freeze-bn", "--dist-eval", "--model-ema", "--output-dir",
                           tmp_path / str(processes), cwd=tmp_path, env=UNDRAWN))
    one, two = (records(tmp_path / name)[0] for name in "12")
    assert one["train_loss"] == pytest.approx(two["train_loss"], rel=0.1)
    assert one.keys() == two.keys()
    assert one["val_pictures"] == two["val_pictures"] == 4


def test_as_a_newcomer_types_it_with_autocast(sets: Path, tmp_path: Path) -> None:
    done = run("train_detection.py", *flags("instances", sets), *FAST, "--epochs", 1, "--amp", "bf16", "--model-ema",
               "--output-dir", "out", cwd=tmp_path, env=UNDRAWN)
    assert done.returncode == 0, done.stderr
    assert "* box AP " in done.stdout
    assert "everything is in out" in done.stdout


def test_bad_annotations_are_said_and_training_goes_on(sets: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(sets / "train", tmp_path / "train")
    content = json.loads((sets / "train.json").read_text())
    content["annotations"] += [{"id": 901, "image_id": 1, "category_id": 3, "bbox": [0, 0, 0, 5]},
                               {"id": 902, "image_id": 777, "category_id": 3, "bbox": [0, 0, 5, 5]}]
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "train" / "003.png").write_bytes(b"no picture")
    assert train("boxes", sets, tmp_path / "run", "--epochs", 1, "--train-ann", tmp_path / "train.json",
                 "--train-images", tmp_path / "train") == 0
    said = capsys.readouterr().out
    assert "annotation 901 (000.png): left out, with a box without area" in said
    assert "annotation 902 (image 777): left out, of a picture that is not listed" in said
    assert "003.png (no picture in a known format)" in said


@pytest.mark.parametrize("task", ["boxes", "semantic"])
def test_pictures_that_do_not_fit_their_annotations_never_stop_it(task: str, sets: Path, tmp_path: Path,
                                                                   capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(sets, tmp_path / "sets")
    folder = tmp_path / "sets" / ("ade/annotations/training" if task == "semantic" else "train")
    for path in sorted(folder.glob("*.png"))[:6]:
        Image.new("L", (5, 6)).save(path)
    assert train(task, tmp_path / "sets", tmp_path / "run", "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert said.count("left out: ") == 6
    assert "2 pictures to train" in said


def test_the_first_picture_may_lie_on_its_side(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(tmp_path / "x.jpg", exif=exif)
    assert picture_size(tmp_path / "x.jpg") == (20, 10)
    Image.new("RGB", (20, 10)).save(tmp_path / "y.jpg")
    assert picture_size(tmp_path / "y.jpg") == (10, 20)


# ---- where the weights come from -------------------------------------------------------------------------------------


def source(name: str, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A classifier's file, with another number of classes, and its weights."""
    torch.manual_seed(3)
    network = timm.create_model(name, num_classes=7)
    path = tmp_path / f"{name}.pth"
    torch.save({"model": network.state_dict(), "args": {"model": name}}, path)
    return path, network.state_dict()


@pytest.mark.parametrize("name", ["test_resnet", "lsnet_t"])
def test_the_backbone_of_a_classifier_is_taken_whole(name: str, sets: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    path, state = source(name, tmp_path)
    assert train("boxes", sets, tmp_path / "run", "--model", name, "--finetune-from", path, "--lr", 1e-15,
                 "--warmup-lr", 0, "--weight-decay", 0, "--epochs", 1, "--batch-size", 8) == 0
    assert "beginning with the backbone of" in capsys.readouterr().out
    found = read_checkpoint(tmp_path / "run" / "checkpoint.pth").model
    body = {key.removeprefix("backbone.body.").removeprefix("model."): value for key, value in found.items()
            if key.startswith("backbone.body.")}
    assert set(body) < set(state)
    tables = [key for key in body if "attention_bias" in key]
    assert [key for key in body if key not in tables and not torch.allclose(body[key], state[key])] == []
    assert all(body[key].shape[1] == 196 for key in tables)
    assert (name == "lsnet_t") == bool(tables)


def test_the_backbone_of_another_dense_task_is_taken(sets: Path, trained: dict[str, Path], tmp_path: Path) -> None:
    assert train("boxes", sets, tmp_path / "run", "--finetune-from", trained["semantic"], "--lr", 1e-15, "--warmup-lr",
                 0, "--weight-decay", 0, "--epochs", 1) == 0
    found, begun = (read_checkpoint(path).model for path in (tmp_path / "run" / "checkpoint.pth", trained["semantic"]))
    body = {key: value for key, value in found.items() if key.startswith("backbone.body.")}
    assert [key for key in body if not torch.allclose(body[key].float(), begun[key].float())] == []


def test_published_weights_of_a_backbone(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "bare.safetensors")
    fill_hub_cache(tmp_path / "hub", "test_resnet", tmp_path / "bare.safetensors")
    use_hub_cache(monkeypatch, tmp_path / "hub")
    assert train("boxes", sets, tmp_path / "run", "--pretrained", "--lr", 1e-15, "--warmup-lr", 0, "--weight-decay", 0,
                 "--epochs", 1) == 0
    found = read_checkpoint(tmp_path / "run" / "checkpoint.pth")
    body = {key.removeprefix("backbone.body."): value for key, value in found.model.items() if ".body." in key}
    assert [key for key in body if not torch.allclose(body[key].float(), state[key].float())] == []
    assert found.saved.options["freeze_bn"] is True  # so the statistics are those of the file, too


def test_a_published_detector_is_taken_whole_or_its_backbone(tmp_path: Path) -> None:
    state = seeded(TABLES["boxes"]("lsnet_t"))
    spec = DetectionSpec(train_detection.build_parser().read(["--data-path", ".", "--val-ann", "x"]))
    own_names = [str(number) for number in range(80)]
    for named, classes, told in (
            (None, 80, "all of it; it names no classes, so their order was not checked"), (None, 4, "heads are new"),
            (own_names, 80, "epoch_12.pth, all of it"),
            (own_names[::-1], 80, "heads are new, as its classes are 79, 78"),
            (own_names, 4, "heads are new, as its classes are 0, 1")):
        whole = "all of it" in told
        torch.save({"state_dict": state, "meta": {"CLASSES": named}}, tmp_path / "epoch_12.pth")
        checkpoint = read_checkpoint(tmp_path / "epoch_12.pth")
        network = dense_network(backbone="lsnet_t", dense_task="boxes", num_classes=classes)
        line = spec.load_source(network, checkpoint, own_names[:classes])
        assert told in line
        assert ("not checked" in line) == ("not checked" in told)
        own = {published_key("boxes", key)[0]: value for key, value in network.state_dict().items()}
        architecture, _ = spec.choose_network(classes, None, checkpoint)
        assert architecture.model_args["anchor_scale"] == 1
        same = {key for key, value in own.items() if torch.equal(value, state[key])}
        assert (same == set(state)) == whole
        assert same >= {key for key in state if key.startswith("backbone.")}


@pytest.mark.parametrize(("more", "scale"), [
    ([], 1), (["--input-size", "128"], 0.5), (["--input-size", "600"], 0.75), (["--input-size", "1200"], 1),
    (["--input-size", "128", "--anchor-scale", "0.8"], 0.8)])
def test_anchors_shrink_with_small_pictures(more: list[str], scale: float) -> None:
    spec = DetectionSpec(train_detection.build_parser().read(["--data-path", ".", "--val-ann", "x", *more]))
    architecture, _ = spec.choose_network(3, None, None)
    assert architecture.model_args["anchor_scale"] == scale


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("more", "found"), [
    (["--task", "circles"], "--task 'circles'"), (["--rois", "16"], "--rois with --task boxes"),
    (["--channels", "20"], "--channels 20"), (["--model", "vit_tiny_patch16_224"], "takes pictures of one size"),
    (["--model", "nothing"], "the unknown model nothing"), (["--train-ann", "absent.json"], "absent.json"),
    (["--val-images", "absent"], "no folder absent"), (["--train-images", "."], "none is in ."),
    (["--smoothing", "0.1"], "the unknown argument --smoothing"), (["--head-init", "probe"], "--head-init"),
    (["--resume", "absent.pth"], "no file absent.pth"), (["--pretrained", "--finetune-from", "x"], "--pretrained with"),
    (["--input-size", "16"], "--input-size 16"), (["--eval"], "--eval without a checkpoint")])
def test_wrong_input_is_one_line(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capsys: pytest.CaptureFixture[str], more: list[str], found: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("boxes", sets, Path("run"), *more) == 2
    said = capsys.readouterr().err
    assert found in said
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("run/*.*"))


def test_without_the_package_it_ends_before_it_trains(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert train("boxes", sets, tmp_path / "run") == 2
    assert "pip install -r requirements-detection.txt" in capsys.readouterr().err
    assert not (tmp_path / "run" / "train_log.txt").exists()


def test_nothing_to_learn_from_is_an_error(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text(json.dumps({**json.loads((sets / "train.json").read_text()), "annotations": []}))
    assert train("boxes", sets, tmp_path / "run", "--train-ann", tmp_path / "x.json") == 2
    assert "8 training pictures without a single object" in capsys.readouterr().err
    assert script("boxes").main(["--data-path", str(sets), "--val-ann", str(sets / "val.json")]) == 2
    assert "no --train-ann" in capsys.readouterr().err


@pytest.mark.parametrize(("task", "more", "found"), [
    ("instances", ["--channels", 32], "--channels 32; expected 16"), ("boxes", [], "--task boxes; expected instances"),
    ("instances", ["--anchor-scale", 1], "--anchor-scale 1.0; expected 0.5"),
    ("instances", ["--input-size", 96], "--input-size 96; expected 64"), ("semantic", [], "of another trainer"),
    ("semantic", ["--crop", 96], "--crop 96; expected 80")])
def test_a_resumed_run_cannot_become_another(task: str, more: list[object], found: str, sets: Path,
                                             trained: dict[str, Path], tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = trained["semantic" if "--crop" in more else "instances"] / "checkpoint.pth"
    assert train(task, sets, tmp_path / "run", "--resume", checkpoint, "--epochs", 3, *more) == 2
    assert found in capsys.readouterr().err


def test_commands_for_artists_refuse_it(trained: dict[str, Path], data_set: Path, tmp_path: Path,
                                        capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = str(trained["instances"] / "model_best.pth")
    assert inference_artist.main(["--checkpoint", checkpoint, "--input", str(data_set / "val"), "--output",
                                  str(tmp_path / "out")]) == 2
    assert "which finds objects or regions" in capsys.readouterr().err
    assert train_artist_style.main(["--data-path", str(data_set), "--resume", checkpoint, "--output-dir",
                                    str(tmp_path / "run")]) == 2
    assert "of another trainer" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"num_classes": 10**6}, {"model_args": {"dense_task": "boxes", "channels": 1024}}])
def test_a_file_that_claims_another_size_than_its_tensors_is_refused(change: dict, sets: Path, tmp_path: Path,
                                                                      trained: dict[str, Path],
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(trained["boxes"] / "model_best.pth", weights_only=True)
    content["config"] |= change
    torch.save(content, tmp_path / "x.pth")
    assert evaluate("boxes", sets, tmp_path / "x.pth") == 2
    assert "but tensors of" in capsys.readouterr().err
