"""Clusters are found and ordered; agreement as by hand; and the pixels as a baseline that colour alone can win."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import make_blobs
from sklearn.metrics import adjusted_rand_score, silhouette_score

from runtime.options import ClusterOptions
from search.clustering import agreement, group_features, pixel_features
from utils import UserError

SIZES = [7, 20, 12, 5]


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Four groups of 7, 20, 12 and 5 points, twenty times as far apart as wide: (44, 6) float32, labels, names."""
    centres = 20 * np.eye(4, 6)
    features, labels = make_blobs(SIZES, centers=centres, cluster_std=1.0, random_state=0)
    return features.astype(np.float32), labels, [f"{number}.png" for number in range(len(labels))]


def grouped(features: np.ndarray, names: list[str], count: int | str | None = None, **options: object) -> dict:
    return group_features(features, names, ClusterOptions(num_clusters=count, **options))


@pytest.mark.parametrize("options", [
    {"count": 4}, {"count": 4, "algorithm": "minibatch"}, {"count": "auto"}, {"algorithm": "hdbscan"}], ids=str)
def test_separated_groups_are_found(blobs: tuple, options: dict) -> None:
    features, labels, names = blobs
    found = grouped(features, names, **options)
    assigned = {name: cluster["cluster_id"] for cluster in found["clusters"] for name in cluster["images"]}
    assert sorted(assigned) == sorted(names)
    assert adjusted_rand_score(labels, [assigned[name] for name in names]) == 1.0
    assert [cluster["size"] for cluster in found["clusters"]] == sorted(SIZES, reverse=True)
    assert [cluster["cluster_id"] for cluster in found["clusters"]] == [0, 1, 2, 3]
    assert found["num_clusters"] == 4


def test_centroids_distances_and_inertia_are_those_of_the_members(blobs: tuple) -> None:
    features, _, names = blobs
    found = grouped(features, names, 4)
    inertia = 0.0
    for cluster in found["clusters"]:
        members = features[[names.index(name) for name in cluster["images"]]]
        distances = np.linalg.norm(members - members.mean(0), axis=1)
        assert len(members) == cluster["size"]
        assert cluster["centroid"] == pytest.approx(members.mean(0).tolist(), abs=1e-4)
        assert (np.diff(distances) >= -1e-5).all()  # nearest first
        inertia += (distances**2).sum()
    assert found["inertia"] == pytest.approx(inertia, rel=1e-5)


def test_the_seed_decides_and_the_result_is_json(blobs: tuple) -> None:
    features, _, names = blobs
    assert grouped(features, names, 9, seed=3) == grouped(features, names, 9, seed=3)
    assert json.loads(json.dumps(grouped(features, names, 9, seed=3), allow_nan=False))["num_clusters"] == 9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fewer_distinct_pictures_than_clusters_give_fewer_clusters() -> None:
    features = np.array([[0, 0], [0, 0], [5, 5]], np.float32)
    found = grouped(features, ["a", "b", "c"], 3)
    assert found["num_clusters"] == 2
    assert [cluster["images"] for cluster in found["clusters"]] == [["a", "b"], ["c"]]


@pytest.mark.parametrize("count", [0, 2])
def test_more_clusters_than_pictures_are_refused(count: int) -> None:
    with pytest.raises(UserError, match=rf"--num-clusters 3 for {count} readable"):
        grouped(np.zeros((count, 2), np.float32), ["x"] * count, 3)


def test_auto_takes_the_highest_silhouette(blobs: tuple) -> None:
    features, labels, names = blobs
    tried = grouped(features, names, "auto")["silhouettes"]
    assert max(tried, key=tried.get) == 4
    assert tried[4] == pytest.approx(silhouette_score(features, labels), abs=1e-6)
    assert min(tried) == 2
    assert max(tried) < len(names)
    assert {2, 3, 4, 5, 6, 7} <= set(tried)


def test_auto_gives_no_cluster_below_the_least_size(blobs: tuple) -> None:
    features, _, names = blobs
    outliers = 200 * np.eye(6, dtype=np.float32)[4:]
    rows, all_names = np.vstack([features, outliers]), [*names, "far", "farther"]
    for least in (2, 6, 20):
        found = grouped(rows, all_names, "auto", min_cluster_size=least)
        assert min(cluster["size"] for cluster in found["clusters"]) >= least
        assert sorted(name for cluster in found["clusters"] for name in cluster["images"]) == sorted(all_names)
    assert [cluster["size"] for cluster in grouped(rows, all_names, 6)["clusters"]] == [20, 12, 7, 5, 1, 1]
    assert grouped(rows, all_names, "auto", min_cluster_size=46)["num_clusters"] == 1
    with pytest.raises(UserError, match="expected at least 47"):
        grouped(rows, all_names, "auto", min_cluster_size=47)


@pytest.mark.parametrize("count", [0, 2])
def test_auto_needs_something_to_choose_from(count: int) -> None:
    with pytest.raises(UserError, match="--num-clusters auto"):
        grouped(np.eye(count, 2, dtype=np.float32), ["x"] * count, "auto")


def test_hdbscan_leaves_out_what_is_in_no_dense_group(blobs: tuple) -> None:
    features, labels, names = blobs
    found = grouped(np.vstack([features, np.full((1, 6), 500, np.float32)]), [*names, "far"], algorithm="hdbscan")
    assert found["unassigned"] == ["far"]
    assert found["num_clusters"] == 4
    assert grouped(features, names, algorithm="hdbscan", min_cluster_size=6)["num_clusters"] == 3


def test_hdbscan_refuses_a_number_and_too_few_pictures(blobs: tuple) -> None:
    features, _, names = blobs
    with pytest.raises(UserError, match="finds the number itself"):
        grouped(features, names, 4, algorithm="hdbscan")
    with pytest.raises(UserError, match="3 readable picture"):
        grouped(features[:3], names[:3], algorithm="hdbscan")


def test_nothing_dense_gives_no_groups() -> None:
    found = grouped(np.eye(6, dtype=np.float32), list("abcdef"), algorithm="hdbscan", min_cluster_size=4)
    assert (found["clusters"], found["num_clusters"], found["inertia"]) == ([], 0, 0)
    assert found["unassigned"] == list("abcdef")


# ---- agreement -------------------------------------------------------------------------------------------------------


def test_agreement_as_by_hand() -> None:
    labels, groups = np.array([0, 0, 0, 1, 1, 1]), np.array([5, 5, 7, 7, 7, 7])
    # Pairs together in both: 1 + 3; of 3 + 3 by labels, 1 + 6 by groups, 15 in all.
    expected = 6 * 7 / 15
    assert agreement(labels, groups) == pytest.approx({"ari": (4 - expected) / (6.5 - expected), "purity": 5 / 6})


def test_names_of_groups_do_not_count() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2])
    assert agreement(labels, 9 - labels) == {"ari": 1, "purity": 1}
    assert agreement(labels, np.arange(6))["purity"] == 1
    assert agreement(labels, np.zeros(6, int)) == pytest.approx({"ari": 0, "purity": 1 / 3})


def test_pixels_tell_colours_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(8):
        colour = np.array((180, 60, 60) if number % 2 else (60, 60, 180))
        pixels = np.clip(colour + rng.normal(0, 5, (40, 50, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    features = pixel_features(tmp_path, [f"{number}.png" for number in range(8)])
    assert features.shape == (8, 8)
    assert features.dtype == np.float32
    assert len({value > 0 for value in features[::2, 0]} | {value < 0 for value in features[1::2, 0]}) == 1
    (tmp_path / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match="check --images-dir"):
        pixel_features(tmp_path, ["bad.png"])


@pytest.mark.parametrize(("pictures", "clusters"), [(2, 1), (8, 2), (23, 7), (30, 8)])
def test_few_pictures_have_few_clusters_by_default(blobs: tuple, pictures: int, clusters: int) -> None:
    features, _, names = blobs
    assert grouped(features[:pictures], names[:pictures])["num_clusters"] == clusters
