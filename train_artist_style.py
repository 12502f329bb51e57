"""Train a network that tells artists apart, from folders of their pictures.

Example: python train_artist_style.py --data-path my_dataset --output-dir my_run --pretrained
"""

from __future__ import annotations

import sys

from runtime.arguments import Parser
from runtime.options import ArtistOptions
from utils import command


def build_parser() -> Parser[ArtistOptions]:
    """The flags of this command."""
    return Parser(ArtistOptions, prog="train_artist_style.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Train, or evaluate with --eval; the exit code."""
    options = build_parser().read(argv)
    from training.artist import ArtistSpec
    from training.trainer import run_trainer

    return run_trainer(ArtistSpec(options))


if __name__ == "__main__":
    sys.exit(main())
