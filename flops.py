"""Count parameters, multiply-adds, activations and memory of LSNet or timm models.

Example: python flops.py --model lsnet_t lsnet_s lsnet_b --detail
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch

from bench.cost import Cost, costs, parameters
from bench.published import PUBLISHED
from bench.timing import peak_bytes
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.folding import folded
from runtime.networks import describe
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, command

HEAD = ("model", "params M", "folded M", "MACs G", "published", "act. M", "peak MiB")
DETAIL = ("part", "output", "params M", "MACs M", "act. M")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to count."""

    resolution: int = flag(224, "side of the square input, px", at_least=32)
    num_classes: int = flag(1000, "outputs of the head", at_least=1)
    fuse: bool = flag(True, "fold batch norms and parallel branches first, as inference does")
    detail: bool = flag(False, "list the parts of each network, too")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="flops.py", description=__doc__)
    parser.add_argument("--model", nargs="+", default=["lsnet_t", "lsnet_s", "lsnet_b"], metavar="NAME",
                        help="presets of model/ or timm models (default: lsnet_t lsnet_s lsnet_b)")
    add_options(parser, Options)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    arguments = build_parser().parse_args(argv)
    options = read_options(arguments, Options)
    rows, details = [HEAD, RULE], []
    for name in arguments.model:
        row, parts = count(name, options)
        rows.append(row)
        details += [[], [(name, *DETAIL[1:]), RULE, *map(part_row, parts)]] if options.detail else []
    print(*format_table(rows), sep="\n")
    for table in details:
        print(*format_table(table) if table else [""], sep="\n")
    print(f"\nOne picture of {options.resolution} px in float32 on the CPU. MACs: multiply-adds of\n"
          "convolutions, matrix products and small-kernel aggregation. act.: numbers these\n"
          "write. peak: memory besides the weights. published: multiply-adds, G.")
    return EXIT_DONE


def count(name: str, options: Options) -> tuple[tuple[str, ...], list[Cost]]:
    """A network's row of the table, and the costs of its parts."""
    image = torch.rand(3, options.resolution, options.resolution, generator=torch.Generator().manual_seed(0))
    network = describe(name, options.num_classes, input_size=options.resolution).create().eval()
    built = parameters(network)
    network = folded(network, image[None]) if options.fuse else network
    *parts, whole = costs(network, image)
    with torch.inference_mode():
        peak = peak_bytes(lambda: network(image[None]), image.device)
    published = f"{PUBLISHED[name].multiply_adds:g}" if name in PUBLISHED else "–"
    return (name, millions(built), millions(whole.parameters) if options.fuse else "–",
            f"{whole.multiply_adds / 1e9:.2f}", published, millions(whole.activations), f"{peak / 2**20:.1f}"), parts


def part_row(part: Cost) -> tuple[str, ...]:
    """A part's row of the details."""
    return (f"  {part.name}", " x ".join(map(str, part.shape)), millions(part.parameters),
            millions(part.multiply_adds), millions(part.activations))


def millions(number: int) -> str:
    """In millions, to two places."""
    return f"{number / 1e6:.2f}"


if __name__ == "__main__":
    sys.exit(main())
