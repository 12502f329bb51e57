"""Rare labels, damaged pictures and equal files are told apart before pictures are dealt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.multilabel.annotations import Annotation
from data.multilabel.split import MultiLabelRule, MultiLabelSplit, plan_multilabel_split, split_annotations
from tests.pictures import stroke_picture
from utils import UserError

ANNOTATIONS = [Annotation(f"{number}.png", {"a": 2.0, "b": 1.0} if number % 2 else {"a": 1.0}) for number in range(10)]


def rule(**settings: object) -> MultiLabelRule:
    return MultiLabelRule(**{"val_ratio": 0.2, "min_label_count": 1, "seed": 0, **settings})


def plan(folder: Path, annotations: list[Annotation]) -> MultiLabelSplit:
    return plan_multilabel_split(folder, annotations, rule(), max_pixels=10_000, workers=0,
                                 progress=lambda doing: lambda results, total: results)


def test_rare_labels_are_dropped_and_pictures_of_only_those_left_out() -> None:
    annotations = [*ANNOTATIONS, Annotation("x.png", {"rare": 1.0}), Annotation("y.png", {"a": 1.0, "rare": 3.0})]
    split = split_annotations(annotations, rule(min_label_count=3))
    assert split.rare == {"rare": 2}
    assert split.left_out == {"x.png": "all its labels are rare"}
    both = {annotation.path: annotation.labels for annotation in split.train + split.val}
    assert both == {annotation.path: annotation.labels for annotation in ANNOTATIONS} | {"y.png": {"a": 1.0}}
    assert {label for _, labels in split.val for label in labels} == {"a", "b"}
    assert not split.one_sided


def test_sides_keep_the_order_and_labels_without_a_way_are_named() -> None:
    split = split_annotations(ANNOTATIONS, rule())
    for side in (split.train, split.val):
        assert side == [annotation for annotation in ANNOTATIONS if annotation in side]
    triangle = [Annotation(f"{one}{other}.png", {one: 1.0, other: 1.0}) for one, other in ("ab", "bc", "ac")]
    assert list(split_annotations(triangle, rule()).one_sided.values()) == [2]


@pytest.mark.parametrize(("annotations", "least"), [
    (ANNOTATIONS, 11), (ANNOTATIONS[:1], 1), ([Annotation("1.png", {"a": 1.0}), Annotation("2.png", {"b": 1.0})], 1)])
def test_what_cannot_be_on_both_sides_is_refused(annotations: list[Annotation], least: int) -> None:
    with pytest.raises(UserError, match="no label that two of them have"):
        split_annotations(annotations, rule(min_label_count=least))


def test_no_picture_by_content_is_on_both_sides_and_none_is_damaged(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for annotation in ANNOTATIONS:
        stroke_picture(0.3, generator).save(tmp_path / annotation.path)
    for copy in ("same.png", "other.png"):
        (tmp_path / copy).write_bytes((tmp_path / "1.png").read_bytes())
    (tmp_path / "bad.png").write_bytes(b"bad")
    Image.new("RGB", (200, 200)).save(tmp_path / "large.png")
    split = plan(tmp_path, [*ANNOTATIONS, Annotation("same.png", {"a": 2.0, "b": 1.0}),
                            Annotation("other.png", {"b": 1.0}), Annotation("bad.png", {"a": 1.0}),
                            Annotation("large.png", {"a": 1.0})])
    assert {name: reason.partition(" (")[0] for name, reason in split.left_out.items()} == {
        "bad.png": "no picture in a known format", "large.png": "200x200 px, more than the limit of 10000 px",
        "same.png": "same file as 1.png", "other.png": "same file as 1.png, labelled otherwise"}
    assert split.damaged == 2
    assert sorted(annotation.path for annotation in split.train + split.val) == [name for name, _ in ANNOTATIONS]
