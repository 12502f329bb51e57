"""Put the shards of a folder's inference together: the files that one undivided run would have written.

Example: python tools/merge_shards.py --input my_results --output my_results
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from inference.modes import MODES
from runtime.arguments import Parser, flag
from runtime.next_step import CHECKPOINT, print_next
from runtime.options import ResultOptions
from utils import command


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to merge."""

    input: tuple[Path, ...] = flag(MISSING, "folders that hold shard_1_of_n to shard_n_of_n: all in one, some in each")
    output: Path = flag(MISSING, "folder for the results", writes="folder")
    files: ResultOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/merge_shards.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Merge; 0, or 3 when some pictures could not be read. The shards stay."""
    flags = build_parser().read(argv)
    from inference.folder_run import find_shards
    from inference.records import print_outcome, write_results
    with output_lock(flags.output):
        shards = find_shards(flags.input)
        summary = write_results(shards, flags.output, flags.files, MODES[shards[0].about["mode"]])
    for line in summary.tally.lines():
        print(line)
    code = print_outcome(summary.pictures, summary.failures, flags.output, how=f" from {len(shards)} shards")
    if summary.rows:
        print_next("tools/extract_cluster_features.py", "--features", flags.output, "--output-dir",
                   flags.output / "clusters")
    else:
        print_next("tools/calibrate.py", "--checkpoint", CHECKPOINT, "--data-path", "YOUR_DATA_SET")
    return code


if __name__ == "__main__":
    sys.exit(main())
