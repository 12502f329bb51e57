"""Clusters of feature vectors, and how well they agree with artists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans  # type: ignore[attr-defined]  # stubs lack HDBSCAN
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, pairwise_distances_argmin, silhouette_score
from sklearn.metrics.cluster import contingency_matrix

from data.images import ImageError, decode_image
from data.names import named_file
from runtime.options import DEFAULT_CLUSTERS, MOST_CLUSTERS_TRIED, ClusterOptions
from utils import UserError, counted

RESTARTS, RESTARTS_TRIED = 10, 3  # k-means keeps the best of as many starts; fewer while numbers of clusters are tried
STEP = 1.15  # each number of clusters that auto tries is larger by this factor
LEAST_OF_DEFAULT = 3  # pictures for each cluster where nobody says how many there shall be
SILHOUETTE_SAMPLE = 2000  # pictures: the silhouette compares each with each
PIXEL_SIDE, PIXEL_COMPONENTS = 32, 50


def group_features(features: np.ndarray, names: Sequence[str], options: ClusterOptions) -> dict[str, Any]:
    """Groups of `features`, (N, D), as the JSON object of cluster_assignments.json; `names` has one name per row.

    Returns:
        `algorithm`, `num_clusters`, `inertia` (summed squared distance to the centroids), `clusters`, largest first,
        each with `cluster_id`, `size`, `centroid` (the mean, D numbers) and `images`, nearest to the centroid first;
        with auto also `silhouettes` of the numbers tried, with hdbscan `unassigned`, the pictures of no group.

    With auto, as with hdbscan, no cluster is smaller than `options.min_cluster_size`.

    Raises:
        UserError: more clusters than pictures, too few for auto or hdbscan, or a number of clusters for hdbscan.
    """
    extra: dict[str, Any] = {}
    if options.algorithm == "hdbscan":
        labels = _dense_groups(features, options)
        extra["unassigned"] = [names[row] for row in np.flatnonzero(labels < 0).tolist()]
    elif options.num_clusters == "auto":
        extra["silhouettes"] = tried = _silhouettes(features, options)
        labels = _large_groups(features, max(tried, key=tried.__getitem__), options, RESTARTS)
    else:
        count = options.num_clusters or min(DEFAULT_CLUSTERS, max(1, len(features) // LEAST_OF_DEFAULT))
        if count > len(features):
            raise UserError(f"--num-clusters {count} for {counted(len(features), 'readable picture')}",
                            f"at most {len(features)}", "ask for fewer clusters or give more pictures")
        labels = _k_means(features, count, options, RESTARTS)
    clusters, inertia = _clusters(features, labels, names)
    return {"algorithm": options.algorithm, "num_clusters": len(clusters), "inertia": inertia, **extra,
            "clusters": clusters}


def group_numbers(groups: Mapping[str, Any], names: Sequence[str]) -> np.ndarray:
    """The `cluster_id` of each of `names` in the result of `group_features`, (N,) int64; -1 for those in none."""
    found = {name: cluster["cluster_id"] for cluster in groups["clusters"] for name in cluster["images"]}
    return np.array([found.get(name, -1) for name in names], np.int64)


def agreement(labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """`ari`, the adjusted Rand index (0 by chance, 1 at most), and `purity`, the share in the majority of its group.

    **Source:** L. Hubert and P. Arabie, Comparing partitions, J. Classification 2 (1985).
    """
    table = np.asarray(contingency_matrix(labels, groups))
    return {"ari": float(adjusted_rand_score(labels, groups)), "purity": float(table.max(axis=0).sum() / len(labels))}


def pixel_features(folder: Path, names: Sequence[str]) -> np.ndarray:
    """A baseline without a network: principal components of the pictures at 32 x 32 px, in RGB.

    Returns:
        (N, 50) float32; fewer columns for fewer pictures.

    Raises:
        UserError: one cannot be read.
    """
    try:
        pictures = (decode_image(named_file(folder, name)) for name in names)
        pixels = [np.asarray(picture.resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BOX)).ravel()
                  for picture in pictures]
    except ImageError as error:
        raise UserError(f"{error}", "the pictures that the features are of", "check --images-dir") from error
    array = np.stack(pixels).astype(np.float32) / 255
    return PCA(min(PIXEL_COMPONENTS, *array.shape), random_state=0).fit_transform(array).astype(np.float32)


def _k_means(features: np.ndarray, count: int, options: ClusterOptions, restarts: int) -> np.ndarray:
    kind = MiniBatchKMeans if options.algorithm == "minibatch" else KMeans
    return kind(count, n_init=restarts, random_state=options.seed).fit_predict(features)


def _dense_groups(features: np.ndarray, options: ClusterOptions) -> np.ndarray:
    if options.num_clusters is not None:
        raise UserError(f"--num-clusters {options.num_clusters} with --algorithm hdbscan, which finds the number "
                        "itself", "no number", "leave it away, or set --min-cluster-size")
    if len(features) < options.min_cluster_size:
        raise UserError(f"{counted(len(features), 'readable picture')} for groups of --min-cluster-size "
                        f"{options.min_cluster_size}", "at least as many", "lower it or give more pictures")
    return HDBSCAN(min_cluster_size=options.min_cluster_size, copy=True).fit_predict(features)


def _silhouettes(features: np.ndarray, options: ClusterOptions) -> dict[int, float]:
    """The mean silhouette, -1 to 1, of each number of clusters that is tried, once those that are too small dissolve.

    **Source:** P. Rousseeuw, Silhouettes, J. Comput. Appl. Math. 20 (1987).
    """
    least = max(3, options.min_cluster_size)
    if len(features) < least:
        raise UserError(f"--num-clusters auto for {counted(len(features), 'readable picture')}", f"at least {least}",
                        "give more pictures, a number, or a smaller --min-cluster-size")
    sample = np.random.default_rng(options.seed).permutation(len(features))[:SILHOUETTE_SAMPLE]
    counts = {round(2 * STEP**power) for power in range(100)}
    tried = {}
    for count in sorted(count for count in counts if count <= min(MOST_CLUSTERS_TRIED, len(features) - 1)):
        labels = _large_groups(features, count, options, RESTARTS_TRIED)[sample]
        # Equal pictures fall into fewer groups than asked for, perhaps into one, which has no silhouette.
        tried[count] = float(silhouette_score(features[sample], labels)) if len(set(labels)) > 1 else -1.0
    return tried


def _large_groups(features: np.ndarray, count: int, options: ClusterOptions, restarts: int) -> np.ndarray:
    """Labels of k-means, (N,), where the pictures of clusters that are too small join the nearest of the others."""
    labels = _k_means(features, count, options, restarts)
    kept = np.flatnonzero(np.bincount(labels) >= options.min_cluster_size)
    if not len(kept):
        return np.zeros_like(labels)
    left = np.flatnonzero(~np.isin(labels, kept))
    if len(left):
        centroids = np.stack([features[labels == label].mean(axis=0) for label in kept])
        labels[left] = kept[pairwise_distances_argmin(features[left], centroids)]
    return labels


def _clusters(features: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> tuple[list[dict[str, Any]], float]:
    members = [np.flatnonzero(labels == label) for label in range(labels.max(initial=-1) + 1)]
    members = sorted((rows for rows in members if len(rows)), key=len, reverse=True)
    clusters, inertia = [], 0.0
    for number, rows in enumerate(members):
        centroid = features[rows].mean(axis=0)
        distances = np.linalg.norm(features[rows] - centroid, axis=1)
        inertia += float((distances.astype(np.float64) ** 2).sum())
        clusters.append({"cluster_id": number, "size": len(rows), "centroid": centroid.tolist(),
                         "images": [names[row] for row in rows[np.argsort(distances, kind="stable")]]})
    return clusters, inertia
