"""How well groups agree with artists, beside groups of what a network is not needed for: the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from data.images import ImageError, decode_image
from utils import UserError

PIXEL_SIDE, PIXEL_COMPONENTS = 32, 50


def agreement(labels: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """`ari`, the adjusted Rand index (0 by chance, 1 at most), and `purity`, the share in the majority of its group.

    **Source:** L. Hubert and P. Arabie, Comparing partitions, J. Classification 2 (1985).
    """
    table = contingency_matrix(labels, groups)
    return {"ari": float(adjusted_rand_score(labels, groups)), "purity": float(table.max(axis=0).sum() / len(labels))}


def pixel_features(folder: Path, names: Sequence[str]) -> np.ndarray:
    """The pictures at 32 x 32 px, in RGB, by their 50 principal components (fewer for fewer pictures): (N, 50) float32.

    Raises:
        UserError: one cannot be read.
    """
    try:
        small = (decode_image(folder / name).resize((PIXEL_SIDE, PIXEL_SIDE), Image.Resampling.BOX) for name in names)
        pixels = [np.asarray(picture).ravel() for picture in small]
    except ImageError as error:
        raise UserError(f"{error}", "the pictures that the features are of", "check --images-dir") from error
    array = np.stack(pixels).astype(np.float32) / 255
    return PCA(min(PIXEL_COMPONENTS, *array.shape), random_state=0).fit_transform(array).astype(np.float32)
