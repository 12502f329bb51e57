"""Train a network that finds objects in pictures, as boxes or with their masks, from annotations in COCO's format.

Example: python train_detection.py --data-path pages --train-ann train.json --val-ann val.json --pretrained
"""

from __future__ import annotations

import sys
from pathlib import Path

from detection.options import DetectionOptions
from runtime.arguments import Parser
from utils import command

# LSNet's published recipe for COCO, 16 pictures an update.
RECIPE = {"output_dir": Path("outputs_detection"), "epochs": 12, "lr": 1e-4, "sched": "step", "warmup_epochs": 1,
          "warmup_lr": 1e-7, "clip_grad": 0.0, "model_ema": False}


def build_parser() -> Parser[DetectionOptions]:
    """The flags of this command."""
    return Parser(DetectionOptions, prog="train_detection.py", description=__doc__, **RECIPE)


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = build_parser().read(argv)
    from detection.training import DetectionSpec
    from training.trainer import run_trainer

    return run_trainer(DetectionSpec(options))


if __name__ == "__main__":
    sys.exit(main())
