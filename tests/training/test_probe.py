"""A probe's classifier is scikit-learn's, gives the network the same answers, and refuses what cannot be fitted."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from training.probe import LinearHead, check_counts, choose_strength, fit_head, set_classifier
from utils import UserError

CLASSES = ["Anna", "Bob", "石"]


def blobs(count: int = 60, width: int = 8, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    targets = np.arange(count) % classes
    centres = 2 * random.normal(size=(classes, width))
    return (centres[targets] + random.normal(size=(count, width))).astype(np.float32), targets


def logits(head: LinearHead, rows: np.ndarray) -> np.ndarray:
    return (rows - head.mean) * head.scale @ head.weight.T + head.bias


@pytest.mark.parametrize("classes", [2, 3])
def test_the_classifier_is_scikit_learns(classes: int) -> None:
    rows, targets = blobs(classes=classes)
    rows, targets = rows[:-5], np.append(targets[:40], np.zeros(15, np.int64))  # of unequal numbers
    head = fit_head(rows[None], targets, CLASSES[:classes], [8])
    scaled = StandardScaler().fit_transform(rows.astype(np.float64)) / np.sqrt(8)
    reference = LogisticRegression(C=head.strength, max_iter=1000, class_weight="balanced").fit(scaled, targets)
    found = torch.from_numpy(logits(head, rows)).softmax(1).numpy()
    np.testing.assert_allclose(found, reference.predict_proba(scaled), atol=2e-3)


def test_labels_are_told_one_against_the_rest() -> None:
    rows, targets = blobs()
    presence = np.stack([targets == 0, targets != 1, np.ones(60)], 1).astype(np.float32)
    head = fit_head(rows[None], presence, CLASSES, [8])
    scaled = StandardScaler().fit_transform(rows.astype(np.float64)) / np.sqrt(8)
    for label in (0, 1):
        reference = LogisticRegression(C=head.strength, max_iter=1000).fit(scaled, presence[:, label])
        np.testing.assert_allclose(1 / (1 + np.exp(-logits(head, rows)[:, label])),
                                   reference.predict_proba(scaled)[:, 1], atol=2e-3)
    assert 1 / (1 + np.exp(-logits(head, rows)[:, 2])) == pytest.approx(60.5 / 61)  # a label of every picture


def test_every_block_counts_alike() -> None:
    rows, targets = blobs(width=2)
    noise = np.random.default_rng(1).normal(size=(60, 98)).astype(np.float32)
    both = np.concatenate([rows, 1000 * noise], 1)
    head = fit_head(both[None], targets, CLASSES, [2, 98])
    assert ((both - head.mean) * head.scale)[:, :2].var(axis=0).sum() == pytest.approx(1, rel=1e-4)
    assert ((both - head.mean) * head.scale)[:, 2:].var(axis=0).sum() == pytest.approx(1, rel=1e-4)


def test_augmented_views_are_learned_from_but_not_asked_about() -> None:
    rows, targets = blobs(count=24)
    random = np.random.default_rng(2)
    noisy = np.stack([rows, rows + 0.1 * random.normal(size=rows.shape).astype(np.float32)])
    assert choose_strength(noisy, targets) >= choose_strength(rows[None], targets)
    assert np.abs(fit_head(noisy, targets, CLASSES, [8]).weight).sum() > 0


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="not finite"):
        fit_head(np.full((1, 4, 2), np.nan, np.float32), np.array([0, 0, 1, 1]), CLASSES[:2], [2])


def test_classes_of_fewer_than_two_pictures_are_named() -> None:
    check_counts(np.array([2, 2]), ["Anna", "Bob"])
    with pytest.raises(UserError, match="training pictures of Anna, Cem;"):
        check_counts(np.array([1, 2, 0]), ["Anna", "Bob", "Cem"])


@pytest.mark.parametrize("counts", [(2, 2), (9, 2, 3), (2, 30)])
def test_two_pictures_of_an_artist_are_enough(counts: tuple[int, ...], recwarn: pytest.WarningsRecorder) -> None:
    rows, given = blobs(classes=len(counts), count=90)
    kept = np.concatenate([np.flatnonzero(given == number)[:count] for number, count in enumerate(counts)])
    head = fit_head(rows[kept][None], given[kept], CLASSES[:len(counts)], [8])
    assert not recwarn.list
    np.testing.assert_array_equal(logits(head, rows[kept]).argmax(1), given[kept])


@pytest.mark.parametrize(("name", "arguments"), [
    ("lsnet_t", {"img_size": 64}), ("test_efficientnet", {}), ("test_vit", {"img_size": 64}),
    ("style_network", {"backbone": "test_efficientnet"}), ("lsnet_t_distill", {"img_size": 64})])
def test_the_network_answers_as_the_classifier(name: str, arguments: dict[str, object]) -> None:
    network = timm.create_model(name, num_classes=3, **arguments).eval()
    images = torch.randn(9, 3, 64, 64)
    with torch.inference_mode():
        rows = network.forward_head(network.forward_features(images), pre_logits=True).numpy()
    head = fit_head(rows[None], np.arange(9) % 3, CLASSES, [rows.shape[1]])
    set_classifier(network, head)
    with torch.inference_mode():
        np.testing.assert_allclose(network(images).numpy(), logits(head, rows), rtol=1e-3, atol=1e-4)


def test_a_classifier_that_is_no_linear_layer_is_named() -> None:
    network = timm.create_model("test_efficientnet", num_classes=7)
    rows, targets = blobs()
    with pytest.raises(UserError, match="not one linear layer"):
        set_classifier(network, fit_head(rows[None], targets, CLASSES, [8]))
