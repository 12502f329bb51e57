"""Train a network that tells which artists' hands a picture shows, and in what shares, from annotated pictures.

Example: python train_artist_multilabel.py --data-path my_mixtures --train-ann train.csv --val-ann val.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtime.arguments import Parser
from runtime.options import MultiLabelTrainerOptions
from utils import command


def build_parser() -> Parser[MultiLabelTrainerOptions]:
    """The flags of this command."""
    return Parser(MultiLabelTrainerOptions, prog="train_artist_multilabel.py", description=__doc__, smoothing=0.0,
                  output_dir=Path("outputs_multilabel"))


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = build_parser().read(argv)
    from training.multilabel import MultiLabelSpec
    from training.trainer import run_trainer

    return run_trainer(MultiLabelSpec(options))


if __name__ == "__main__":
    sys.exit(main())
