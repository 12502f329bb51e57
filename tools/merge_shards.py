"""Put the shards of a folder's inference together: the files that one undivided run would have written.

Example: python tools/merge_shards.py --input results --output results
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from inference.result_files import write_results
from inference.shards import find_shards
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.options import ResultOptions
from utils import EXIT_DONE, EXIT_PARTIAL, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to merge."""

    input: tuple[Path, ...] = flag(MISSING, "folders that hold shard_1_of_n to shard_n_of_n: all in one, some in each")
    output: Path = flag(MISSING, "folder for the results", writes="folder")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/merge_shards.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, ResultOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Merge; 0, or 3 when some pictures could not be read. The shards stay."""
    arguments = build_parser().parse_args(argv)
    options, files = read_options(arguments, Options), read_options(arguments, ResultOptions)
    shards = find_shards(options.input)
    found = write_results(shards, options.output, files, has_features=shards[0].about["mode"] != "classify")
    for name, reason in found.failures:
        print(f"not read: {name} ({reason})", file=sys.stderr)
    print(f"{found.pictures - len(found.failures)} of {found.pictures} pictures from {len(shards)} shards; results are "
          f"in {options.output}")
    return EXIT_PARTIAL if found.failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
