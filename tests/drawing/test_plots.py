"""The drawings hold every point and say what it is."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from drawing.plots import limits, reliability_plot, scatter, training_curves
from evaluation.calibration import reliability_bins


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that were saved, drawn."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **how: (figures.append(figure),
                                                                         save(figure, *args, **how)))
    return figures


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def test_curves_hold_every_point_that_was_measured(drawn: list[Figure], tmp_path: Path) -> None:
    records = [{"epoch": 0, "train_loss": 2.0, "lr": 1e-3}, {"epoch": 1, "train_loss": 1.0, "val_loss": 1.5,
                                                            "val_top1": 61.0, "lr": 5e-4}]
    training_curves(records, tmp_path / "curves.png")
    points = {axes.get_title(loc="left"): axes.lines[0].get_xydata().tolist() for axes in drawn[0].axes}
    assert points == {"training loss (all that training lowers)": [[0, 2.0], [1, 1.0]],
                      "validation cross-entropy": [[1, 1.5]], "validation top-1, %": [[1, 61.0]],
                      "learning rate": [[0, 1e-3], [1, 5e-4]]}
    assert opened(tmp_path / "curves.png").width > 1000


def test_a_run_without_a_validation_loss_has_no_panel_for_it(drawn: list[Figure], tmp_path: Path) -> None:
    training_curves([{"epoch": 1, "train_loss": 1.0, "val_box_ap": 50.0, "val_mask_ap": 40.0, "lr": 5e-4}],
                    tmp_path / "curves.png")
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == [
        "training loss (all that training lowers)", "validation mask AP, %", "learning rate"]


def test_panels_of_long_numbers_are_whole_and_apart(drawn: list[Figure], tmp_path: Path) -> None:
    training_curves([{"epoch": epoch, "train_loss": 123456 / epoch, "val_loss": 2345.6 / epoch, "lr": 1.2345e-5 * epoch,
                      "val_top1": 33.25 + epoch} for epoch in (998, 999, 1000)], tmp_path / "curves.png")
    boxes = [drawn[0].bbox, *(axes.get_tightbbox() for axes in drawn[0].axes)]
    assert all(boxes[0].x0 < box.x0 < box.x1 < boxes[0].x1 and boxes[0].y0 < box.y0 < box.y1 < boxes[0].y1
               for box in boxes[1:])
    assert all(box.x1 < following.x0 for box, following in itertools.pairwise(boxes[1:]))


def test_curves_of_a_run_that_has_just_begun(tmp_path: Path) -> None:
    training_curves([], tmp_path / "curves.png")
    assert opened(tmp_path / "curves.png")
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(("key", "name", "loss"), [
    ("val_top1", "validation top-1, %", "cross-entropy"),
    ("val_macro_map", "validation macro mAP, %", "binary cross-entropy per label"),
    ("lr", "no evaluation yet", "loss")])
def test_what_the_run_has_is_named_and_no_two_losses_share_an_axis(key: str, name: str, loss: str,
                                                                   drawn: list[Figure], tmp_path: Path) -> None:
    training_curves([{"epoch": 1, "train_loss": 40.0, "val_loss": 0.2, key: 61.0}], tmp_path / "curves.png")
    training, validation, metric, _ = drawn[0].axes
    assert [validation.get_title(loc="left"), metric.get_title(loc="left")] == [f"validation {loss}", name]
    assert [[line.get_ydata().tolist() for line in axes.lines] for axes in (training, validation)] == [
        [[40.0]], [[0.2]]]


@pytest.mark.parametrize("values", [[50.0, 82.86, 82.8, 82.7], [82.86], [*range(50, 82), 82.86]])
def test_the_best_value_is_written_inside_the_panel_and_above_the_curve(values: list[float], drawn: list[Figure],
                                                                        tmp_path: Path) -> None:
    training_curves([{"epoch": epoch, "val_top1": value} for epoch, value in enumerate(values, 1)],
                    tmp_path / "curves.png")
    axes = drawn[0].axes[2]
    text, = axes.texts
    assert text.get_text() == "82.86"
    box, panel = text.get_window_extent(), axes.get_window_extent()
    highest = axes.transData.transform((1, 82.86))[1]
    assert highest + 4 < box.y0 < box.y1 <= panel.y1
    assert panel.x0 <= box.x0 < box.x1 <= panel.x1


def test_scatter_labels_every_point_on_every_panel(drawn: list[Figure], tmp_path: Path) -> None:
    panels = {"parameters, M": [("one", 1.0, 10.0), ("two", 2.0, 5.0)], "top-1, %": [("one", 75.0, 10.0)]}
    scatter(panels, "images/s", tmp_path / "speed.png", "batches of 2")
    assert drawn[0].get_suptitle() == "batches of 2"
    for axes, (name, points) in zip(drawn[0].axes, panels.items(), strict=True):
        assert (axes.get_xlabel(), axes.get_ylabel()) == (name, "images/s")
        assert [line.get_xydata().tolist() for line in axes.lines] == [[[x, y]] for _, x, y in points]
        assert [text.get_text() for text in axes.texts] == [label for label, _, _ in points]
    assert opened(tmp_path / "speed.png")


@pytest.mark.parametrize("models", [["lsnet_t"], ["lsnet_t", "lsnet_b"], ["lsnet_t:plain-unfold@bfloat16", "b", "c"]])
def test_labels_stay_inside_their_panel(models: list[str], drawn: list[Figure], tmp_path: Path) -> None:
    scatter({"parameters, M": [(model, 11.4 + 6 * number, 900.0 - number) for number, model in enumerate(models)]},
            "images/s", tmp_path / "speed.png")
    axes, = drawn[0].axes
    panel = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert panel.x0 <= box.x0 < box.x1 <= panel.x1
        assert box.y1 <= panel.y1


def test_labels_of_neighbours_do_not_cover_each_other(drawn: list[Figure], tmp_path: Path) -> None:
    scatter({"parameters, M": [("test_efficientnet", 0.355, 215.0), ("far", 0.47, 174.0), ("test_vit", 0.366, 212.0)]},
            "images/s", tmp_path / "speed.png")
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_one_network_gets_room_in_proportion() -> None:
    assert limits([75.0]) == pytest.approx((60, 90))
    assert limits([10.0, 20.0]) == pytest.approx((8, 22))
    assert limits([75.0, 76.0]) == pytest.approx((71.2, 79.8))


def draw_reliability(scores: np.ndarray, right: np.ndarray, unknown: np.ndarray, confident: float, path: Path) -> None:
    """Draw answers that calibration leaves as they are."""
    bins = reliability_bins(scores, right)
    groups = {"right": scores[right], "wrong": scores[~right], "unknown artists": unknown}
    reliability_plot({"before": bins, "after": bins}, groups, "probability", 0.4, confident, path)


@pytest.mark.parametrize(("others", "confident"), [(0, 0.8), (30, 2.0)])
def test_reliability_is_a_picture(tmp_path: Path, others: int, confident: float) -> None:
    rng = np.random.default_rng(0)
    scores = rng.uniform(0.2, 1, 80)
    draw_reliability(scores, rng.random(80) < scores, rng.uniform(0, 0.7, others), confident, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as drawing:
        assert drawing.size == (1430, 528)


@pytest.mark.parametrize(("confident", "others", "legend"), [
    (0.998, 30, ["right (90)", "wrong (1)", "unknown artists (30)", "possible from 40.0%", "confident from 99.8%"]),
    (2.0, 0, ["right (90)", "wrong (1)", "possible from 40.0%"])])
def test_all_of_reliability_is_seen_and_named(drawn: list[Figure], tmp_path: Path, confident: float, others: int,
                                              legend: list[str]) -> None:
    scores = np.r_[np.full(90, 0.999), 0.5]
    draw_reliability(scores, np.arange(91) > 0, np.full(others, 0.3), confident, tmp_path / "a.png")
    before, after, verdicts = drawn[0].axes
    for axes in (before, after):
        panel, (points,) = axes.get_window_extent(), axes.collections
        for (x, y), area in zip(axes.transData.transform(points.get_offsets()), points.get_sizes(), strict=True):
            radius = np.sqrt(area) / 2 * drawn[0].dpi / 72
            assert panel.x0 < x - radius < x + radius < panel.x1
            assert panel.y0 < y - radius < y + radius < panel.y1
    drawn_legend, = drawn[0].legends
    assert sorted(text.get_text() for text in drawn_legend.get_texts()) == sorted(legend)
    boxes = [drawn_legend.get_window_extent(), *(text.get_window_extent() for text in drawn[0].texts),
             *(axes.get_tightbbox() for axes in drawn[0].axes)]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    lines = [line.get_xdata()[0] for line in verdicts.lines]
    assert lines == [0.4, 0.998][:len(lines)]
    assert len(lines) == (confident < 1) + 1
    assert verdicts.get_xlim()[1] > 1.05
    assert ("confident" in verdicts.get_title(loc="left")) == (confident < 1)
