"""Teach a network the features of a pretrained one, on pictures without labels: a start for training with labels.

Example: python train_distillation.py --teacher-model tf_efficientnet_lite0 --data-path my_pictures --output-dir start
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.arguments import Parser
from training.distillation_options import FeatureDistillationOptions
from utils import command

# Where it differs from the other trainers' defaults; chosen on other splits and books than those reported.
RECIPE = {"output_dir": Path("outputs_distillation"), "epochs": 60, "lr": 2e-3, "color_jitter": 0.0}


def build_parser() -> Parser[FeatureDistillationOptions]:
    """The flags of this command."""
    return Parser(FeatureDistillationOptions, prog="train_distillation.py", description=__doc__, **RECIPE)


@command
def main(argv: list[str] | None = None) -> int:
    """Distil; the exit code."""
    options = build_parser().read(argv)
    from training.distillation import DistillationSpec
    from training.trainer import run_trainer

    return run_trainer(DistillationSpec(options))


if __name__ == "__main__":
    sys.exit(main())
