"""The teacher's features are standardised, and what a student publishes is its backbone alone."""

from __future__ import annotations

import numpy as np
import torch

from data.transforms import Preprocessing
from runtime.networks import Architecture, features_and_logits
from training.distillation import FeatureTeacher, backbone_of

OWN = Preprocessing(input_size=64, crop_pct=1.0, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
IMAGES = torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_features_are_standardised_over_the_pictures() -> None:
    torch.manual_seed(0)
    teacher = FeatureTeacher(Architecture(name="test_efficientnet", num_classes=3).create(), OWN)
    raw = teacher(IMAGES)[1].numpy()
    raw[:, 5] = 1.5  # says nothing
    teacher.standardise(raw)
    features = (torch.from_numpy(raw) - teacher.mean) / teacher.deviation
    assert raw.shape[1] == sum(teacher.blocks) > teacher.blocks[-1]
    np.testing.assert_allclose(features.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(features.std(0, correction=0), 5), 1, rtol=1e-4)
    assert (features[:, 5] == 0).all()
    torch.testing.assert_close(teacher(IMAGES)[1][:, :5], features[:, :5])
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_the_backbone_has_the_students_features_and_no_head() -> None:
    whole = Architecture(name="lsnet_t_artist", num_classes=40, model_args={"img_size": 64, "style_head": "both"})
    student = whole.create().eval()
    backbone, architecture = backbone_of(student, whole)
    assert architecture == Architecture(name="lsnet_t_artist", num_classes=0, model_args={"img_size": 64})
    again = architecture.create().eval()
    again.load_state_dict(backbone.state_dict())
    images = IMAGES[:2]
    torch.testing.assert_close(features_and_logits(again, images, "both")[0], student.forward_features(images))
