"""A teacher sees in its own way what the student sees."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from data.transforms import Preprocessing
from runtime.checkpoint import save_checkpoint
from runtime.networks import Architecture
from runtime.options import DistillationOptions
from runtime.placement import Placement
from training.teacher import Teacher, open_teacher
from utils import UserError

STUDENT = Preprocessing(input_size=32, crop_pct=1.0, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
OWN = Preprocessing(input_size=64, crop_pct=0.9, interpolation="bilinear", mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
CPU = Placement.resolve("cpu")


def normalise(images: torch.Tensor, preprocessing: Preprocessing) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    return (images - mean) / std


def test_the_teacher_sees_its_own_normalisation_and_size() -> None:
    teacher = Teacher(nn.Identity(), OWN, STUDENT)
    colours = torch.rand(2, 3, 1, 1).expand(2, 3, 32, 32)
    seen = teacher(normalise(colours, STUDENT))
    assert seen.shape == (2, 3, 64, 64)
    torch.testing.assert_close(seen, normalise(colours, OWN)[..., :1, :1].expand(2, 3, 64, 64), atol=1e-5, rtol=1e-5)


def save_teacher(path: Path, classes: list[str]) -> torch.nn.Module:
    architecture = Architecture(name="test_vit", num_classes=len(classes), model_args={"img_size": 64})
    network = architecture.create().eval()
    save_checkpoint(path, {"model": network.state_dict(), "classes": classes, "config": {
        "architecture": "test_vit", "num_classes": len(classes), "model_args": architecture.model_args,
        "preprocessing": OWN.as_dict()}})
    return network


def test_an_own_checkpoint_teaches_as_it_was_trained(tmp_path: Path) -> None:
    network = save_teacher(tmp_path / "t.pth", ["a", "b"])
    teacher = open_teacher(DistillationOptions(teacher_path=str(tmp_path / "t.pth")), ["a", "b"], OWN, CPU)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(teacher(images), network(images))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


def test_other_classes_are_refused(tmp_path: Path) -> None:
    save_teacher(tmp_path / "t.pth", ["a", "b"])
    options = DistillationOptions(teacher_path=str(tmp_path / "t.pth"))
    with pytest.raises(UserError, match="class 1"):
        open_teacher(options, ["a", "c"], STUDENT, CPU)
    torch.save({"model": Architecture(name="test_resnet", num_classes=3).create().state_dict()}, tmp_path / "old.pth")
    options = DistillationOptions(teacher_path=str(tmp_path / "old.pth"), teacher_model="test_resnet")
    with pytest.raises(UserError, match="teacher of 3 classes"):
        open_teacher(options, ["a", "b"], STUDENT, CPU)
