"""Objectives against torch's own, and against what their formulas say at their ends."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from losses import ClassificationLoss, DistillationLoss

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


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = torch.nn.Linear(4, 4)
    student = LOGITS.clone().requires_grad_()
    DistillationLoss(ClassificationLoss(), lambda images: teacher(OTHER), kind="soft", alpha=0.5, tau=2.0)(
        student, TARGETS, IMAGES).backward()
    assert teacher.weight.grad is None
    assert math.isfinite(student.grad.norm().item())
    assert student.grad.norm().item() > 0
