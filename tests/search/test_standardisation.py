"""Standardisation agrees with scikit-learn, weighs blocks alike and survives odd features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from search.standardisation import Standardisation


@pytest.fixture
def rows() -> np.ndarray:
    random = np.random.default_rng(1)
    return (random.normal(size=(60, 5)) @ random.normal(size=(5, 12)) * 10.0 ** random.integers(-3, 4, 12)
            + random.normal(size=12) + 0.1 * random.normal(size=(60, 12))).astype(np.float32)


def test_it_is_pca_of_standardised_numbers(rows: np.ndarray) -> None:
    found = Standardisation.fit(rows, [12], 4).apply(rows)
    scaled = StandardScaler().fit_transform(rows.astype(np.float64)) / np.sqrt(12)
    pca = PCA(4)
    expected = pca.fit_transform(scaled) / pca.explained_variance_ ** 0.25
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-3, atol=1e-3)


def test_blocks_of_any_width_have_the_same_variance(rows: np.ndarray) -> None:
    fitted = Standardisation.fit(rows, [2, 10], 12)
    variance = np.linalg.pinv(fitted.matrix.astype(np.float64))  # back to the numbers from the components
    weights = 1 / np.abs(rows.std(axis=0) * np.sqrt([2] * 2 + [10] * 10))
    back = ((fitted.apply(rows) @ variance.T) * weights).var(axis=0)
    assert back[:2].sum() == pytest.approx(1, rel=1e-3)
    assert back[2:].sum() == pytest.approx(1, rel=1e-3)


def test_a_number_that_never_changes_does_not_count(rows: np.ndarray) -> None:
    rows[:, 3] = 7
    fitted = Standardisation.fit(rows, [12], 12)
    other = rows.copy()
    other[:, 3] = 1e6
    np.testing.assert_array_equal(fitted.apply(rows), fitted.apply(other))
    assert np.isfinite(fitted.apply(rows)).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_pictures_give_few_components(rows: np.ndarray, count: int) -> None:
    found = Standardisation.fit(rows[:count], [12]).apply(rows)
    assert found.shape == (60, max(1, count - 1))
    assert np.isfinite(found).all()


def test_it_comes_back_from_its_folder(rows: np.ndarray, tmp_path: Path) -> None:
    fitted = Standardisation.fit(rows, [6, 6], 3)
    fitted.write(tmp_path)
    found = Standardisation.read(tmp_path, 12)
    assert found is not None
    np.testing.assert_array_equal(found.apply(rows), fitted.apply(rows))
    assert Standardisation.read(tmp_path / "elsewhere", 12) is None
