"""Write the annotation file of a folder: pictures whose labels stand in a .txt file of the same name.

Example: python tools/generate_multilabel_csv.py --input-dir artist_mix --output-csv annotations/all_multilabel.csv
--recursive
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.multilabel.annotations import write_annotations
from data.prepare.output_files import claim_csv_files
from data.prepare.output_folder import told_plainly
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.labelled_folder import LabelledFolderOptions, open_labelled
from utils import EXIT_DONE, EXIT_PARTIAL, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to write."""

    output_csv: Path = flag(MISSING, "annotation file to write", writes="file")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/generate_multilabel_csv.py", description=__doc__)
    add_options(parser, LabelledFolderOptions)
    add_options(parser, Options)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Write the file; 0, or 3 when label files with errors were skipped."""
    arguments = build_parser().parse_args(argv)
    folder, options = read_options(arguments, LabelledFolderOptions), read_options(arguments, Options)
    found = open_labelled(folder)
    claim_csv_files(options.output_csv, overwrite=folder.overwrite)
    with told_plainly(options.output_csv):
        write_annotations(options.output_csv, found.located(found.annotations, relative=folder.relative_paths),
                          folder.label_delimiter)
    labels = {label for annotation in found.annotations for label in annotation.labels}
    print(f"{len(found.annotations)} pictures with {len(labels)} labels are in {options.output_csv}")
    return EXIT_PARTIAL if found.invalid else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
