"""Measure on this machine how fast a folder is answered, beside a plain loop and beside what its cores could do.

Helps to choose --num-workers, --amp and --compile before a long run.

Example: python tools/bench_inference.py --checkpoint my_run/model_best.pth --input more_pictures
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.picture_files import find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import FolderSearchOptions, TrainedOptions
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, counted


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What is measured."""

    input: Path = flag(MISSING, "folder of pictures, all of them readable")
    pictures: int = flag(1000, "pictures per turn; a smaller folder is used again", at_least=1, common=True)
    rounds: int = flag(3, "turns", at_least=1, common=True)
    search: FolderSearchOptions
    inference: TrainedOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/bench_inference.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print; 0, or 3 when some folders could not be read."""
    flags = build_parser().read(argv)
    from bench.pipeline import measure_pipeline

    found, batch_size = find_pictures(flags.input, exclude=flags.search.exclude), flags.inference.batch_size
    for line in found.report():
        print(line)
    pictures = found.images
    if len(pictures) < batch_size:
        raise UserError(f"{counted(len(pictures), 'picture')} in {flags.input}", f"at least {batch_size}, a batch",
                        "check --input or lower --batch-size")
    pictures = (list(pictures) * (flags.pictures // len(pictures) + 1))[:flags.pictures]
    speed = measure_pipeline(pictures, flags.inference, flags.rounds)
    print(f"plain loop  {speed.rate('plain'):8.1f} images/s")
    print(f"pipeline    {speed.rate('pipeline'):8.1f} images/s, {speed.times_as_fast:.2f} times as fast")
    print(f"bound       {speed.bound:8.1f} images/s: {speed.cores} cores / ({1e3 / speed.rate('decoding'):.2f} ms "
          f"decoding + {1e3 / speed.rate('network'):.2f} ms network)")
    print(f"reached     {speed.share:8.1%} of the bound")
    print_next("inference_artist.py", "--checkpoint", flags.inference.checkpoint, "--input", flags.input)
    return EXIT_PARTIAL if found.unreadable else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
