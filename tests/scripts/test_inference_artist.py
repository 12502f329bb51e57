"""Classification and feature extraction as users run them: records, rows, failures, old files, bad input."""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from inference.predictor import Failure, Predictor
from inference_artist import main
from runtime.checkpoint import read_checkpoint
from runtime.options import InferenceOptions
from tests.conftest import MODEL


def infer(checkpoint: Path, source: Path, output: Path, *more: object) -> int:
    return main(["--checkpoint", str(checkpoint), "--input", str(source), "--output", str(output), "--workers", "0",
                 *map(str, more)])


@pytest.fixture(scope="module")
def folder(data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The validation pictures with a damaged one in their midst and one in another script."""
    folder = tmp_path_factory.mktemp("mixed") / "val"
    shutil.copytree(data_set / "val", folder)
    (folder / "artist_1" / "val_1_damaged.JPG").write_bytes(b"\xff\xd8\xff broken")
    shutil.copyfile(folder / "artist_0" / "val_0.png", folder / "artist_2" / "神奈川 沖.png")
    return folder


@pytest.fixture(scope="module")
def results(trained: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("results")
    assert infer(trained / "model_best.pth", folder, output, "--mode", "both", "--batch-size", 5, "--contact-sheet",
                 "--model", MODEL, "--class-csv", trained / "class_mapping.csv") == 3
    return output


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_input_has_a_record_and_rows_are_lines(results: Path, folder: Path) -> None:
    records = read(results / "batch_results.json")
    assert list(records) == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    names = (results / "image_names.txt").read_text(encoding="utf-8").splitlines()
    features = np.load(results / "features.npy")
    assert features.dtype == np.float32
    assert features.shape == (len(names), 256)
    assert names == [name for name, record in records.items() if "error" not in record]
    assert set(records) - set(names) == {"artist_1/val_1_damaged.JPG"}
    for row, name in enumerate(names):
        np.testing.assert_array_equal(np.float32(records[name]["features"]), features[row])
        probabilities = [entry["probability"] for entry in records[name]["classification"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert all(entry["class_name"] == f"artist_{entry['class_id']}" for entry in records[name]["classification"])


def test_equal_pictures_have_equal_answers_wherever_they_lie(results: Path) -> None:
    records = read(results / "batch_results.json")
    one, other = records["artist_0/val_0.png"], records["artist_2/神奈川 沖.png"]
    np.testing.assert_allclose(one["features"], other["features"], rtol=1e-5, atol=1e-6)


def test_the_folder_scores_what_the_trainer_said(results: Path, trained: Path, data_set: Path) -> None:
    records = read(results / "batch_results.json")
    names = [path.relative_to(data_set / "val").as_posix() for path in (data_set / "val").rglob("*.png")]
    right = [records[name]["classification"][0]["class_name"] == name.partition("/")[0] for name in names]
    assert 100 * np.mean(right) == pytest.approx(read_checkpoint(trained / "model_best.pth").content["best_metric"])


def test_the_contact_sheet_is_a_picture(results: Path) -> None:
    with Image.open(results / "contact_sheet.png") as sheet:
        sheet.load()
        assert min(sheet.size) > 100


def test_one_picture_has_the_record_of_the_folder(results: Path, trained: Path, folder: Path, tmp_path: Path,
                                                  run_script) -> None:
    done = run_script("inference_artist.py", "--mode", "both", "--model", MODEL, "--checkpoint",
                      trained / "model_best.pth", "--class-csv", trained / "class_mapping.csv", "--input",
                      folder / "artist_1" / "val_2.png", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    single, whole = read(tmp_path / "val_2_result.json"), read(results / "batch_results.json")["artist_1/val_2.png"]
    assert single.keys() == whole.keys()
    np.testing.assert_allclose(single["features"], whole["features"], rtol=1e-4, atol=1e-5)
    assert [entry["class_id"] for entry in single["classification"]] == [
        entry["class_id"] for entry in whole["classification"]]
    assert re.search(r"\d+\.\d\d%  artist_\d", done.stdout)


def test_one_damaged_picture_is_a_record_too(trained: Path, folder: Path, tmp_path: Path, capsys) -> None:
    assert infer(trained / "model_best.pth", folder / "artist_1" / "val_1_damaged.JPG", tmp_path) == 3
    assert list(read(tmp_path / "val_1_damaged_result.json")) == ["error"]
    assert "val_1_damaged.JPG" in capsys.readouterr().err


def test_two_pictures_of_one_stem_keep_both_results(trained: Path, folder: Path, tmp_path: Path, capsys) -> None:
    first = folder / "artist_1" / "val_2.png"
    second, long = tmp_path / "val_2.webp", tmp_path / ("长" * 83 + ".png")
    for copy in (second, long):
        copy.write_bytes(first.read_bytes())
    for picture, told in ((first, ""), (second, "val_2.webp_result.json: val_2_result.json is of another picture"),
                          (long, "or too long a name"), (first, "")):
        assert infer(trained / "model_best.pth", picture, tmp_path / "out") == 0
        assert ("the result is in" in (out := capsys.readouterr().out)) == bool(told)
        assert told in out
    assert len(list((tmp_path / "out").glob("*_result.json"))) == 3


def test_cluster_mode_needs_no_classes(data_set: Path, tmp_path: Path) -> None:
    torch.save({"model": timm.create_model("lsnet_t_artist", num_classes=3).state_dict(),
                "args": argparse.Namespace(model="lsnet_t_artist")}, tmp_path / "old.pth")
    assert infer(tmp_path / "old.pth", data_set / "val", tmp_path / "out", "--mode", "cluster") == 0
    assert np.load(tmp_path / "out" / "features.npy").shape == (12, 384)
    assert all(list(record) == ["features"] for record in read(tmp_path / "out" / "batch_results.json").values())


def test_classify_mode_writes_no_features(trained: Path, data_set: Path, tmp_path: Path) -> None:
    assert infer(trained / "model.safetensors", data_set / "val", tmp_path, "--top-k", 1, "--threshold", 0.99) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["batch_results.json"]
    assert all(len(record["classification"]) <= 1 for record in read(tmp_path / "batch_results.json").values())


@pytest.fixture(scope="module")
def predictor(trained: Path) -> Predictor:
    return Predictor.from_checkpoint(trained / "model_best.pth", device="cpu")


@pytest.mark.parametrize("place", range(4))
def test_a_damaged_picture_shifts_no_other_answer(predictor: Predictor, data_set: Path, tmp_path: Path,
                                                  place: int) -> None:
    good = sorted((data_set / "val" / "artist_0").iterdir())[:3]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"bad")
    alone = list(predictor.predict(good, InferenceOptions(batch_size=2)))
    mixed = list(predictor.predict([*good[:place], bad, *good[place:]], InferenceOptions(batch_size=2)))
    failure = mixed.pop(place)
    assert isinstance(failure, Failure)
    assert failure.path == bad
    for one, other in zip(alone, mixed, strict=True):
        assert one.path == other.path
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--input", "nowhere"], "no nowhere"),
    (["--checkpoint", "nowhere.pth"], "no file nowhere.pth"),
    (["--model", "lsnet_s_artist"], f"holds {MODEL}"),
    (["--class-csv", "{tmp}/other.csv"], "class 0 is 'somebody'"),
    (["--class-csv", "{tmp}/short.csv"], "class 2 is missing"),
    (["--input", "{tmp}/nothing"], "no picture in"),
    (["--mode", "guess"], "--mode 'guess'"),
    (["--threshold", "1.5"], "--threshold 1.5"),
    (["--top-k", "0"], "--top-k 0"),
])
def test_bad_input_gets_one_line(trained: Path, data_set: Path, tmp_path: Path, capsys, arguments: list[str],
                                 expected: str) -> None:
    (tmp_path / "other.csv").write_text("class_id,class_name\n0,somebody\n1,artist_1\n2,artist_2\n")
    (tmp_path / "short.csv").write_text("class_id,class_name\n0,artist_0\n1,artist_1\n")
    (tmp_path / "nothing").mkdir()
    assert infer(trained / "model_best.pth", data_set / "val", tmp_path / "out",
                 *(argument.format(tmp=tmp_path) for argument in arguments)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(expected, told), told
    assert not (tmp_path / "out").exists()


def test_an_old_file_needs_its_classes_named(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    torch.save({"model": read_checkpoint(trained / "model_best.pth").model}, tmp_path / "old.pth")
    source, output = data_set / "val", tmp_path / "out"
    assert infer(tmp_path / "old.pth", source, output) == 2
    assert "add --model" in capsys.readouterr().err
    assert infer(tmp_path / "old.pth", source, output, "--model", MODEL) == 2
    assert "--class-csv" in capsys.readouterr().err
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfclass_id,class_name\r\n0,a\r\n1,b\r\n2,c\r\n")
    assert infer(tmp_path / "old.pth", source, output, "--model", MODEL, "--class-csv",
                 tmp_path / "bom.csv") == 0
    (tmp_path / "four.csv").write_text("class_id,class_name\n0,a\n1,b\n2,c\n3,d\n")
    assert infer(tmp_path / "old.pth", source, output, "--model", MODEL, "--class-csv",
                 tmp_path / "four.csv") == 2
    assert "4 classes" in capsys.readouterr().err


def test_formats_resume_and_views_of_a_folder(trained: Path, folder: Path, results: Path, tmp_path: Path) -> None:
    common = ("--mode", "both", "--batch-size", 5, "--resume", "--no-draft")
    assert infer(trained / "model_best.pth", folder, tmp_path / "csv", *common, "--format", "csv", "--features-format",
                 "npz") == 3
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == [
        "batch_results.csv", "features.json", "features.npz"]
    with np.load(tmp_path / "csv" / "features.npz") as archive:
        assert np.array_equal(archive["features"], np.load(results / "features.npy"))
    assert infer(trained / "model_best.pth", folder, tmp_path / "crops", "--view", "multicrop", "--format", "jsonl",
                 "--amp", "bf16") == 3
    lines = (tmp_path / "crops" / "batch_results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["image"] for line in lines] == list(read(results / "batch_results.json"))


@pytest.mark.parametrize(("arguments", "expected"), [
    (["--shard", "3/2"], "--shard 3/2"), (["--shard", "1/2", "--contact-sheet"], "leave --contact-sheet away"),
    (["--mode", "cluster", "--contact-sheet"], "--mode classify or both")])
def test_what_cannot_be_divided_is_told(trained: Path, folder: Path, tmp_path: Path, capsys, arguments: list[str],
                                        expected: str) -> None:
    assert infer(trained / "model_best.pth", folder, tmp_path / "out", *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
