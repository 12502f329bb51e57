"""Groups among feature vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.cluster import KMeans

from utils import UserError

RESTARTS = 10  # k-means keeps the best of as many starts


def kmeans_clusters(features: np.ndarray, names: Sequence[str], num_clusters: int, *, seed: int) -> dict[str, Any]:
    """K-means of `features`, (N, D), as the JSON object of cluster_assignments.json.

    Args:
        features: one row per picture.
        names: one per row.
        num_clusters: number of groups, at most N.
        seed: of the starting centroids.

    Returns:
        `num_clusters`, `inertia` (summed squared distance to the centroids) and `clusters`, largest first, each with
        `cluster_id`, `size`, `centroid` (D numbers) and `images`, nearest to the centroid first.

    Raises:
        UserError: more clusters than pictures.
    """
    if num_clusters > len(features):
        raise UserError(f"--num-clusters {num_clusters} for {len(features)} readable picture(s)",
                        f"at most {len(features)}", "ask for fewer clusters or give more pictures")
    fitted = KMeans(num_clusters, n_init=RESTARTS, random_state=seed).fit(features)
    distances = np.linalg.norm(features - fitted.cluster_centers_[fitted.labels_], axis=1)
    members = [np.flatnonzero(fitted.labels_ == cluster) for cluster in range(num_clusters)]
    members.sort(key=len, reverse=True)
    clusters = [{"cluster_id": number, "size": len(rows),
                 "centroid": fitted.cluster_centers_[fitted.labels_[rows[0]]].tolist(),
                 "images": [names[row] for row in rows[np.argsort(distances[rows], kind="stable")]]}
                for number, rows in enumerate(members) if len(rows)]
    return {"num_clusters": len(clusters), "inertia": float(fitted.inertia_), "clusters": clusters}
