"""Draw the curves of a training run: loss, top-1 and learning rate, from its log.

Example: python tools/plot_log.py my_run/metrics.jsonl --output curves.png
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drawing.plots import training_curves
from runtime.arguments import Parser
from training.log import read_log
from utils import EXIT_DONE, command


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/plot_log.py", description=__doc__)
    parser.add_argument("log", type=Path, help="metrics.jsonl of a run, or a published log of JSON lines")
    parser.add_argument("--output", type=Path, metavar="PNG", help="file to write (default: beside the log, named "
                                                                   "like it)")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Draw; the exit code."""
    arguments = build_parser().parse_args(argv)
    records = read_log(arguments.log)
    output = arguments.output or arguments.log.with_suffix(".png")
    training_curves(records, output)
    best = max((record for record in records if record.get("val_top1") is not None),
               key=lambda record: record["val_top1"], default=None)
    print(f"{len(records)} epochs" + (f", best top-1 {best['val_top1']:.3f} in epoch {best['epoch']}" if best else "")
          + f"; {output}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
