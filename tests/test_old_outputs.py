"""What earlier code wrote, `tests/old_outputs`, is read, resumed and extended by today's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import inference_artist
import predict_artist_multilabel
import prepare_dataset
import tools.build_gallery
import tools.extract_cluster_features
import tools.merge_shards
import train_artist_style

OLD = Path(__file__).resolve().parent / "old_outputs"
BEST, VAL = OLD / "run" / "model_best.pth", OLD / "dataset" / "val"


def call(main: Any, *arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def close(found: Any, expected: Any) -> bool:
    """Equal but for the rounding of another processor."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(close(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return found == (pytest.approx(expected, rel=1e-3, abs=1e-4) if isinstance(expected, float) else expected)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def check_results(output: Path) -> None:
    """The three files of inference say what the old ones say, verdicts of the old calibration among it."""
    assert close(read(output / "batch_results.json"), read(OLD / "results" / "batch_results.json"))
    names = "image_names.txt"
    assert (output / names).read_bytes() == (OLD / "results" / names).read_bytes()
    np.testing.assert_allclose(np.load(output / "features.npy"), np.load(OLD / "results" / "features.npy"), rtol=1e-3,
                               atol=1e-4)


def test_an_interrupted_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    run, dataset = (shutil.copytree(OLD / name, tmp_path / name) for name in ("run", "dataset"))
    assert call(train_artist_style.main, "--data-path", dataset, "--output-dir", run, "--resume", "auto",
                "--epochs", 4, "--batch-size", 4, "--num-workers", 0, "--device", "cpu") == 0
    found, expected = ([json.loads(line) for line in (folder / name).read_text().splitlines()] for folder, name in (
        (run, "metrics.jsonl"), (OLD / "run", "unbroken.jsonl")))
    assert [record["epoch"] for record in found] == [1, 2, 3, 4]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        assert [ours[key] for key in ("train_loss", "val_loss", "val_top1", "lr")] == pytest.approx(
            [theirs[key] for key in ("train_loss", "val_loss", "val_top1", "lr")], rel=0.02)


@pytest.mark.parametrize("name", ["run/model_best.pth", "run/model.safetensors", "run"])
def test_an_old_network_and_its_calibration_answer_as_they_did(tmp_path: Path, name: str) -> None:
    assert call(inference_artist.main, "--mode", "both", "--checkpoint", OLD / name, "--input", VAL, "--output",
                tmp_path, "--batch-size", 4) == 0
    check_results(tmp_path)


def test_an_interrupted_inference_goes_on(tmp_path: Path) -> None:
    output = shutil.copytree(OLD / "interrupted", tmp_path / "output")
    assert call(inference_artist.main, "--mode", "both", "--checkpoint", BEST, "--input", VAL, "--output", output,
                "--batch-size", 4, "--resume") == 0
    check_results(output)


def test_old_shards_are_merged(tmp_path: Path) -> None:
    assert call(tools.merge_shards.main, "--input", OLD / "shards", "--output", tmp_path) == 0
    check_results(tmp_path)


def test_an_old_gallery_is_searched_and_gains_an_artist(tmp_path: Path) -> None:
    gallery = shutil.copytree(OLD / "gallery", tmp_path / "gallery")
    search = ["--mode", "search", "--checkpoint", BEST, "--gallery", gallery, "--output", tmp_path, "--input"]
    assert call(inference_artist.main, *search, OLD / "dataset" / "train" / "artist_0" / "00.png") == 0
    nearest = read(tmp_path / "00_result.json")["pictures"][0]
    assert nearest["image"] == "artist_0/00.png"
    assert nearest["cosine_similarity"] == pytest.approx(1, abs=1e-4)
    assert call(tools.build_gallery.main, "--gallery", gallery, "--checkpoint", BEST, "--add",
                OLD / "newcomer" / "artist_3") == 0
    artists = {entry["artist"]: entry["pictures"] for entry in read(gallery / "gallery.json")["artists"]}
    assert artists == {"artist_0": 7, "artist_1": 7, "artist_2": 7, "artist_3": 10}
    assert len(np.load(gallery / "features.npy")) == 31


def test_old_features_give_the_old_clusters(tmp_path: Path) -> None:
    assert call(tools.extract_cluster_features.main, "--features", OLD / "results", "--num-clusters", 3,
                "--output-dir", tmp_path, "--projection", "pca") == 0
    assert close(read(tmp_path / "cluster_assignments.json"), read(OLD / "clusters" / "cluster_assignments.json"))


def test_an_old_data_set_is_replaced_by_an_equal_one(tmp_path: Path) -> None:
    dataset = shutil.copytree(OLD / "dataset", tmp_path / "dataset")
    assert call(prepare_dataset.main, "--source-dir", OLD / "artists", "--output-dir", dataset, "--val-ratio", 0.3,
                "--min-images", 3, "--workers", 0, "--overwrite") == 0
    for name in ("split_info.txt", "class_mapping.csv", "class_names.json"):
        assert (dataset / name).read_bytes() == (OLD / "dataset" / name).read_bytes()


def test_an_old_network_of_several_labels_answers_as_it_did(tmp_path: Path) -> None:
    run, output = OLD / "multilabel_run", tmp_path / "predictions.json"
    assert call(predict_artist_multilabel.main, "--checkpoint", run / "best_checkpoint.pth", "--inputs",
                OLD / "mixtures" / "pictures", "--output", output, "--normalize-ratio", "--debug-full") == 0
    found, expected = ([{key: value for key, value in {**record, "image": Path(record["image"]).name}.items()
                         if key != "raw_labels"} for record in read(path)]
                       for path in (output, run / "predictions.json"))
    assert close(found, expected)
    assert call(predict_artist_multilabel.main, "--checkpoint", run / "best_checkpoint.pth", "--inputs",
                OLD / "mixtures" / "pictures" / "0001.jpg", "--output", output, "--threshold", run / "thresholds.csv",
                "--class-mapping", run / "class_mapping.csv") == 0
