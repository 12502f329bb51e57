"""Train, distil and evaluate plain LSNet, or any timm model, on ImageNet-style folders; with --eval, robustness too.

Example: python main.py --model lsnet_t --data-path imagenet --output-dir my_run
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.arguments import Parser
from runtime.options import ImageNetOptions
from utils import command

# The published recipe, where it differs from the other trainers' defaults.
RECIPE = {
    "output_dir": Path("outputs_imagenet"), "batch_size": 256, "lr_scaling": "linear",
    "weight_decay": 0.025, "freeze_bn": False, "clip_grad": 0.02, "clip_mode": "agc", "scale": (0.08, 1.0),
    "color_jitter": 0.4, "aa": "rand-m9-mstd0.5-inc1", "reprob": 0.25, "mixup": 0.8, "cutmix": 1.0}


def build_parser() -> Parser[ImageNetOptions]:
    """The flags of this command."""
    return Parser(ImageNetOptions, prog="main.py", description=__doc__, **RECIPE)


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = build_parser().read(argv)
    from training.imagenet import ImageNetSpec
    from training.trainer import run_trainer

    return run_trainer(ImageNetSpec(options))


if __name__ == "__main__":
    sys.exit(main())
