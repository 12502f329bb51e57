"""Features of a folder and their groups, as users ask for them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from search.vectors import FeatureSpace, read_vectors, write_features
from tests.conftest import MODEL
from tools.extract_cluster_features import main


@pytest.fixture(scope="module")
def results(trained: Path, data_set: Path, run_script, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the documented command leaves."""
    output = tmp_path_factory.mktemp("clusters")
    done = run_script("tools/extract_cluster_features.py", "--images-dir", data_set / "val", "--model",
                      MODEL, "--checkpoint", trained / "model_best.pth", "--num-clusters", 3, "--output-dir",
                      output)
    assert done.returncode == 0, done.stderr
    return output


def clusters(folder: Path) -> dict:
    return json.loads((folder / "cluster_assignments.json").read_text(encoding="utf-8"))


def test_the_documented_command_leaves_the_documented_files(results: Path) -> None:
    assert sorted(path.name for path in results.iterdir()) == [
        "cluster_assignments.json", "clusters.png", "features.json", "features.npy", "image_names.txt", "map.png"]
    names = (results / "image_names.txt").read_text().splitlines()
    features = dict(zip(names, np.load(results / "features.npy"), strict=True))
    content = clusters(results)
    assert sorted(name for cluster in content["clusters"] for name in cluster["images"]) == names
    for cluster in content["clusters"]:
        assert cluster["size"] == len(cluster["images"])
        mean = np.mean([features[name] for name in cluster["images"]], axis=0)
        np.testing.assert_allclose(cluster["centroid"], mean, rtol=1e-4, atol=1e-5)


def regroup(results: Path, output: Path, *more: object) -> dict:
    assert main(["--features", str(results / "features.npy"), "--output-dir", str(output), *map(str, more)]) == 0
    return clusters(output)


def test_what_was_extracted_is_grouped_again_without_the_model(results: Path, tmp_path: Path) -> None:
    assert regroup(results, tmp_path, "--num-clusters", 3) == clusters(results)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cluster_assignments.json", "map.png"]


def test_normalised_features_are_grouped_by_direction(results: Path, tmp_path: Path) -> None:
    content = regroup(results, tmp_path, "--normalize", "--num-clusters", 2, "--projection", "pca")
    found = read_vectors([results])
    unit = dict(zip(found.names, found.rows / np.linalg.norm(found.rows, axis=1, keepdims=True), strict=True))
    for cluster in content["clusters"]:
        mean = np.mean([unit[name] for name in cluster["images"]], axis=0)
        np.testing.assert_allclose(cluster["centroid"], mean, atol=1e-6)


def test_the_number_can_be_found_and_other_algorithms_asked(results: Path, data_set: Path, tmp_path: Path,
                                                            capsys) -> None:
    assert "silhouettes" in regroup(results, tmp_path / "auto", "--num-clusters", "auto", "--algorithm", "minibatch")
    found = regroup(results, tmp_path / "dense", "--algorithm", "hdbscan", "--min-cluster-size", 2, "--images-dir",
                    data_set / "val")
    grouped = [name for cluster in found["clusters"] for name in cluster["images"]]
    assert sorted([*grouped, *found["unassigned"]]) == list(read_vectors([results]).names)
    assert (tmp_path / "dense" / "clusters.png").exists() == bool(grouped)


def test_auto_groups_by_direction_unless_refused(tmp_path: Path) -> None:
    angles = np.repeat([0.1, 0.8, 1.5], 6) + np.linspace(0, 0.02, 18)
    rows = np.stack([np.cos(angles), np.sin(angles)], 1) * np.random.default_rng(0).uniform(1, 50, (18, 1))
    write_features(tmp_path, [f"{row}.png" for row in range(18)], rows.astype(np.float32), FeatureSpace())
    direction, asked, auto, number, refused = (
        regroup(tmp_path, tmp_path / "out", "--projection", "pca", "--num-clusters", *flags)
        for flags in (("auto",), ("auto", "--normalize"), ("auto", "--no-normalize"), ("3",), ("3", "--no-normalize")))
    assert [cluster["size"] for cluster in direction["clusters"]] == [6, 6, 6]
    assert direction == asked != auto
    assert number == refused


def test_missing_pictures_are_counted(results: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    folder = shutil.copytree(data_set / "val", tmp_path / "val")
    gone = [name for name in read_vectors([results]).names if name.startswith("artist_0/")]
    for name in gone:
        (folder / name).unlink()
    assert main(["--features", str(results), "--images-dir", str(folder), "--num-clusters", "2", "--output-dir",
                 str(tmp_path / "out")]) == 3
    told = f"{len(gone)} of 12 pictures are not in {folder} and drawn blank, such as {gone[0]}"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(("flags", "told"), [
    (["--images-dir", "{data}/val", "--checkpoint", "{run}/model_best.pth", "--num-clusters", "13"],
     "--num-clusters 13 for 12 readable"),
    (["--images-dir", "{data}/nowhere", "--checkpoint", "{run}/model_best.pth"], "no folder"),
    (["--images-dir", "{data}/val"], "no --checkpoint"), (["--checkpoint", "{run}/model_best.pth"], "nothing to"),
    (["--features", "{data}/nowhere.npy"], "no "),
    (["--features", "{vectors}", "--images-dir", "{data}/train"], "nor another picture"),
    (["--images-dir", "{data}/val", "--checkpoint", "{run}/model_best.pth", "--no-recursive"], "0 readable"),
])
def test_what_cannot_be_grouped_is_said(trained: Path, data_set: Path, tmp_path: Path, capsys, flags: list[str],
                                        told: str) -> None:
    write_features(tmp_path / "vectors", ["no/such.png", "no/other.png"], np.eye(2, dtype=np.float32), FeatureSpace())
    given = [flag.format(data=data_set, run=trained, vectors=tmp_path / "vectors") for flag in flags]
    assert main(["--output-dir", str(tmp_path / "out"), *given]) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    assert told in found
    assert not (tmp_path / "out").exists()


def test_a_damaged_picture_is_listed(trained: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate((data_set / "val").rglob("*.png")):
        (folder / f"{number}.png").write_bytes(picture.read_bytes())
    (folder / "bad.png").write_bytes(b"")
    assert main(["--images-dir", str(folder), "--checkpoint", str(trained / "model_best.pth"), "--num-clusters", "2",
                 "--output-dir", str(tmp_path / "out"), "--workers", "0"]) == 3
    assert "bad.png" in capsys.readouterr().err
