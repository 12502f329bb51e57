"""Retrieval figures are those of scikit-learn and of a plain loop."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

import search.retrieval
from search.retrieval import format_retrieval, read_labels, retrieval_figures
from utils import UserError


@pytest.fixture(scope="module")
def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Nine artists of unequal size, overlapping: (90, 12) float32, labels; the last artist has one picture."""
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.integers(0, 8, 89), [8]])
    return (rng.normal(size=(9, 12))[labels] + 1.1 * rng.normal(size=(90, 12))).astype(np.float32), labels


@pytest.mark.parametrize("held", [1, 1000, 2**22])
def test_figures_are_those_of_scikit_learn(pictures: tuple, held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.retrieval, "SIMILARITIES", held)
    features, labels = pictures
    unit = features.astype(np.float64) / np.linalg.norm(features, axis=1, keepdims=True)
    precisions, recalls = [], {rank: [] for rank in (1, 5, 10)}
    for query in range(len(labels) - 1):
        others = np.arange(len(labels)) != query
        similarity, same = unit[others] @ unit[query], labels[others] == labels[query]
        precisions.append(average_precision_score(same, similarity))
        for rank, found in recalls.items():
            found.append(same[np.argsort(-similarity)[:rank]].any())
    figures = retrieval_figures(features, labels)
    assert figures["map"] == pytest.approx(100 * np.mean(precisions))
    assert [figures[f"recall{rank}"] for rank in recalls] == pytest.approx([100 * np.mean(x) for x in recalls.values()])
    assert figures["queries"] == 89
    assert 20 < figures["recall1"] < 90


def test_the_vote_is_a_weighted_neighbour_classifier_left_one_out(pictures: tuple) -> None:
    features, labels = pictures
    classifier = KNeighborsClassifier(20, metric="cosine", weights=lambda distances: np.exp(-distances / 0.1))
    named = cross_val_predict(classifier, features.astype(np.float64), labels, cv=LeaveOneOut())
    assert retrieval_figures(features, labels)["knn"] == pytest.approx(100 * np.mean((named == labels)[:89]))


def test_separated_artists_are_found_always() -> None:
    figures = retrieval_figures(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0), np.repeat([0, 1, 2], 4))
    assert figures == {"recall1": 100, "recall5": 100, "recall10": 100, "map": 100, "knn": 100, "queries": 12}


def test_average_precision_as_by_hand() -> None:
    # From the first, the order of the others is b a b a: (1/2 + 2/4) / 2.
    angles = np.radians([0, 10, 20, 30, 40])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    alone = search.retrieval._sums(features, np.array([0, 1, 0, 1, 0]), np.array([0]))
    assert alone.tolist()[:4] == [0, 1, 1, 0.5]


def test_artists_of_one_picture_each_cannot_be_judged() -> None:
    with pytest.raises(UserError, match="none of which shares"):
        retrieval_figures(np.eye(3, dtype=np.float32), np.arange(3))


def test_the_first_folder_in_nfc_is_the_label(tmp_path: Path) -> None:
    apart, composed = (unicodedata.normalize(form, "Zoë") for form in ("NFD", "NFC"))
    (tmp_path / "labels.txt").write_text(f"{apart}\nanna\n", encoding="utf-8")
    names = [f"{apart}/late/1.png", f"{composed}/2.png", "anna/3.png"]
    assert read_labels(names, None) == [composed, composed, "anna"]
    assert read_labels(["1", "2"], tmp_path / "labels.txt") == [composed, "anna"]
    with pytest.raises(UserError, match=r"2\.png"):
        read_labels(["anna/1.png", "2.png"], None)


def test_the_line_names_all_figures() -> None:
    assert format_retrieval({"recall1": 1, "recall5": 2, "recall10": 3, "map": 4, "knn": 5, "queries": 6}) == (
        "retrieval: recall@1 1.000 @5 2.000 @10 3.000 mAP 4.000 kNN 5.000")


def test_labels_end_with_line_feeds_only(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("anna\x0b\r\nbob\u2028\n".encode())
    assert read_labels(["1.png", "2.png"], tmp_path / "labels.txt") == ["anna\x0b", "bob\u2028"]
