"""Turn a sorted folder in which you moved what was wrong, or a corrected table, into a list of whose pictures are.

Example: python tools/make_fix_list.py --sorted-dir my_sorted --source-dir more_pictures --output-csv fixes.csv
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.names import as_text
from data.output_folder import check_csv_outputs, output_lock, report_write_errors
from data.picture_files import find_pictures
from data.prepare.fix_list import Fix, read_answers, write_fix_list
from inference.sorting import UNSORTED, read_corrections
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from utils import EXIT_DONE, UserError, command, counted


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Lists."""

    sorted_dir: Path | None = flag(None, "the folder of --sort-into, corrected by you: its folders are artists; "
                                         f"pictures in {UNSORTED} or deleted ones are left out", common=True)
    table: Path | None = flag(None, "instead of --sorted-dir: the CSV file that the page of serve_artist.py saved, "
                                    "corrected by you; the first row of a picture names its artist, an empty artist "
                                    "leaves it out", metavar="CSV", common=True)
    source_dir: Path = flag(MISSING, "the folder of the original pictures, which the paths in the list are relative to")
    output_csv: Path = flag(MISSING, "list to write: path, artist and reason, for --fix-list of prepare_dataset.py and "
                                     "tools/build_gallery.py", writes="file")
    overwrite: bool = flag(False, "replace an earlier list without asking")


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/make_fix_list.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Write the list; the exit code."""
    flags = build_parser().read(argv)
    fixes, strangers = read_fixes(flags)
    with output_lock(flags.output_csv), report_write_errors(flags.output_csv):
        check_csv_outputs(flags.output_csv, overwrite=flags.overwrite)
        write_fix_list(flags.output_csv, fixes)
    for path in strangers:
        print(f"passed over: {as_text(str(path))} (not sorted there)")
    counts = Counter("left out" if not fix.artist else fix.reason.partition(" from ")[0] for fix in fixes)
    print(f"{counted(len(fixes), 'picture')} in {flags.output_csv}: " + ", ".join(
        f"{count} {what}" for what, count in counts.most_common()))
    print_next("prepare_dataset.py", "--source-dir", flags.source_dir, "--fix-list", flags.output_csv, "--output-dir",
               "my_dataset")
    return EXIT_DONE


def read_fixes(flags: Flags) -> tuple[list[Fix], list[Path]]:
    """The fixes that the sorted folder or the table says, and files of that folder that no sorting made."""
    if flags.sorted_dir and not flags.table:
        return read_corrections(flags.sorted_dir, flags.source_dir)
    if flags.table and not flags.sorted_dir:
        return read_answers(flags.table, find_pictures(flags.source_dir)), []
    raise UserError(f"{'both' if flags.table else 'neither'} of --sorted-dir and --table", "one of them", "give one")


if __name__ == "__main__":
    sys.exit(main())
