"""Count parameters, multiply-adds, activations and memory of LSNet or timm models.

Example: python flops.py --model lsnet_t lsnet_s lsnet_b --detail
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.published import PUBLISHED
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import LARGEST_SIDE
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, command

if TYPE_CHECKING:
    from bench.cost import Cost

HEAD = ("model", "params M", "folded M", "MACs G", "published", "act. M", "peak MiB")
DETAIL = ("part", "output", "params M", "MACs M", "act. M")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to count."""

    model: tuple[str, ...] = flag(("lsnet_t", "lsnet_s", "lsnet_b"), "presets of model/ or timm models", metavar="NAME",
                                  common=True)
    resolution: int = flag(224, "side of the square input, px", at_least=32, at_most=LARGEST_SIDE, common=True)
    num_classes: int = flag(1000, "outputs of the head", at_least=1, at_most=10_000_000, common=True)
    fuse: bool = flag(True, "fold batch norms and parallel branches first, as inference does", common=True)
    detail: bool = flag(False, "list the parts of each network, too", common=True)


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="flops.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    flags = build_parser().read(argv)
    rows: list[Sequence[str]] = []
    details: list[str] = []
    for name in flags.model:
        row, parts = count(name, flags)
        rows.append(row)
        details += ["", *format_table([(name, *DETAIL[1:]), RULE, *map(part_row, parts)])] if flags.detail else []
    print(*format_table([HEAD, RULE, *rows]), *details, sep="\n")
    print(f"\nOne picture of {flags.resolution} px in float32 on the CPU. MACs: multiply-adds of\n"
          "convolutions, matrix products and small-kernel aggregation. act.: numbers these\n"
          "write. peak: memory besides the weights. published: multiply-adds, G.")
    print_next("speed.py", "--model", *flags.model)
    return EXIT_DONE


def count(name: str, flags: Flags) -> tuple[tuple[str, ...], list[Cost]]:
    """A network's row of the table, and the costs of its parts."""
    import torch

    from bench.cost import count_costs, count_parameters
    from bench.timing import measure_peak_bytes
    from runtime.folding import fold
    from runtime.networks import check_input_size, make_architecture

    image = torch.rand(3, flags.resolution, flags.resolution, generator=torch.Generator().manual_seed(0))
    network = make_architecture(name, flags.num_classes, input_size=flags.resolution).create().eval()
    check_input_size(network, name, flags.resolution)
    unfolded = count_parameters(network)
    network = fold(network, image[None]) if flags.fuse else network
    *parts, whole = count_costs(network, image)
    with torch.inference_mode():
        peak = measure_peak_bytes(lambda: network(image[None]), image.device)
    published = f"{PUBLISHED[name].multiply_adds:g}" if name in PUBLISHED else "–"
    return (name, millions(unfolded), millions(whole.parameters) if flags.fuse else "–",
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
