"""Time LSNet and timm models by turns: pictures per second or latency, in inference or training.

Example: python speed.py --model lsnet_t resnet18 --json speed.json --plot speed.png
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.published import PUBLISHED
from data.output_folder import output_lock
from runtime.arguments import Parser, as_config, flag
from runtime.next_step import PICTURES, print_next
from runtime.options import Workload
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, command, counted, write_json

if TYPE_CHECKING:
    from bench.timing import Measurement


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Models and results."""

    model: tuple[str, ...] = flag(
        ("lsnet_t", "lsnet_s", "lsnet_b"),
        "presets of model/ or timm models; a preset with :unfold or :shifted behind it computes the LS convolution in "
        "plain operations, with :plain-unfold or :plain-shifted in NCHW throughout; @bfloat16, @compile, … set the "
        "mode of one", metavar="NAME", common=True)
    workload: Workload
    json: Path | None = flag(None, "write all that was measured as JSON", writes="file", metavar="FILE", common=True)
    plot: Path | None = flag(None, "PNG: speed over parameters and published accuracy", writes="file", metavar="FILE",
                             common=True)


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="speed.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Measure and print the table."""
    flags = build_parser().read(argv)
    from bench.timing import describe_machine, measure

    workload = flags.workload
    measurements = measure(flags.model, workload)
    records = [make_record(each, measurements[0], workload) for each in measurements]
    machine = describe_machine(workload.device)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    print(*format_table(table_rows(records, workload)), sep="\n")
    print(f"Medians of {workload.rounds} turns; batches of {workload.pictures} at {workload.resolution} px, "
          f"{workload.dtype}.\nspread: between quartiles. peak: what a batch holds at most besides the weights.")
    if flags.json:
        with output_lock(flags.json, wait=True):
            write_json(flags.json, {"machine": machine, "workload": as_config(workload), "results": records})
    if flags.plot:
        with output_lock(flags.plot, wait=True):
            plot(records, workload, machine, flags.plot)
    fastest = min(measurements, key=lambda each: each.seconds).model
    trainer = {"classes": "train_artist_style.py", "semantic": "train_segmentation.py"}.get(
        workload.task, "train_detection.py")
    print_next(trainer, "--model", fastest.partition("@")[0].partition(":")[0], "--data-path", PICTURES)
    return EXIT_DONE


def make_record(measured: Measurement, first: Measurement, workload: Workload) -> dict[str, Any]:
    """The figures of one network as plain Python, for the table, the plot and --json."""
    published = PUBLISHED.get(re.split("[:@]", measured.model)[0]) if workload.task == "classes" else None
    return {"model": measured.model, "images_per_second": workload.pictures / measured.seconds,
            "seconds": measured.seconds, "spread": measured.spread,
            "times_as_fast_as_first": measured.times_as_fast_as(first), "peak_bytes": measured.peak_bytes,
            "parameters": measured.parameters, "published_top1": published and published.top1,
            "rounds": measured.rounds}


def table_rows(records: Sequence[Mapping[str, Any]], workload: Workload) -> list[Sequence[object]]:
    """The rows of the printed table."""
    unit = "ms/batch" if workload.latency else "images/s"
    rows: list[Sequence[object]] = [("model", unit, "spread", "x first", "peak MiB", "params M", "top-1 %"), RULE]
    for each in records:
        speed = f"{1e3 * each['seconds']:.2f}" if workload.latency else f"{each['images_per_second']:.1f}"
        rows.append((each["model"], speed, f"{each['spread']:.1%}", f"{each['times_as_fast_as_first']:.2f}",
                     f"{each['peak_bytes'] / 2**20:.1f}", f"{each['parameters'] / 1e6:.2f}",
                     each["published_top1"] or "–"))
    return rows


def plot(records: Sequence[Mapping[str, Any]], workload: Workload, machine: Mapping[str, Any], path: Path) -> None:
    """Draw speed over parameters, and over published accuracy where it is known."""
    from drawing.plots import scatter

    key, scale, unit = ("seconds", 1e3, "ms per batch") if workload.latency else ("images_per_second", 1, "images/s")
    axes = {"parameters, M": ("parameters", 1e6), "published top-1, % (most at 224 px)": ("published_top1", 1)}
    panels = {name: [(each["model"], each[across] / part, scale * each[key]) for each in records if each[across]]
              for name, (across, part) in axes.items()}
    title = (f"{'training' if workload.train else 'inference'}, batches of {workload.pictures} at "
             f"{workload.resolution} px, {workload.dtype}{', compiled' if workload.compile else ''}; "
             f"{machine['device']}, {counted(machine['threads'], 'thread')}")
    vertical = f"{unit} at {workload.resolution} px"
    scatter({name: points for name, points in panels.items() if points}, vertical, path, title)


if __name__ == "__main__":
    sys.exit(main())
