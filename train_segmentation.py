"""Train a network that names the class of each pixel, from pictures and label maps in ADE20K's layout.

Example: python train_segmentation.py --data-path ADEChallengeData2016 --pretrained
"""

from __future__ import annotations

import sys
from pathlib import Path

from detection.options import SegmentationOptions
from runtime.arguments import Parser
from utils import command

# LSNet's published recipe for ADE20K, 32 pictures an update: 40,000 updates are 64 epochs.
RECIPE = {"output_dir": Path("outputs_segmentation"), "epochs": 64, "lr": 2e-4, "weight_decay": 1e-4, "sched": "poly",
          "warmup_epochs": 0, "min_lr": 1e-6, "clip_grad": 0.0, "model_ema": False}


def build_parser() -> Parser[SegmentationOptions]:
    """The flags of this command."""
    return Parser(SegmentationOptions, prog="train_segmentation.py", description=__doc__, **RECIPE)


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = build_parser().read(argv)
    from detection.training import SegmentationSpec
    from training.trainer import run_trainer

    return run_trainer(SegmentationSpec(options))


if __name__ == "__main__":
    sys.exit(main())
