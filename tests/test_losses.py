"""Objectives against torch's own, and against what their formulas say at their ends."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from losses import (
    ClassificationLoss,
    ContrastiveLoss,
    DistillationLoss,
    FeatureLoss,
    MultiLabelLoss,
    feature_losses,
    presence_and_shares,
)

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
OTHER = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])
IMAGES = torch.zeros(6, 3, 8, 8)


def distil(outputs, taught, **how) -> torch.Tensor:
    settings = {"kind": "soft", "alpha": 1.0, "tau": 1.0, **how}
    return DistillationLoss(ClassificationLoss(), lambda images: taught, **settings)(outputs, TARGETS, IMAGES)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_labels_and_shares_of_one_class_count_alike(smoothing: float) -> None:
    loss = ClassificationLoss(smoothing)
    shares = F.one_hot(TARGETS, 4).float()
    torch.testing.assert_close(loss(LOGITS, TARGETS, IMAGES), loss(LOGITS, shares, IMAGES))
    torch.testing.assert_close(loss(LOGITS, TARGETS, IMAGES),
                               torch.nn.CrossEntropyLoss(label_smoothing=smoothing)(LOGITS, TARGETS))


def test_adjustment_is_the_prior_that_the_logits_then_lack() -> None:
    prior = torch.tensor([0.7, 0.1, 0.1, 0.1])
    adjusted = ClassificationLoss(adjustment=prior.log())(LOGITS - prior.log(), TARGETS, IMAGES)
    torch.testing.assert_close(adjusted, F.cross_entropy(LOGITS, TARGETS))


def contrast(features: torch.Tensor, targets: torch.Tensor, gather=lambda rows: rows) -> torch.Tensor:
    loss = ContrastiveLoss(ClassificationLoss(), weight=1.0, temperature=0.2, gather=gather)
    zeros = torch.zeros(len(targets), 4)
    return loss((zeros, features), targets, IMAGES) - F.cross_entropy(zeros, targets)


def test_the_contrastive_term_is_that_of_the_paper() -> None:
    features = OTHER.double()
    unit = features / features.norm(dim=1, keepdim=True)
    expected = 0.0
    for one in range(6):
        others = [other for other in range(6) if other != one]
        whole = sum(math.exp(unit[one] @ unit[other] / 0.2) for other in others)
        positives = [other for other in others if TARGETS[other] == TARGETS[one]]
        terms = [-math.log(math.exp(unit[one] @ unit[other] / 0.2) / whole) for other in positives]
        expected += sum(terms) / len(terms) / 6 if terms else 0.0
    assert contrast(OTHER, TARGETS).item() == pytest.approx(expected, rel=1e-5)


def test_the_contrastive_term_of_parts_is_that_of_the_whole() -> None:
    unit = F.normalize(OTHER)

    def part(rows: slice, others: slice) -> torch.Tensor:
        return contrast(OTHER[rows], TARGETS[rows],
                        lambda own: torch.cat([own, (unit if own.is_floating_point() else TARGETS)[others]]))

    halves = part(slice(0, 3), slice(3, 6)), part(slice(3, 6), slice(0, 3))
    torch.testing.assert_close(sum(halves) / 2, contrast(OTHER, TARGETS))


def test_pictures_without_positives_contrast_with_nothing() -> None:
    features = OTHER[:4].clone().requires_grad_()
    loss = contrast(features, torch.arange(4))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert not features.grad.any()


def test_alpha_weighs_labels_against_the_teacher() -> None:
    labels, taught = distil(LOGITS, OTHER, alpha=0.0), distil(LOGITS, OTHER, alpha=1.0)
    torch.testing.assert_close(labels, F.cross_entropy(LOGITS, TARGETS))
    torch.testing.assert_close(distil(LOGITS, OTHER, alpha=0.3), 0.7 * labels + 0.3 * taught)


@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_soft_distillation_is_the_divergence_from_the_teacher(tau: float) -> None:
    p, q = (OTHER / tau).softmax(1), (LOGITS / tau).softmax(1)
    torch.testing.assert_close(distil(LOGITS, OTHER, tau=tau), tau**2 * (p * (p / q).log()).sum(1).mean())
    assert distil(OTHER, OTHER, tau=tau).item() == pytest.approx(0, abs=1e-6)


def test_hard_distillation_takes_the_teachers_first_choice() -> None:
    torch.testing.assert_close(distil(LOGITS, OTHER, kind="hard"), F.cross_entropy(LOGITS, OTHER.argmax(1)))


def test_the_second_head_answers_the_teacher_and_the_first_the_labels() -> None:
    heads = LOGITS, OTHER
    assert distil(heads, OTHER).item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(distil(heads, OTHER, alpha=0.0), F.cross_entropy(LOGITS, TARGETS))


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_a_teacher_without_a_finite_answer_shows_in_the_loss(kind: str, multilabel: bool) -> None:
    taught = torch.cat([OTHER[:5], torch.full((1, 4), torch.nan)])
    assert math.isnan(distil(LOGITS, taught, kind=kind, alpha=0.5, multilabel=multilabel))
    assert math.isfinite(distil(LOGITS, OTHER, kind=kind, alpha=0.5, multilabel=multilabel))


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.nn.Linear(4, 4)
    student = LOGITS.clone().requires_grad_()
    DistillationLoss(ClassificationLoss(), lambda images: teacher(OTHER), kind="soft", alpha=0.5, tau=2.0)(
        student, TARGETS, IMAGES).backward()
    assert teacher.weight.grad is None
    assert math.isfinite(student.grad.norm().item())
    assert student.grad.norm().item() > 0


# ---- several artists per picture ----

WEIGHTS = torch.tensor([[1.4, 0, 0, 0], [1, 1, 0, 0], [0, 0.3, 0.7, 0], [2, 1, 0, 1], [0, 0, 0, 5], [1, 0, 1, 0]])
PRESENT = (WEIGHTS > 0).float()
POSITIVES = torch.tensor([0.5, 1.0, 2.0, 100.0])


def multilabel(logits: torch.Tensor = LOGITS, targets: torch.Tensor = WEIGHTS, *, kind: str = "bce",
               ratio_weight: float = 0.0) -> torch.Tensor:
    return MultiLabelLoss(kind, pos_weight=POSITIVES, ratio_weight=ratio_weight)(logits, targets, IMAGES)


def test_presence_is_torchs_binary_cross_entropy() -> None:
    torch.testing.assert_close(multilabel(), torch.nn.BCEWithLogitsLoss(pos_weight=POSITIVES)(LOGITS, PRESENT))


def test_asymmetric_loss_is_its_formula() -> None:
    p = LOGITS.double().sigmoid()
    shifted = (p - 0.05).clamp(min=0)
    expected = -torch.where(PRESENT > 0, p.log(), shifted**4 * (1 - shifted).log()).sum(1).mean()
    torch.testing.assert_close(multilabel(kind="asl"), expected.float())
    assert multilabel(torch.full((1, 4), -3.0), torch.zeros(1, 4), kind="asl").item() == 0  # p < 0.05: clearly absent


def test_focal_loss_is_its_formula() -> None:
    p = LOGITS.double().sigmoid()
    right, alpha = torch.where(PRESENT > 0, p, 1 - p), torch.where(PRESENT > 0, 0.25, 0.75)
    torch.testing.assert_close(multilabel(kind="focal"), -(alpha * (1 - right)**2 * right.log()).sum(1).mean().float())


def test_the_share_compares_normalised_weights_with_normalised_probabilities() -> None:
    p = LOGITS.double().sigmoid()
    expected = -(WEIGHTS / WEIGHTS.sum(1, keepdim=True) * (p / p.sum(1, keepdim=True)).log()).sum(1).mean()
    torch.testing.assert_close(multilabel(ratio_weight=3.0) - multilabel(), 3 * expected.float())


def test_the_first_loss_says_that_nothing_is_known() -> None:
    loss = MultiLabelLoss("bce", pos_weight=torch.ones(4), ratio_weight=1.0)
    assert loss(torch.zeros(6, 4), WEIGHTS, IMAGES).item() == pytest.approx(math.log(2) + math.log(4))


def test_the_scale_of_the_weights_does_not_count() -> None:
    torch.testing.assert_close(multilabel(targets=7 * WEIGHTS, ratio_weight=1.0), multilabel(ratio_weight=1.0))


@pytest.mark.parametrize("kind", ["bce", "asl", "focal"])
def test_the_loss_is_lowest_where_the_probabilities_are_the_shares_of_one_artist(kind: str) -> None:
    right = torch.where(PRESENT[[0, 4]] > 0, 12.0, -12.0)
    assert 0 <= multilabel(right, WEIGHTS[[0, 4]], kind=kind, ratio_weight=1.0).item() < 1e-3
    assert multilabel(-right, WEIGHTS[[0, 4]], kind=kind, ratio_weight=1.0).item() > 1


@pytest.mark.parametrize("kind", ["bce", "asl", "focal"])
def test_extreme_logits_leave_loss_and_gradient_finite(kind: str) -> None:
    logits = (300 * LOGITS.sign()).half().requires_grad_()
    loss = multilabel(logits, kind=kind, ratio_weight=1.0)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad.isfinite().all()


def test_a_picture_without_labels_has_presence_only() -> None:
    nobody = torch.zeros(6, 4)
    torch.testing.assert_close(multilabel(targets=nobody, ratio_weight=1.0), multilabel(targets=nobody))


@pytest.mark.parametrize("kind", ["bce", "asl"])  # both are linear in what is present
def test_a_mixture_weighs_its_pictures_losses(kind: str) -> None:
    both = torch.stack(presence_and_shares(WEIGHTS), 1)
    loss = multilabel(targets=both, kind=kind, ratio_weight=1.0)
    torch.testing.assert_close(loss, multilabel(kind=kind, ratio_weight=1.0))
    mixed = multilabel(targets=0.3 * both + 0.7 * both.roll(1, 0), kind=kind, ratio_weight=1.0)
    torch.testing.assert_close(mixed, 0.3 * loss + 0.7 * multilabel(targets=WEIGHTS.roll(1, 0), kind=kind,
                                                                    ratio_weight=1.0))


def test_smoothing_moves_presence_to_one_half_and_shares_to_equal_ones() -> None:
    loss = MultiLabelLoss("bce", pos_weight=torch.ones(4), ratio_weight=1.0, smoothing=0.2)
    presence = F.binary_cross_entropy_with_logits(LOGITS, 0.8 * PRESENT + 0.1)
    share = F.cross_entropy(F.logsigmoid(LOGITS), 0.8 * WEIGHTS / WEIGHTS.sum(1, keepdim=True) + 0.2 / 4)
    torch.testing.assert_close(loss(LOGITS, WEIGHTS, IMAGES), presence + share)


def test_a_teacher_of_several_artists_is_asked_about_each() -> None:
    def taught(kind: str, tau: float) -> torch.Tensor:
        labels = MultiLabelLoss("bce", pos_weight=POSITIVES, ratio_weight=0.0)
        return DistillationLoss(labels, lambda images: OTHER, kind=kind, alpha=1.0, tau=tau, multilabel=True)(
            LOGITS, WEIGHTS, IMAGES)

    p, q = (OTHER / 3).sigmoid(), (LOGITS / 3).sigmoid()
    torch.testing.assert_close(taught("soft", 3.0), 9 * -(p * q.log() + (1 - p) * (1 - q).log()).mean())
    torch.testing.assert_close(taught("hard", 3.0), F.binary_cross_entropy_with_logits(LOGITS, (OTHER > 0).float()))


def test_feature_loss_is_the_mean_over_blocks_and_nothing_where_features_agree() -> None:
    torch.testing.assert_close(feature_losses(LOGITS, LOGITS, [1, 3]), torch.zeros(6), atol=1e-6, rtol=0)
    by_block = [F.smooth_l1_loss(LOGITS[:, columns], OTHER[:, columns])
                + F.cosine_embedding_loss(LOGITS[:, columns], OTHER[:, columns], torch.ones(6))
                for columns in (slice(1), slice(1, 4))]
    torch.testing.assert_close(feature_losses(LOGITS, OTHER, [1, 3]).mean(), sum(by_block) / 2)


def test_the_teacher_is_asked_only_where_its_features_are_not_known() -> None:
    loss = FeatureLoss(lambda images: (None, images.mean((2, 3)) @ torch.ones(3, 4)), [4])
    for targets, features in ((IMAGES + 2, torch.full((6, 4), 6.0)), (OTHER, OTHER)):
        torch.testing.assert_close(loss(LOGITS, targets, IMAGES), feature_losses(LOGITS, features, [4]).mean())
