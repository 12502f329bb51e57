"""Draw the curves of a training run: losses, top-1 or macro mAP, and learning rate, from its log.

Example: python tools/plot_log.py my_run/metrics.jsonl
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from runtime.arguments import Parser, flag
from runtime.next_step import PICTURES, print_next
from utils import EXIT_DONE, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to draw."""

    log: Path = flag(MISSING, "metrics.jsonl of a run, or a published log of JSON lines", positional=True)
    output: Path | None = flag(None, "file to write (default: beside the log, named like it)", metavar="PNG",
                               common=True)


def build_parser() -> Parser[Options]:
    """The flags of this command."""
    return Parser(Options, prog="tools/plot_log.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Draw; the exit code."""
    options = build_parser().read(argv)
    from drawing.lettering import format_count
    from drawing.plots import METRICS, monitored, training_curves
    from training.log import read_log

    records = read_log(options.log)
    output = options.output or options.log.with_suffix(".png")
    with output_lock(output, wait=True):
        training_curves(records, output)
    told = format_count(len(records), "epoch")
    if key := monitored(records):
        best = max((record for record in records if record.get(key) is not None), key=lambda record: record[key])
        told += f", best {METRICS[key][0]} {best[key]:.3f} in epoch {best['epoch']}"
    print(f"{told}; {output}")
    if (best_file := options.log.with_name("model_best.pth")).exists():
        print_next("inference_artist.py", "--checkpoint", best_file, "--input", PICTURES)
    else:
        print_next("speed.py")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
