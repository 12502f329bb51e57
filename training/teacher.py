"""A trained network that a student learns from, whatever its own input size and normalisation."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from data.transforms import Preprocessing
from losses import DistillationLoss
from runtime.checkpoint import check_classes, create_published, is_published, read_checkpoint
from runtime.networks import check_name, load_weights
from runtime.options import DistillationOptions
from runtime.placement import Placement
from utils import UserError


class Teacher(torch.nn.Module):
    """A network that takes the student's input, and converts it to its own input size and normalisation."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, network: torch.nn.Module, own: Preprocessing, student: Preprocessing) -> None:
        """Wrap `network`, which was trained with `own`, for images made with `student`."""
        super().__init__()
        self.network, self.size = network.eval().requires_grad_(False), own.input_size
        # Undoing the student's normalisation and applying the teacher's is one scale and one shift.
        scale = torch.tensor(student.std) / torch.tensor(own.std)
        shift = (torch.tensor(student.mean) - torch.tensor(own.mean)) / torch.tensor(own.std)
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, (B, classes), of the student's images, (B, 3, S, S)."""
        images = images * self.scale + self.shift
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        return self.network(images)


def add_teacher(label_loss: torch.nn.Module, options: DistillationOptions, classes: list[str], student: Preprocessing,
                placement: Placement, *, multilabel: bool = False) -> torch.nn.Module:
    """`label_loss` plus a distillation loss if the flags name a teacher.

    Raises:
        UserError: the flags contradict one another, or the teacher does not fit.
    """
    has_teacher = options.teacher_model or options.teacher_path
    if options.kind == "none":
        if has_teacher:
            raise UserError("a teacher with --distillation-type none", "soft or hard", "correct or leave away one flag")
        return label_loss
    if not has_teacher:
        raise UserError(f"--distillation-type {options.kind} without a teacher", "a teacher to learn from",
                        "add --teacher-model or --teacher-path")
    return DistillationLoss(label_loss, open_teacher(options, classes, student, placement), kind=options.kind,
                            alpha=options.distillation_alpha, tau=options.distillation_tau, multilabel=multilabel)


def open_teacher(options: DistillationOptions, classes: list[str], student: Preprocessing,
                 placement: Placement) -> Teacher:
    """The teacher that the flags name, at `placement`.

    Raises:
        UserError: no such model or file, or one with other classes.
    """
    network, own = load_teacher(options, classes)
    if network.num_classes != len(classes):
        raise UserError(f"a teacher of {network.num_classes} classes for {len(classes)} of the data set",
                        "one that was trained on the same classes", "train the teacher on this data set first")
    teacher = Teacher(network, own, student)
    placement.move_network(teacher)
    return teacher


def load_teacher(options: DistillationOptions, classes: list[str] | None = None) -> tuple[Any, Preprocessing]:
    """The network that the flags name, on the CPU, and its own preprocessing.

    Raises:
        UserError: no such model or file, or a file that names other than `classes`.
    """
    if options.teacher_path is None:
        name = str(options.teacher_model)
        check_name(name)
        if not is_published(name):
            raise UserError(f"--teacher-model {name}, of which nobody published weights", "a network that has them",
                            "choose one, such as those of timm.list_pretrained(), or add --teacher-path")
        network: Any = create_published(name)
        return network, Preprocessing.from_pretrained_cfg(network.pretrained_cfg, input_size=None, fit="crop")
    checkpoint = read_checkpoint(options.teacher_path)
    if classes is not None:
        check_classes(checkpoint, classes, "the data set")
    spec = checkpoint.resolve(options.teacher_model)
    network = spec.architecture.create()
    load_weights(network, checkpoint.evaluated, checkpoint.path)
    return network, spec.preprocessing

