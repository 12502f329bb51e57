"""Write the annotation file of a folder: pictures whose labels are in a .txt file of the same name, or folders' names.

Example: python tools/generate_multilabel_csv.py --input-dir my_mixtures --output-csv all.csv
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.multilabel.annotations import write_annotations
from data.output_folder import check_csv_outputs, output_lock, report_write_errors
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import LabelledFolderOptions
from utils import EXIT_DONE, EXIT_PARTIAL, command, counted


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What to write."""

    output_csv: Path = flag(MISSING, "annotation file to write", writes="file")


@dataclass(frozen=True, kw_only=True)
class Flags:
    """All flags of this command."""

    folder: LabelledFolderOptions
    output: OutputOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/generate_multilabel_csv.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Write the file; 0, or 3 when label files or folders with errors were left out."""
    flags = build_parser().read(argv)
    folder, output_csv = flags.folder, flags.output.output_csv
    found = folder.read()
    for line in found.report():
        print(line)
    with output_lock(output_csv), report_write_errors(output_csv):
        check_csv_outputs(output_csv, overwrite=folder.overwrite)
        write_annotations(output_csv, found.with_paths(found.annotations, relative=folder.relative_paths),
                          folder.label_delimiter)
    labels = {label for annotation in found.annotations for label in annotation.labels}
    print(f"{counted(len(found.annotations), 'picture')} with {counted(len(labels), 'label')} in {output_csv}")
    print_next("tools/split_multilabel_dataset.py", "--input-dir", folder.input_dir, "--train-csv",
               output_csv.with_name("train.csv"), "--val-csv", output_csv.with_name("val.csv"),
               *["--recursive"] * folder.recursive, *["--labels-from", "folders"] * (folder.labels_from == "folders"))
    return EXIT_PARTIAL if found.invalid or found.unreadable else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
