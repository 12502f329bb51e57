"""The picture of a calibration is drawn with and without other artists, and when nothing is ever confident."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.calibration import Calibration
from runtime.reliability_plot import reliability_plot


@pytest.mark.parametrize("others", [0, 30])
@pytest.mark.parametrize("confident", [0.8, 2.0])
def test_it_is_a_picture(tmp_path: Path, others: int, confident: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 1, 80)
    calibration = Calibration(fingerprint="", view="default", temperature=1.5, confident=confident, possible=0.4,
                              error_rate=0.05)
    reliability_plot(scores, scores**2, rng.random(80) < scores, rng.uniform(0, 0.7, others), calibration,
                     tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawing:
        assert drawing.size == (1430, 484)
