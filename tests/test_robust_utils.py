"""The robustness protocols against figures computed by hand, on folders whose scores are made up."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from timm.data import ImageNetInfo

from robust_utils import (
    SEVERITIES,
    Score,
    alexnet_errors,
    check_folders,
    evaluate_protocols,
    format_lines,
    table_rows,
    wordnet_ids,
)
from utils import UserError

# Hendrycks and Dietterich, arXiv 1903.12261, table 1 (AlexNet's errors there: in %, rounded)
ROUNDED = {"gaussian_noise": 88.6, "shot_noise": 89.4, "impulse_noise": 92.3, "defocus_blur": 82.0, "glass_blur": 82.6,
           "motion_blur": 78.6, "zoom_blur": 79.8, "snow": 86.7, "frost": 82.7, "fog": 81.9, "brightness": 56.5,
           "contrast": 85.3, "elastic_transform": 64.6, "pixelate": 71.8, "jpeg_compression": 60.7}


class FakeEvaluation:
    """Remembers what was asked and answers with made-up scores."""

    def __init__(self, scores: dict[str, float], missing: dict[str, Sequence[str]] | None = None) -> None:
        self.scores, self.missing, self.asked = scores, missing or {}, []

    def __call__(self, folder: Path, classes: Sequence[str], *, resize_only: bool) -> Score:
        name = f"{folder.parent.name}/{folder.name}" if folder.name in SEVERITIES else folder.name
        self.asked.append((name, len(classes), resize_only))
        return Score(top1=self.scores.get(name, self.scores.get("", 0.0)), pictures=7,
                     missing=self.missing.get(name, ()))


@pytest.fixture
def corrupted(tmp_path: Path) -> Path:
    """The folders of a whole ImageNet-C."""
    for name in alexnet_errors():
        for severity in SEVERITIES:
            (tmp_path / "c" / name / severity).mkdir(parents=True)
    return tmp_path / "c"


def test_the_lists_are_the_published_ones() -> None:
    everything = wordnet_ids("imagenet_1k")
    assert list(everything) == ImageNetInfo().label_names()
    for name in ("imagenet_a", "imagenet_r"):
        mask = wordnet_ids(name)
        assert len(set(mask)) == 200
        assert set(mask) < set(everything)
        assert list(mask) == pkgutil.get_data("timm.data", f"_info/{name}_synsets.txt").decode().split()
    assert {name: round(100 * error, 1) for name, error in alexnet_errors().items()} == pytest.approx(ROUNDED, abs=0.11)


def test_mce_is_the_mean_ratio_to_alexnet(corrupted: Path) -> None:
    """Noise keeps 40, 30, 20, 10 and 0 % of the pictures: an error of 80 %; everything else is always recognised."""
    scores = {"": 100.0} | {f"gaussian_noise/{n}": 50.0 - 10 * int(n) for n in SEVERITIES}
    evaluation = FakeEvaluation(scores)
    result = evaluate_protocols({"imagenet_c": corrupted}, evaluation)["imagenet_c"]
    assert result["corruptions"]["gaussian_noise"]["error"] == pytest.approx(80)
    assert result["corruptions"]["gaussian_noise"]["ce"] == pytest.approx(80 / 0.886428)
    assert result["corruptions"]["fog"]["ce"] == 0
    assert result["mce"] == pytest.approx(80 / 0.886428 / 15)
    assert result["missing"] == []
    assert len(evaluation.asked) == 75
    assert {(classes, resize_only) for _, classes, resize_only in evaluation.asked} == {(1000, True)}
    json.dumps(result, allow_nan=False)


def test_alexnet_itself_has_an_mce_of_100(corrupted: Path) -> None:
    scores = {f"{name}/{n}": 100 - 100 * error for name, error in alexnet_errors().items() for n in SEVERITIES}
    assert evaluate_protocols({"imagenet_c": corrupted}, FakeEvaluation(scores))["imagenet_c"]["mce"] == pytest.approx(
        100)


def test_only_what_is_complete_has_a_mean(corrupted: Path) -> None:
    (corrupted / "snow" / "4").rmdir()
    evaluation = FakeEvaluation({"": 60.0}, {"fog/2": ["n01440764"]})
    result = evaluate_protocols({"imagenet_c": corrupted}, evaluation)
    figures = result["imagenet_c"]
    assert figures["mce"] is None
    assert figures["corruptions"]["snow"] == {"top1": dict.fromkeys("1235", 60.0), "error": None, "ce": None}
    assert figures["corruptions"]["fog"]["error"] is None
    assert figures["corruptions"]["frost"]["error"] == pytest.approx(40)
    assert figures["missing"] == ["1 classes of fog/2", "snow/4"]
    assert format_lines(result) == ["ImageNet-C is incomplete; missing: 1 classes of fog/2, snow/4"]
    assert ("snow", "60.0", "60.0", "60.0", "–", "60.0", "–", "–") in table_rows(result)


def test_the_other_protocols_choose_among_their_own_classes(tmp_path: Path) -> None:
    for name in ("a", "r", "sketch"):
        (tmp_path / name).mkdir()
    evaluation = FakeEvaluation({"a": 6.7, "r": 38.5, "sketch": 25.5}, {"r": list("wxyz")})
    result = evaluate_protocols({f"imagenet_{name}": tmp_path / name for name in ("a", "r", "sketch")}, evaluation)
    assert evaluation.asked == [("a", 200, False), ("r", 200, False), ("sketch", 1000, False)]
    assert [figures["top1"] for figures in result.values()] == [6.7, 38.5, 25.5]
    assert format_lines(result) == ["ImageNet-A top-1 6.700 of 7 pictures, 200 classes",
                             "ImageNet-R top-1 38.500 of 7 pictures, 200 classes",
                             "ImageNet-R is incomplete; missing: w, x, y and 1 more",
                             "ImageNet-Sketch top-1 25.500 of 7 pictures, 1000 classes"]
    assert table_rows(result) == []


def test_folders_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*ImageNet-R"):
        check_folders({"imagenet_c": tmp_path, "imagenet_r": tmp_path / "nowhere"})
    with pytest.raises(UserError, match=r"no corruption.*brightness"):
        evaluate_protocols({"imagenet_c": tmp_path}, FakeEvaluation({}))
