"""Write report.html of a training run, finished or not: figures, curves, errors with pictures, a map, copies.

Example: python tools/report.py my_run --data-path my_dataset --compare my_other_run
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from utils import EXIT_DONE, UserError, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to report."""

    run: Path = flag(MISSING, "output folder of a training run", positional=True)
    compare: tuple[Path, ...] = flag((), "output folders of other runs to compare with", metavar="RUN", common=True)
    data_path: Path | None = flag(None, "folder of the data set, as in training: adds its pictures, and copies across "
                                        "train/ and val/ (default: a page without them)", common=True)
    output: Path | None = flag(None, "file to write (default: report.html in the run's folder)", metavar="HTML",
                               common=True)


def build_parser() -> Parser[Options]:
    """The flags of this command."""
    return Parser(Options, prog="tools/report.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Report; the exit code."""
    options = build_parser().read(argv)
    if options.data_path and not options.data_path.is_dir():
        raise UserError(f"no folder {options.data_path}", "the folder of the data set", "check --data-path")
    from runtime.progress import announced
    from training.report_page import write_report_page
    from training.reported_run import ReportedRun
    from training.run_folder import REPORT_PAGE

    runs = [ReportedRun.read(folder) for folder in (options.run, *options.compare)]
    output = options.output or options.run / REPORT_PAGE
    with output_lock(output, wait=True):
        lines = write_report_page(output, runs, folder=options.data_path, progress=announced("comparing"))
    print(*lines, f"{runs[0].best or 'no evaluation yet'}; {output}", sep="\n")
    print_next(*(runs[0].following or [["speed.py"]])[0])
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
