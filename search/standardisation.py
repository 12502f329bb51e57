"""Feature vectors made comparable: equal weight for each group of numbers, then principal components.

Raw features of several stages have different scales and widths, and cosines between them are those of the largest
numbers. Chosen on other splits and books than those reported, see BENCHMARKS.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.options import COMPONENTS
from search.rows import Rows
from search.vectors import BLOCK, Vectors, read_matrix
from utils import UserError, write_array

STANDARDISATION = "standardisation.npy"
MOST_ROWS = 20_000  # that it is fitted on
SMALLEST_VARIANCE = 1e-6  # of a component; all numbers together have the number of blocks


@dataclass(frozen=True, eq=False)
class Standardisation:
    """An affine map of feature vectors, fitted on pictures.

    Attributes:
        mean: (D,) float32.
        matrix: (K, D) float32; a vector x becomes `matrix @ (x - mean)`.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, rows: Rows, blocks: Sequence[int], components: int = COMPONENTS) -> Standardisation:
        """The standardisation of `rows`, (N, D) float32, which may be a memory map.

        Of the rows scaled by `block_scale`, the first principal components are kept, each divided by the fourth root
        of its variance: between leaving them as they are and whitening. Of more than 20,000 rows, so many are taken at
        equal distances.

        Args:
            rows: raw features.
            blocks: widths of consecutive groups of numbers, D in all.
            components: at most so many are kept.
        """
        from sklearn.decomposition import PCA
        sample = np.asarray(rows[:: -(-len(rows) // MOST_ROWS)], np.float32)
        mean, scale = block_scale(sample, blocks)
        if len(sample) == 1:  # it has no direction
            return cls(sample[0], np.zeros_like(sample))
        found = PCA(min(components, len(sample) - 1, len(mean)), random_state=0)
        found.fit(((sample - mean) * scale).astype(np.float32))
        variance = np.maximum(found.explained_variance_, SMALLEST_VARIANCE)[:, None]
        matrix = np.asarray(found.components_, np.float64) * scale / np.sqrt(np.sqrt(variance))
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def apply(self, rows: Rows) -> np.ndarray:
        """`rows`, (N, D), standardised: (N, K) float32."""
        return np.concatenate([(rows[start:start + BLOCK] - self.mean) @ self.matrix.T
                               for start in range(0, len(rows) or 1, BLOCK)])

    def write(self, folder: Path) -> None:
        """Write standardisation.npy, (1 + K, D) float32, to `folder`: the mean, then the matrix."""
        write_array(folder / STANDARDISATION, np.concatenate([self.mean[None], self.matrix]))

    @classmethod
    def read(cls, folder: Path, width: int) -> Standardisation | None:
        """That of the features in `folder`, which have `width` numbers; None where there is none.

        Raises:
            UserError: it cannot be read, or is of other features.
        """
        path = folder / STANDARDISATION
        if not os.path.lexists(path):
            return None
        rows = read_matrix(path)
        if len(rows) < 2 or rows.shape[1] != width:
            raise UserError(f"{path} of shape {rows.shape}", f"at least 2 rows of {width} numbers",
                            "keep the files of one folder together, or make them again")
        return cls(rows[0], np.array(rows[1:]))


def comparable(found: Vectors, components: int | None = None) -> tuple[np.ndarray, Standardisation | None]:
    """The vectors as they are compared, (N, K) float32, and the standardisation that made them so, if any.

    Pooled features are compared as they are, unless `components` are asked for. The others are standardised: as
    standardisation.npy beside them says, else fitted to themselves.
    """
    kind = found.space.feature_kind if found.space else "pooled"
    if kind == "pooled" and components is None:
        return found.rows, None
    width = found.rows.shape[1]
    folders = {file.parent for file, _ in found.files}
    fitted = Standardisation.read(folders.pop(), width) if len(folders) == 1 and components is None else None
    if fitted is None:
        blocks = found.space.widths(width) if found.space else [width]
        fitted = Standardisation.fit(found.rows, blocks, components or COMPONENTS)
    return fitted.apply(found.rows), fitted


def block_scale(rows: np.ndarray, blocks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """What brings features to mean 0 and variance 1 / (the width of their block), so that all blocks count alike.

    Args:
        rows: features (N, D).
        blocks: widths of consecutive groups of numbers, D in all.

    Returns:
        the mean, (D,) float64, to subtract, and then the factor, (D,) float64; 0 where a number never changes.
    """
    mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    changes = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-6)
    return mean, np.where(changes, 1 / np.where(changes, deviation * np.repeat(np.sqrt(blocks), blocks), 1), 0)
