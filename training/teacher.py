"""A trained network that a student learns from, whatever its own input size and normalisation."""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F

from data.transforms import Preprocessing
from losses import DistillationLoss
from runtime.checkpoint import check_classes, read_checkpoint
from runtime.networks import check_name, load_weights
from runtime.options import DistillationOptions
from runtime.placement import Placement
from utils import UserError


class Teacher(torch.nn.Module):
    """Looks at the student's pictures in its own size and normalisation."""

    def __init__(self, network: torch.nn.Module, own: Preprocessing, students: Preprocessing) -> None:
        """Wrap `network`, which was trained under `own`, for pictures made under `students`."""
        super().__init__()
        self.network, self.size = network.eval().requires_grad_(False), own.input_size
        # Undoing the student's normalisation and applying the teacher's is one scale and one shift.
        scale = torch.tensor(students.std) / torch.tensor(own.std)
        shift = (torch.tensor(students.mean) - torch.tensor(own.mean)) / torch.tensor(own.std)
        self.register_buffer("scale", scale.view(1, 3, 1, 1))
        self.register_buffer("shift", shift.view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, (B, classes), of the student's pictures, (B, 3, S, S)."""
        images = images * self.scale + self.shift
        if images.shape[-1] != self.size:
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        return self.network(images)


def with_teacher(labels: torch.nn.Module, options: DistillationOptions, classes: list[str], students: Preprocessing,
                 place: Placement, *, several: bool = False) -> torch.nn.Module:
    """The loss `labels`, of one artist per picture or `several`, beside a teacher's where the flags name a teacher.

    Raises:
        UserError: the flags contradict one another, or the teacher does not fit.
    """
    taught = options.teacher_model or options.teacher_path
    if options.kind == "none":
        if taught:
            raise UserError("a teacher with --distillation-type none", "soft or hard", "correct or leave away one flag")
        return labels
    if not taught:
        raise UserError(f"--distillation-type {options.kind} without a teacher", "a teacher to learn from",
                        "add --teacher-model or --teacher-path")
    return DistillationLoss(labels, open_teacher(options, classes, students, place), kind=options.kind,
                            alpha=options.distillation_alpha, tau=options.distillation_tau, several=several)


def open_teacher(options: DistillationOptions, classes: list[str], students: Preprocessing,
                 place: Placement) -> Teacher:
    """The teacher that the flags name, at `place`.

    Raises:
        UserError: no such model or file, or one that tells other classes apart.
    """
    if options.teacher_path is None:
        check_name(options.teacher_model)
        network = _pretrained(options.teacher_model)
        cfg, own = network.pretrained_cfg, None
    else:
        checkpoint = read_checkpoint(options.teacher_path)
        architecture = checkpoint.architecture(options.teacher_model)
        check_classes(checkpoint, classes, "the data set")
        network = architecture.create()
        load_weights(network, checkpoint.evaluated, checkpoint.path)
        cfg, own = {**architecture.pretrained_cfg}, checkpoint.config.get("preprocessing")
        cfg["input_size"] = (3, size, size) if (size := architecture.model_args.get("img_size")) else cfg["input_size"]
    if network.num_classes != len(classes):
        raise UserError(f"a teacher of {network.num_classes} classes for {len(classes)} of the data set",
                        "one that was trained on the same classes", "train the teacher on this data set first")
    own = Preprocessing.from_dict(own) if own else Preprocessing.from_pretrained_cfg(cfg, input_size=None, fit="crop")
    return place.network(Teacher(network, own, students))


def _pretrained(name: str) -> torch.nn.Module:
    try:
        return timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"no weights for --teacher-model {name} ({reason})", "weights that timm can download",
                        "name a file with --teacher-path") from error
