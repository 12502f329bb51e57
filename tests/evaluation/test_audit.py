"""An audit finds swapped labels, copies and outliers, and proposes what a person would."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluation.audit import FOLDS, STRENGTH, Audit, audit, out_of_fold, tabulate
from evaluation.audit_page import write_page
from tests.pictures import stroke_picture
from utils import UserError


def features(artists: int = 3, pictures: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 8) around a point for each artist, and the artists."""
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(artists), pictures)
    return (4 * np.eye(8)[targets] + rng.normal(size=(len(targets), 8))).astype(np.float32), targets


def judge(rows: np.ndarray, targets: np.ndarray, groups: list[list[int]] | None = None) -> Audit:
    names = [f"{target}/{place}.png" for place, target in enumerate(targets)]
    return audit(names, [f"artist_{each}" for each in targets], rows, groups or [])


def test_swapped_labels_are_listed_first_and_moved_back() -> None:
    rows, targets = features()
    swapped, right = [3, 25, 44], targets.copy()
    targets[swapped] = (targets[swapped] + 1) % 3
    found = judge(rows, targets)
    assert {*found.order[:3].tolist()} == {*swapped}
    assert np.flatnonzero(found.wrong).tolist() == swapped
    assert found.agreement == np.mean(found.probabilities.argmax(axis=1) == targets)
    assert {fix.path: fix.artist for fix in found.fixes()} == {
        found.names[place]: f"artist_{right[place]}" for place in swapped}
    table = tabulate(found)
    assert [row[0] for row in table[1:4]] == [found.names[place] for place in found.order[:3]]


def test_a_picture_is_judged_without_its_copies() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(rng.normal(0, 5, size=(60, 64)).astype(np.float32), 2, axis=0)  # noise: only copies could tell
    targets = np.repeat(rng.permutation(60) % 2, 2)
    own = [out_of_fold(rows, targets, groups, 2)[np.arange(120), targets].mean()
           for groups in (np.arange(120) // 2, np.arange(120))]
    assert own[0] < 0.6 < 0.8 < own[1]


def test_one_fold_agrees_with_scikit_learn() -> None:
    rows, targets = features(2, 10)
    groups = np.arange(20) // 4
    probabilities = out_of_fold(rows, targets, groups, 2)
    for group in range(5):
        inside = groups == group
        model = LogisticRegression(C=STRENGTH, max_iter=1000, class_weight="balanced")
        expected = model.fit(rows[~inside], targets[~inside]).predict_proba(rows[inside])
        np.testing.assert_allclose(probabilities[inside], expected, atol=1e-3)


def test_copies_of_several_artists_stay_with_the_one_they_fit() -> None:
    rows, targets = features()
    rows[25] = rows[2]
    found = judge(rows, targets, [[2, 25], [45, 46]])
    assert found.across() == [[2, 25]]
    fix, = found.fixes()
    assert (fix.path, fix.artist) == (found.names[25], "")
    assert found.names[2] in fix.reason


def test_an_outlier_is_far_from_all_and_artists_that_overlap_look_alike() -> None:
    rows, targets = features(4)
    rows[targets == 3] = rows[targets == 2] + 0.3
    rows[7] = -30 * np.ones(8)
    found = judge(rows, targets)
    assert found.furthest[0] == 7
    assert 7 in found.outliers
    assert found.alike()[0][:2] == (2, 3)


def test_artists_with_few_pictures_are_not_judged_and_one_is_too_few() -> None:
    rows, targets = features()
    targets[:FOLDS - 1] = 3
    found = judge(rows, targets)
    assert np.isnan(found.own[:FOLDS - 1]).all()
    assert not found.wrong[:FOLDS - 1].any()
    assert "not judged: 4 pictures of artists with fewer than 5" in found.lines()
    assert {*found.order[-4:].tolist()} == {0, 1, 2, 3}
    with pytest.raises(UserError, match="fewer than two have 5 pictures"):
        judge(rows, np.zeros(60, np.int64))


@pytest.mark.skipif(sys.platform == "win32", reason="no file there can have such a name")
def test_the_page_escapes_names_and_needs_no_other_file(tmp_path: Path) -> None:
    rows, targets = features(2, 10)
    names = [f"<b>{target}&/{place}.png" for place, target in enumerate(targets)]
    rng = np.random.default_rng(0)
    for name in names[:-1]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stroke_picture(0.3, rng).save(tmp_path / name)
    rows[0] = rows[15]
    found = audit(names, [name.partition("/")[0] for name in names], rows, [[0, 15], [3, 4]])
    write_page(tmp_path / "audit.html", found, tmp_path, max_pixels=10**6)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert "<b>0" not in page
    assert "&lt;b&gt;0&amp;" in page
    assert page.count("data:image/jpeg;base64,") > 10
    assert "not read" in page
    assert not [part for part in page.split('"') if part.startswith(("http:", "https:", "//"))]
