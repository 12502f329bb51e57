"""Agreement as by hand, and the pixels as a baseline that colour alone can win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from search.agreement import agreement, pixel_features
from utils import UserError


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
