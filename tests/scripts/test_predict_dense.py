"""predict_detection.py and predict_segmentation.py: files that score as the trainers say, cut-outs, and odd input."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import predict_detection
import predict_segmentation
import train_detection
import train_segmentation
from data.images import decode_image, decode_labels
from detection.masks import library
from runtime.checkpoint import read_checkpoint
from tests.detection.sets import CLASSES, IDS, write_ade20k, write_coco
from tests.forked import leave_drawings_out, run

pytest.importorskip("faster_coco_eval", reason="the packages of requirements-detection.txt are not installed")
TASKS = ("boxes", "instances", "semantic")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both kinds of data sets, of four pictures to train and four to validate. Tests leave them as they are."""
    root = tmp_path_factory.mktemp("sets")
    write_coco(root, "train", 4, seed=0)
    write_coco(root, "val", 4, seed=1)
    write_ade20k(root / "ade", train=4, val=4)
    return root


@pytest.fixture(scope="module")
def networks(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each task model_best.pth of one epoch; detectors are made to find something. Tests leave them as they are."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        leave_drawings_out(patch)
        for task in TASKS:
            folder = tmp_path_factory.mktemp(task) / "run"
            assert train(task, sets, folder) == 0
            found[task] = folder / "model_best.pth"
            content = torch.load(found[task], weights_only=True)
            if task == "boxes":
                content["model"]["head.classification_head.cls_logits.bias"][:] = -1
            elif task == "instances":
                bias = content["model"]["roi_heads.box_predictor.cls_score.bias"]
                bias[:] = torch.tensor([-1, 0, 1, 0, 0])  # the background comes first
            torch.save(content, found[task])
    return found


def train(task: str, sets: Path, output: Path) -> int:
    fast = ["--model", "test_resnet", "--channels", 16, "--input-size", 64, "--num-workers", 0, "--epochs", 1,
            "--output-dir", output]
    if task == "semantic":
        return train_segmentation.main(list(map(str, ["--data-path", sets / "ade", "--crop", 80, *fast])))
    rois = ["--rois", 16] if task == "instances" else []
    return train_detection.main(list(map(str, [
        "--task", task, "--data-path", sets, "--train-ann", sets / "train.json", "--train-images", sets / "train",
        "--val-ann", sets / "val.json", "--val-images", sets / "val", *rois, *fast])))


def detect(network: Path, *words: object) -> int:
    return predict_detection.main(list(map(str, ["--checkpoint", network, *words])))


def segment(network: Path, *words: object) -> int:
    return predict_segmentation.main(list(map(str, ["--checkpoint", network, *words])))


# ---- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["boxes", "instances"])
def test_results_score_as_the_trainer_says(task: str, sets: Path, networks: dict[str, Path], tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(networks[task], "--inputs", sets / "val", "--ann", sets / "val.json", "--output",
                  tmp_path / "x.json") == 0
    results = json.loads((tmp_path / "x.json").read_text())
    assert {each["category_id"] for each in results} <= set(IDS)
    assert ("segmentation" in results[0]) == (task == "instances")
    capsys.readouterr()
    assert train_detection.main(list(map(str, [
        "--eval", "--resume", networks[task], "--task", task, "--data-path", sets, "--val-ann", sets / "val.json",
        "--val-images", sets / "val", "--batch-size", 1, "--num-workers", 0]))) == 0
    told = capsys.readouterr().out
    package = library()
    truth = package.COCO(str(sets / "val.json"))
    for kind in ("bbox", "segm") if task == "instances" else ("bbox",):
        evaluation = package.COCOeval_faster(truth, truth.loadRes(str(tmp_path / "x.json")), kind)
        evaluation.run()
        assert f"AP {100 * evaluation.stats[0]:.2f} AP50 {100 * evaluation.stats[1]:.2f}" in told


def test_as_a_newcomer_types_it(sets: Path, networks: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sets / "val", tmp_path / "pages" / "Dürer")
    (tmp_path / "pages" / "Dürer" / "001.png").write_bytes(b"no picture")
    done = run("predict_detection.py", "--checkpoint", networks["instances"], "--inputs", "pages", "--output",
               "found.json", "--min-score", 0.1, "--categories", "disc", "ring", "--draw", "drawn", "--labelme", "lm",
               "--crop-to", "cut", "--crop-padding", 0.1, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("not read: ") == 1
    assert "Dürer/001.png (no picture in a known format)" in done.stderr
    assert "3 of 4 pictures; results are in found.json" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("inference_artist.py --checkpoint YOUR_RUN/model_best.pth --input cut")
    results, images = (json.loads((tmp_path / f"found{end}.json").read_text()) for end in ("", "_images"))
    assert [image["file_name"] for image in images["images"]] == [f"Dürer/00{number}.png" for number in (0, 2, 3)]
    assert images["errors"] == [{"file_name": "Dürer/001.png", "error": "no picture in a known format"}]
    assert [category["name"] for category in images["categories"]] == list(CLASSES)
    with open(tmp_path / "cut" / "crops.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [each for each in results if each["score"] >= 0.1 and CLASSES[each["category_id"] - 1] in ("disc", "ring")]
    assert len(rows) == len(kept) > 0
    for row in rows:
        whole, cut = (decode_image(tmp_path / name) for name in (f"pages/{row['image']}", f"cut/{row['crop']}"))
        edges = tuple(int(row[edge]) for edge in ("left", "top", "right", "bottom"))
        assert np.array_equal(np.asarray(whole.crop(edges)), np.asarray(cut))
    for number in (0, 2, 3):
        content = json.loads((tmp_path / "lm" / "Dürer" / f"00{number}.json").read_text())
        assert (tmp_path / "lm" / "Dürer" / content["imagePath"]).resolve() == (
            tmp_path / "pages" / "Dürer" / f"00{number}.png")
        assert {shape["label"] for shape in content["shapes"]} <= {"disc", "ring"}
        assert (tmp_path / "drawn" / "Dürer" / f"00{number}.png").is_file()


def test_no_answer_depends_on_other_pictures(sets: Path, networks: dict[str, Path], tmp_path: Path) -> None:
    for name, inputs in (("all", [sets / "val"]), ("one", [sets / "val" / "002.png"])):
        assert detect(networks["boxes"], "--inputs", *inputs, "--output", tmp_path / f"{name}.json") == 0
    everything, one = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("all", "one"))
    assert [{**each, "image_id": 1} for each in everything if each["image_id"] == 3] == one


def test_cut_outs_of_an_earlier_run_go_only_after_a_question(sets: Path, networks: dict[str, Path], tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--inputs", sets / "val" / "000.png", "--output", tmp_path / "x.json", "--crop-to", tmp_path / "cut",
             "--min-score", 0.1]
    assert detect(networks["boxes"], *words) == 0
    before = sorted((tmp_path / "cut").iterdir())
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert detect(networks["boxes"], *words) == 2
    assert sorted((tmp_path / "cut").iterdir()) == before
    assert detect(networks["boxes"], *words, "--overwrite", "--min-score", 1) == 0
    assert [path.name for path in (tmp_path / "cut").glob("[!.]*")] == ["crops.csv"]


def test_an_answer_that_is_not_finite_is_a_failure(sets: Path, networks: dict[str, Path], tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    content = torch.load(networks["boxes"], weights_only=True)
    for key, value in content["model"].items():
        if key.endswith("conv.weight"):
            value *= 1e30
    torch.save(content, tmp_path / "huge.pth")
    assert detect(tmp_path / "huge.pth", "--inputs", sets / "val", "--output", tmp_path / "x.json") == 3
    assert "the network's answer is not finite" in capsys.readouterr().err
    assert json.loads((tmp_path / "x.json").read_text()) == []


# ---- regions ---------------------------------------------------------------------------------------------------------


def test_label_maps_score_as_the_trainer_says(sets: Path, networks: dict[str, Path], tmp_path: Path) -> None:
    images, maps = (sets / "ade" / kind / "validation" for kind in ("images", "annotations"))
    done = run("predict_segmentation.py", "--checkpoint", networks["semantic"], "--inputs", images, "--output", "maps",
               "--draw", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "maps" / "classes.txt").read_text().splitlines() == list(CLASSES)
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == [f"00{number}.png" for number in range(4)]
    pairs = [(decode_labels(maps / f"00{number}.png"), decode_labels(tmp_path / "maps" / f"00{number}.png"))
             for number in range(4)]
    true, named = (np.concatenate([each.ravel() for each in column]) for column in zip(*pairs, strict=True))
    true, named = true[true > 0], named[true > 0]
    overlaps = [((true == label) & (named == label)).sum() / ((true == label) | (named == label)).sum()
                for label in range(1, 5) if ((true == label) | (named == label)).any()]
    record = json.loads(networks["semantic"].with_name("metrics.jsonl").read_text().splitlines()[-1])
    assert 100 * np.mean(overlaps) == pytest.approx(record["val_miou"], abs=1e-4)


def test_numbers_may_begin_at_zero(sets: Path, networks: dict[str, Path], tmp_path: Path) -> None:
    picture = sets / "val" / "000.png"
    for name, more in (("one", []), ("zero", ["--no-reduce-zero-label"])):
        assert segment(networks["semantic"], "--inputs", picture, "--output", tmp_path / name, *more) == 0
    one, zero = (decode_labels(tmp_path / name / "000.png") for name in ("one", "zero"))
    assert np.array_equal(one, zero + 1)


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "found"), [
    (["--inputs", "absent"], "no absent"), (["--inputs", "empty"], "no picture in empty"),
    (["--inputs", "pages", "--categories", "square"], "--categories square; expected one of box, disc, wedge, ring"),
    (["--inputs", "pages", "--crop-padding", "0.1"], "--crop-padding without --crop-to"),
    (["--inputs", "pages", "--draw", "pages/drawn"], "one inside the other"),
    (["--inputs", "pages", "--labelme", "pages"], "one inside the other"),
    (["--inputs", "pages", "--crop-to", "full"], "carries no mark of an earlier run"),
    (["--inputs", "pages/000.png", "--ann", "val.json"], "--ann with --inputs pages/000.png"),
    (["--inputs", "pages", "--ann", "other.json"], "with the class square, which the training set lacks"),
    (["--inputs", "pages", "again"], "whose results would have one name"),
    (["--inputs", "pages", "--min-score", "2"], "--min-score"),
    (["--inputs", "pages", "--batch-size", "2"], "the unknown argument --batch-size 2")])
def test_wrong_input_is_one_line(words: list[str], found: str, sets: Path, networks: dict[str, Path], tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pages", "again"):
        shutil.copytree(sets / "val", name)
    for name in ("empty", "full"):
        Path(name).mkdir()
    Path("full", "mine.txt").touch()
    Path("val.json").write_text((sets / "val.json").read_text())
    Path("other.json").write_text((sets / "val.json").read_text().replace('"disc"', '"square"'))
    assert detect(networks["boxes"], *words, "--output", "x.json") == 2
    said = capsys.readouterr().err
    assert found in said
    assert said.count("\n") == 1
    assert not Path("x.json").exists()


def test_a_network_for_another_task_is_named(networks: dict[str, Path], sets: Path, trained: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--inputs", sets / "val", "--output", tmp_path / "x"]
    for command, network, other in ((detect, networks["semantic"], "predict_segmentation.py"),
                                    (segment, networks["boxes"], "predict_detection.py"),
                                    (detect, trained / "model_best.pth", "inference_artist.py")):
        assert command(network, *words) == 2
        assert f"give it to {other}" in capsys.readouterr().err
    assert read_checkpoint(networks["boxes"]).model_args["anchor_scale"] == 0.5


def test_masks_need_their_package_before_a_picture_is_read(networks: dict[str, Path], sets: Path, tmp_path: Path,
                                                           monkeypatch: pytest.MonkeyPatch,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    words = ["--inputs", sets / "val", "--output", tmp_path / "x.json"]
    assert detect(networks["instances"], *words) == 2
    assert "pip install -r requirements-detection.txt" in capsys.readouterr().err
    assert detect(networks["boxes"], *words) == 0


def test_what_the_annotations_leave_out_is_said(networks: dict[str, Path], sets: Path, tmp_path: Path,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads((sets / "val.json").read_text())
    content["images"][0]["file_name"] = "gone.png"
    (tmp_path / "val.json").write_text(json.dumps(content))
    assert detect(networks["boxes"], "--inputs", sets / "val", "--ann", tmp_path / "val.json", "--output",
                  tmp_path / "x.json") == 0
    told = capsys.readouterr().out
    assert "image 1 (gone.png): left out, as there is no such file" in told
    assert "3 of 3 pictures" in told


def test_pictures_of_any_size_and_mode(networks: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    Image.new("L", (1, 1)).save(tmp_path / "odd" / "dot.png")
    Image.new("RGBA", (400, 3)).save(tmp_path / "odd" / "line.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 30)).save(tmp_path / "odd" / "turned.jpg", exif=exif)
    for task in TASKS:
        command = segment if task == "semantic" else detect
        assert command(networks[task], "--inputs", tmp_path / "odd", "--output", tmp_path / task, "--draw",
                       tmp_path / f"{task} drawn") == 0
    assert decode_labels(tmp_path / "semantic" / "turned.png").shape == (60, 30)
    assert [(each["file_name"], each["height"], each["width"]) for each in json.loads(
        (tmp_path / "boxes_images.json").read_text())["images"]] == [
            ("dot.png", 1, 1), ("line.png", 3, 400), ("turned.jpg", 60, 30)]
