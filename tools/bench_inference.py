"""Measure on this machine how fast a folder is answered, beside a plain loop and beside what its cores could do.

Helps to choose --num-workers, --amp and --compile before a long run.

Example: python tools/bench_inference.py --checkpoint runs/lsnet_t/model_best.pth --input new --amp bf16
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.pipeline import measure_pipeline
from data.images import list_images
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.options import InferenceOptions
from utils import EXIT_DONE, UserError, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured."""

    input: Path = flag(MISSING, "folder of pictures, all of them readable")
    pictures: int = flag(1000, "pictures per turn; a smaller folder is used again", at_least=1)
    rounds: int = flag(3, "turns", at_least=1)


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/bench_inference.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    pictures = list_images(options.input)
    if len(pictures) < network.batch_size:
        raise UserError(f"{len(pictures)} picture(s) in {options.input}", f"at least {network.batch_size}, a batch",
                        "check --input or lower --batch-size")
    pictures = (pictures * (options.pictures // len(pictures) + 1))[:options.pictures]
    found = measure_pipeline(pictures, network, options.rounds)
    print(f"plain loop  {found.rate('plain'):8.1f} images/s")
    print(f"pipeline    {found.rate('pipeline'):8.1f} images/s, {found.times_as_fast:.2f} times as fast")
    print(f"bound       {found.bound:8.1f} images/s: {found.cores} cores / ({1e3 / found.rate('decoding'):.2f} ms "
          f"decoding + {1e3 / found.rate('network'):.2f} ms network)")
    print(f"reached     {found.share:8.1%} of the bound")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
