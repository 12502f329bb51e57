"""Confidences and shares of a network of several labels, as users ask for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

import inference_artist
from data.class_mapping import write_class_mapping
from data.transforms import Preprocessing
from inference.predictor import Predictor
from predict_artist_multilabel import main
from runtime.checkpoint import publish_best, read_checkpoint
from runtime.networks import Architecture
from tests.conftest import MODEL

CLASSES = ["re:zero", "画家", "van Gogh (copy)", "d"]
PREPROCESSING = Preprocessing(input_size=64, crop_pct=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


def write_run(folder: Path, **config: object) -> Path:
    """The output folder of a tiny network that learned nothing."""
    torch.manual_seed(0)
    architecture = Architecture(name=MODEL, num_classes=len(CLASSES))
    network = architecture.create()
    torch.nn.init.normal_(network.get_classifier().weight)
    content = {"model": network.state_dict(), "classes": CLASSES, "config": {
        "architecture": architecture.name, "num_classes": len(CLASSES), "model_args": {},
        "preprocessing": PREPROCESSING.as_dict(), **config}}
    publish_best(folder, content, network, architecture)
    write_class_mapping(folder / "class_mapping.csv", CLASSES)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("multilabel") / "run", task="multilabel")


@pytest.fixture(scope="module")
def samples(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and a damaged one, one of the pictures in a sub-folder."""
    folder = tmp_path_factory.mktemp("hybrid")
    (folder / "sub").mkdir()
    for number, name in enumerate(("a.png", "c.png", "sub/画.png")):
        shutil.copyfile(data_set / "val" / "artist_0" / f"val_{number}.png", folder / name)
    (folder / "b.jpg").write_bytes(b"bad")
    return folder


def predict(run: Path, output: Path, *more: object) -> int:
    return main(["--checkpoint", str(run / "best_checkpoint.pth"), "--output", str(output), "--workers", "0",
                 "--device", "cpu", *map(str, more)])


def read(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_documented_command(run: Path, samples: Path, tmp_path: Path, run_script: Callable) -> None:
    done = run_script("predict_artist_multilabel.py", "--checkpoint", run / "best_checkpoint.pth", "--class-mapping",
                      run / "class_mapping.csv", "--inputs", samples, "--output", tmp_path / "hybrid_confidence.json",
                      "--top-k", 6, "--threshold", 0.05, "--normalize-ratio", "--debug-full", "--recursive")
    assert done.returncode == 3, done.stderr
    assert "not read: " in done.stderr
    assert "3 of 4 pictures" in done.stdout
    records = read(tmp_path / "hybrid_confidence.json")
    assert [record["image"] for record in records] == [
        (samples / name).as_posix() for name in ("a.png", "b.jpg", "c.png", "sub/画.png")]
    assert list(records[1]) == ["image", "error"]
    good = [samples / name for name in ("a.png", "c.png", "sub/画.png")]
    answers = Predictor.from_checkpoint(run / "model_best.pth", device="cpu").predict(good)
    for record, answer in zip([records[0], *records[2:]], answers, strict=True):
        expected = answer.logits.double().sigmoid()
        assert record["raw_confidence"] == pytest.approx(expected.tolist(), abs=1e-6)
        for label in record["labels"]:
            assert label["label"] == CLASSES[label["class_id"]]
            assert label["confidence"] == record["raw_confidence"][label["class_id"]]
            assert label["ratio"] == pytest.approx((expected / expected.sum())[label["class_id"]].item(), abs=1e-6)
        told = [label["confidence"] for label in record["labels"]]
        assert told == sorted((p for p in record["raw_confidence"] if p >= 0.05), reverse=True)


def test_a_folder_a_list_and_a_file_keep_their_order(run: Path, samples: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{samples / 'c.png'}\n{tmp_path / 'gone.png'}\n", encoding="utf-8")
    assert predict(run, tmp_path / "out.jsonl", "--inputs", f"@{tmp_path / 'list.txt'}", samples, "--top-k", 1) == 3
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [Path(record["image"]).name for record in records] == ["c.png", "gone.png", "a.png", "b.jpg", "c.png"]
    assert ["error" in record for record in records] == [False, True, False, True, False]
    assert records[0] == records[4]


def test_one_picture_is_told_on_the_terminal(run: Path, samples: Path, tmp_path: Path,
                                             capsys: pytest.CaptureFixture) -> None:
    assert predict(run, tmp_path / "out.json", "--inputs", samples / "a.png", "--ratio-over", "kept", "--top-k", 2) == 0
    told = capsys.readouterr().out
    labels = read(tmp_path / "out.json")[0]["labels"]
    assert sum(label["ratio"] for label in labels) == pytest.approx(1)
    for label in labels:
        assert f"{label['confidence']:7.2%}  {label['ratio']:7.2%}  {label['label']}" in told


def test_timms_layout_is_the_same_network(run: Path, samples: Path, tmp_path: Path) -> None:
    outputs = []
    for checkpoint in (run, run / "model_best.pth"):
        outputs.append(tmp_path / f"{len(outputs)}.json")
        assert main(["--checkpoint", str(checkpoint), "--inputs", str(samples / "a.png"), "--output", str(outputs[-1]),
                     "--workers", "0", "--device", "cpu"]) == 0
    assert read(outputs[0]) == read(outputs[1])


def test_a_network_of_one_artist_per_picture_is_refused(samples: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture) -> None:
    single = write_run(tmp_path / "single")
    for checkpoint in (single / "model_best.pth", single):
        assert main(["--checkpoint", str(checkpoint), "--inputs", str(samples), "--output",
                     str(tmp_path / "out.json")]) == 2
        assert "use inference_artist.py" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_a_network_of_several_artists_is_refused_where_one_is_named(run: Path, samples: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture) -> None:
    arguments = ["--checkpoint", str(run / "model_best.pth"), "--input", str(samples / "a.png"), "--output",
                 str(tmp_path / "out"), "--workers", "0"]
    assert inference_artist.main(arguments) == 2
    assert "use predict_artist_multilabel.py" in capsys.readouterr().err
    assert inference_artist.main([*arguments, "--mode", "cluster"]) == 0


def test_an_older_file_needs_its_labels_named(run: Path, samples: Path, tmp_path: Path,
                                              capsys: pytest.CaptureFixture) -> None:
    network = timm.create_model(MODEL, num_classes=len(CLASSES))
    torch.save({"model": network.state_dict()}, tmp_path / "best_checkpoint.pth")
    arguments = ["--inputs", samples / "a.png", "--model", MODEL]
    assert predict(tmp_path, tmp_path / "out.json", *arguments) == 2
    assert "--class-mapping" in capsys.readouterr().err
    assert predict(tmp_path, tmp_path / "out.json", *arguments, "--class-mapping", run / "class_mapping.csv") == 0
    assert {label["label"] for label in read(tmp_path / "out.json")[0]["labels"]} == set(CLASSES)


@pytest.mark.parametrize(("more", "told"), [
    (["--threshold", "2"], "--threshold 2"), (["--threshold", "gone.csv"], "gone.csv"), (["--top-k", "0"], "--top-k 0"),
    (["--inputs", "nowhere"], "no nowhere"), (["--format", "csv", "--debug-full"], "add --format json"),
    (["--class-mapping", "{tmp}/other.csv"], "class 0 is 'x'")])
def test_bad_input_gets_one_line_and_no_file(run: Path, samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture,
                                             more: list[str], told: str) -> None:
    (tmp_path / "other.csv").write_text("class_id,class_name\n0,x\n1,b\n2,c\n3,d\n")
    assert predict(run, tmp_path / "out.json", "--inputs", samples / "a.png",
                   *(word.format(tmp=tmp_path) for word in more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not (tmp_path / "out.json").exists()


def test_the_task_is_saved_where_inference_looks(run: Path, tmp_path: Path) -> None:
    assert read_checkpoint(run / "model_best.pth").task == read_checkpoint(run).task == "multilabel"
    single = write_run(tmp_path)
    assert read_checkpoint(single / "model_best.pth").task == read_checkpoint(single).task == "classification"
