"""Count parameters, multiply-adds, activations and memory of LSNet or timm models.

Example: python flops.py --model lsnet_t lsnet_s lsnet_b --detail
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.published import PUBLISHED
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import LARGEST_SIDE, TASK_HELP, CountedTask
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, UserError, command

if TYPE_CHECKING:
    from bench.cost import Cost

HEAD = ("model", "params M", "folded M", "MACs G", "published", "act. M", "peak MiB")
DETAIL = ("part", "output", "params M", "MACs M", "act. M")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to count."""

    model: tuple[str, ...] = flag(("lsnet_t", "lsnet_s", "lsnet_b"), "presets of model/ or timm models", metavar="NAME",
                                  common=True)
    task: CountedTask = flag("classes", TASK_HELP, common=True)
    resolution: tuple[int, ...] = flag((224,), "side of the square input, px, or for --task its height and width",
                                       at_least=32, at_most=LARGEST_SIDE, common=True)
    num_classes: int | None = flag(None, "outputs of the head (default: 1000, for objects 80, for pixels 150)",
                                   at_least=1, at_most=10_000_000, common=True)
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
    size = " x ".join(map(str, flags.resolution))
    print(f"\nOne picture of {size} px in float32 on the CPU. MACs: multiply-adds of\n"
          "convolutions, matrix products and small-kernel aggregation. act.: numbers these\n"
          "write. peak: memory besides the weights. published: multiply-adds, G.")
    if flags.task == "instances":
        print("MACs and act. are without the heads, which depend on what is found (--detail).")
    print_next("speed.py", "--model", *flags.model)
    return EXIT_DONE


def count(name: str, flags: Flags) -> tuple[tuple[str, ...], list[Cost]]:
    """A network's row of the table, and the costs of its parts."""
    import torch

    from bench.cost import count_costs, count_parameters
    from bench.networks import create_network
    from bench.timing import measure_peak_bytes
    from runtime.folding import fold

    if len(flags.resolution) > 2:
        raise UserError(f"--resolution {' '.join(map(str, flags.resolution))}", "a side, or height and width",
                        "correct it")
    size = flags.resolution[0], flags.resolution[-1]
    image = torch.rand(3, *size, generator=torch.Generator().manual_seed(0))
    network: Any = create_network(name, flags.task, flags.num_classes, size)
    unfolded = count_parameters(network)
    if flags.fuse and flags.task == "classes":
        network = fold(network, image[None])
    elif flags.fuse:
        network.backbone.fold()
    *parts, whole = count_costs(network, image)
    heads = [part for part in parts if part.name == "roi_heads"]
    multiply_adds = whole.multiply_adds - sum(part.multiply_adds for part in heads)
    activations = whole.activations - sum(part.activations for part in heads)
    with torch.inference_mode():
        peak = measure_peak_bytes(lambda: network(image[None]), image.device)
    is_published = flags.task == "classes" and name in PUBLISHED
    return (name, millions(unfolded), millions(whole.parameters) if flags.fuse else "–", f"{multiply_adds / 1e9:.2f}",
            f"{PUBLISHED[name].multiply_adds:g}" if is_published else "–", millions(activations),
            f"{peak / 2**20:.1f}"), parts


def part_row(part: Cost) -> tuple[str, ...]:
    """A part's row of the details."""
    return (f"  {part.name}", " x ".join(map(str, part.shape)), millions(part.parameters),
            millions(part.multiply_adds), millions(part.activations))


def millions(number: int) -> str:
    """In millions, to two places."""
    return f"{number / 1e6:.2f}"


if __name__ == "__main__":
    sys.exit(main())
