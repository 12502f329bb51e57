"""Split a folder of labelled pictures into an annotation file to train and one to validate, every label on both sides.

Example: python tools/split_multilabel_dataset.py --input-dir artist_mix --train-csv annotations/train_multilabel.csv
--val-csv annotations/val_multilabel.csv --val-ratio 0.2 --min-label-count 5 --relative-paths --recursive
"""

from __future__ import annotations

import os
import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import DEFAULT_MAX_PIXELS
from data.multilabel.annotations import write_annotations
from data.multilabel.split import MultiLabelRule, MultiLabelSplit, plan_multilabel_split
from data.prepare.output_files import claim_csv_files
from data.prepare.output_folder import told_plainly
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.labelled_folder import LabelledFolderOptions, open_labelled, print_left_out
from runtime.progress import announced
from utils import EXIT_DONE, EXIT_PARTIAL, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """Split."""

    train_csv: Path = flag(MISSING, "annotation file to write: pictures to train on")
    val_csv: Path = flag(MISSING, "annotation file to write: pictures to validate with")
    val_ratio: float = flag(0.2, "share of each label's pictures that validates", above=0, below=1)
    min_label_count: int = flag(1, "labels of fewer pictures are dropped", at_least=1)
    seed: int = flag(0, "the same seed gives the same split on every machine", at_least=0)
    workers: int | None = flag(None, "processes that check and compare pictures; 0 works in this one (default: one per "
                                     "processor)", at_least=0)
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more pixels count as damaged", at_least=1)


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/split_multilabel_dataset.py", description=__doc__)
    add_options(parser, LabelledFolderOptions)
    add_options(parser, Options)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Write both files; 0, or 3 when pictures are damaged or label files with errors were skipped."""
    arguments = build_parser().parse_args(argv)
    folder, options = read_options(arguments, LabelledFolderOptions), read_options(arguments, Options)
    found = open_labelled(folder)
    claim_csv_files(options.train_csv, options.val_csv, overwrite=folder.overwrite)
    rule = MultiLabelRule(val_ratio=options.val_ratio, min_label_count=options.min_label_count, seed=options.seed)
    split = plan_multilabel_split(folder.input_dir, found.annotations, rule, max_pixels=options.max_pixels,
                                  workers=(os.cpu_count() or 1) if options.workers is None else options.workers,
                                  progress=announced)
    show(split)
    for path, side in ((options.train_csv, split.train), (options.val_csv, split.val)):
        with told_plainly(path):
            write_annotations(path, found.located(side, relative=folder.relative_paths), folder.label_delimiter)
    print(f"{len(split.train)} pictures to train are in {options.train_csv}, {len(split.val)} to validate in "
          f"{options.val_csv}")
    return EXIT_PARTIAL if found.invalid or split.damaged else EXIT_DONE


def show(split: MultiLabelSplit) -> None:
    """Print what is on neither side, and labels that are not on both."""
    for label, count in split.rare.items():
        print(f"dropped: the label {label} ({count} picture{'s'[:count != 1]})")
    print_left_out(split.left_out)
    for label, count in split.one_sided.items():
        print(f"on one side only: the label {label} of {count} pictures (other labels of theirs leave no way)")


if __name__ == "__main__":
    sys.exit(main())
