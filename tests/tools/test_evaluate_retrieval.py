"""Features are judged as users ask for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from search.gallery import Gallery, write_gallery
from search.vectors import FeatureSpace, write_features
from tests.pictures import stroke_picture
from tools.evaluate_retrieval import main

NAMES = [f"artist_{number % 3}/{number}.png" for number in range(18)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/: features that tell three artists apart but for one picture; pictures/: strokes, random in colour."""
    folder, rng = tmp_path_factory.mktemp("judged"), np.random.default_rng(0)
    features = np.eye(3, 8)[np.arange(18) % 3] + 0.05 * rng.normal(size=(18, 8))
    features[0] = features[1]
    write_features(folder / "results", NAMES, features.astype(np.float32), FeatureSpace())
    for name in NAMES:
        (folder / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        stroke_picture(0, rng).save(folder / "pictures" / name)
    gallery = Gallery.of_folder(FeatureSpace(model="m"), folder, NAMES[3:], features[3:].astype(np.float32))
    write_gallery(folder / "gallery", gallery, overwrite=False)
    return folder


def judge(folder: Path, *more: object) -> dict:
    output = folder / "figures.json"
    assert main(["--features", str(folder / "results"), "--output", str(output), *map(str, more)]) == 0
    return json.loads(output.read_text(encoding="utf-8"))


def test_one_command_prints_all_figures(results: Path, run_script, tmp_path: Path) -> None:
    done = run_script("tools/evaluate_retrieval.py", "--features", results / "results", "--images-dir",
                      results / "pictures", "--gallery", results / "gallery", "--output", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (figures["pictures"], figures["artists"]) == (18, 3)
    assert figures["retrieval"]["queries"] == 18
    # Picture 0 lies on picture 1, by another artist: the two take each other for the nearest, and one more takes 0.
    assert figures["retrieval"]["recall1"] == pytest.approx(100 * 15 / 18)
    assert figures["clusters"]["features"]["purity"] == pytest.approx(17 / 18)
    assert figures["clusters"]["features"]["ari"] > figures["clusters"]["PCA of pixels"]["ari"]
    assert figures["gallery"]["mean"] == figures["gallery"]["neighbours"] == pytest.approx(100 * 17 / 18)
    assert figures["gallery"]["balanced_mean"] == pytest.approx(100 * (5 / 6 + 2) / 3)
    for told in ("18 pictures by 3 artists", "recall@1 83.333", "PCA of pixels", "gallery, by mean"):
        assert told in done.stdout
    assert max(map(len, done.stdout.splitlines()[:-1])) <= 80  # the last line has a path


def test_labels_may_stand_in_a_file(results: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("石\nb\n" * 9, encoding="utf-8")
    figures = judge(results, "--labels", tmp_path / "labels.txt")
    assert figures["artists"] == 2
    assert "clusters" not in figures
    assert "gallery" not in figures


def test_more_clusters_can_be_asked(results: Path) -> None:
    as_many, more = (judge(results, "--images-dir", results / "pictures", *flags)["clusters"]["features"]
                     for flags in ((), ("--num-clusters", 9, "--seed", 1)))
    assert more["ari"] < as_many["ari"]


@pytest.mark.parametrize(("labels", "told"), [("a\nb\n", "2 lines in"), (None, "cannot be read")])
def test_labels_that_do_not_fit_are_refused(results: Path, tmp_path: Path, capsys, labels: str | None,
                                            told: str) -> None:
    if labels:
        (tmp_path / "labels.txt").write_text(labels)
    assert main(["--features", str(results / "results"), "--labels", str(tmp_path / "labels.txt")]) == 2
    assert told in capsys.readouterr().err


def test_names_without_a_folder_need_labels(tmp_path: Path, capsys) -> None:
    write_features(tmp_path, ["1.png", "2.png"], np.eye(2, dtype=np.float32), FeatureSpace())
    assert main(["--features", str(tmp_path)]) == 2
    assert "add --labels" in capsys.readouterr().err
