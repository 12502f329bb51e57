"""Time LSNet and timm models by turns: pictures per second or latency, in inference or training.

Example: python speed.py --model lsnet_t lsnet_t:unfold resnet18 --batch-size 32 --json speed.json --plot speed.png
"""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch

import drawing.plots
from bench.published import PUBLISHED
from bench.timing import Measurement, measure
from bench.workload import Workload
from runtime.arguments import Parser, add_options, as_config, check_target, read_options
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, command, resolve_device, write_json


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="speed.py", description=__doc__)
    parser.add_argument("--model", nargs="+", default=["lsnet_t", "lsnet_s", "lsnet_b"], metavar="NAME",
                        help="presets of model/ or timm models; a preset with :unfold or :shifted behind it computes "
                             "the LS convolution in plain operations, with :plain-unfold or :plain-shifted in NCHW "
                             "throughout; @bfloat16, @compile, … set the mode of one (default: lsnet_t lsnet_s "
                             "lsnet_b)")
    add_options(parser, Workload)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured as JSON")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="PNG: speed over parameters and published accuracy")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print the table."""
    arguments = build_parser().parse_args(argv)
    workload = read_options(arguments, Workload)
    check_target("--json", arguments.json, "file")
    check_target("--plot", arguments.plot, "file")
    found = measure(arguments.model, workload)
    records = [record(one, found[0], workload) for one in found]
    where = machine(workload.device)
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    print(*format_table(table(records, workload)), sep="\n")
    print(f"Medians of {workload.rounds} turns; batches of {workload.pictures} at {workload.resolution} px, "
          f"{workload.dtype}.\nspread: between quartiles. peak: what a batch holds at most besides the weights.")
    if arguments.json:
        write_json(arguments.json, {"machine": where, "workload": as_config(workload), "results": records})
    if arguments.plot:
        plot(records, workload, where, arguments.plot)
    return EXIT_DONE


def record(one: Measurement, first: Measurement, workload: Workload) -> dict[str, Any]:
    """What was measured of one network, as plain Python."""
    published = PUBLISHED.get(re.split("[:@]", one.model)[0])
    return {"model": one.model, "images_per_second": workload.pictures / one.seconds, "seconds": one.seconds,
            "spread": one.spread, "times_as_fast_as_first": one.times_as_fast_as(first), "peak_bytes": one.peak_bytes,
            "parameters": one.parameters, "published_top1": published and published.top1, "rounds": one.rounds}


def table(records: Sequence[dict[str, Any]], workload: Workload) -> list[Sequence[object]]:
    """The rows of the printed table."""
    unit = "ms/batch" if workload.latency else "images/s"
    rows: list[Sequence[object]] = [("model", unit, "spread", "x first", "peak MiB", "params M", "top-1 %"), RULE]
    for each in records:
        speed = f"{1e3 * each['seconds']:.2f}" if workload.latency else f"{each['images_per_second']:.1f}"
        rows.append((each["model"], speed, f"{each['spread']:.1%}", f"{each['times_as_fast_as_first']:.2f}",
                     f"{each['peak_bytes'] / 2**20:.1f}", f"{each['parameters'] / 1e6:.2f}",
                     each["published_top1"] or "–"))
    return rows


def plot(records: Sequence[dict[str, Any]], workload: Workload, where: dict[str, Any], path: Path) -> None:
    """Draw speed over parameters, and over published accuracy where it is known."""
    key, scale, unit = ("seconds", 1e3, "ms per batch") if workload.latency else ("images_per_second", 1, "images/s")
    panels = {name: [(each["model"], each[across] / part, scale * each[key]) for each in records if each[across]] for
              name, across, part in (("parameters, M", "parameters", 1e6), ("published top-1, %", "published_top1", 1))}
    title = (f"{('inference', 'training')[workload.train]}, batches of {workload.pictures} at {workload.resolution} "
             f"px, {workload.dtype}{', compiled' * workload.compile}; {where['device']}, {where['threads']} threads")
    drawing.plots.scatter({name: points for name, points in panels.items() if points}, unit, path, title)


def machine(device: str) -> dict[str, Any]:
    """Where this runs."""
    found = resolve_device(device)
    name = torch.cuda.get_device_name(found) if found.type == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "threads": torch.get_num_threads(), "torch": torch.__version__, "timm": timm.__version__}


if __name__ == "__main__":
    sys.exit(main())
