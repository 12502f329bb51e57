"""Write report.html of a training run: accuracy with intervals, curves, and a table of artists, from its files.

Example: python tools/report.py my_run --compare my_other_run
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from utils import EXIT_DONE, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to report."""

    run: Path = flag(MISSING, "output folder of a training run", positional=True)
    compare: tuple[Path, ...] = flag((), "output folders of other runs to compare with", metavar="RUN", common=True)
    output: Path | None = flag(None, "file to write (default: report.html in the run's folder)", metavar="HTML",
                               common=True)


def build_parser() -> Parser[Options]:
    """The flags of this command."""
    return Parser(Options, prog="tools/report.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Report; the exit code."""
    options = build_parser().read(argv)
    from training.report_page import Run, write_report_page
    from training.run_folder import REPORT_PAGE

    runs = [Run.read(folder) for folder in (options.run, *options.compare)]
    output = options.output or options.run / REPORT_PAGE
    with output_lock(output, wait=True):
        others = write_report_page(output, runs)
    for name in others:
        print(f"{name} has other validation pictures: its figures cannot be compared")
    print(f"{runs[0].best or 'no evaluation yet'}; {output}")
    print_next(*runs[0].following or ["speed.py"])
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
