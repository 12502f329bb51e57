"""The picture of a calibration is drawn with and without unknown artists, and when nothing is ever confident."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from drawing.reliability import reliability_plot
from evaluation.calibration import Calibration


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


@pytest.mark.parametrize(("confident", "others", "legend"), [
    (0.998, 30, ["right", "wrong", "unknown artists", "possible from 0.400", "confident from 0.998"]),
    (2.0, 0, ["right", "wrong", "possible from 0.400"])])
def test_all_of_it_is_seen_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, confident: float, others: int,
                                     legend: list[str]) -> None:
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: (figures.append(figure),
                                                                         save(figure, *args, **how)))
    calibration = Calibration(fingerprint="", view="default", temperature=1, confident=confident, possible=0.4,
                              error_rate=0.05)
    scores = np.r_[np.full(90, 0.999), 0.5]
    reliability_plot(scores, scores, np.arange(91) > 0, np.full(others, 0.3), calibration, tmp_path / "a.png")
    before, after, verdicts = figures[0].axes
    for axes in (before, after):
        panel, (points,) = axes.get_window_extent(), axes.collections
        for (x, y), area in zip(axes.transData.transform(points.get_offsets()), points.get_sizes(), strict=True):
            radius = np.sqrt(area) / 2 * figures[0].dpi / 72
            assert panel.x0 < x - radius < x + radius < panel.x1
            assert panel.y0 < y - radius < y + radius < panel.y1
    assert sorted(text.get_text() for text in verdicts.get_legend().get_texts()) == sorted(legend)
    lines = [line.get_xdata()[0] for line in verdicts.lines]
    assert lines == [0.4, 0.998][:len(lines)]
    assert len(lines) == (confident < 1) + 1
    assert verdicts.get_xlim()[1] > 1.05
    assert ("confident" in verdicts.get_title(loc="left")) == (confident < 1)
