"""Split a folder of labelled pictures into an annotation file to train and one to validate, every label on both sides.

Example: python tools/split_multilabel_dataset.py --input-dir my_mixtures --train-csv train.csv --val-csv val.csv
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import DEFAULT_MAX_PIXELS
from data.multilabel.annotations import write_annotated_split
from data.multilabel.split import MultiLabelRule, MultiLabelSplit, plan_multilabel_split
from data.output_folder import check_csv_outputs, output_lock, report_write_errors
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import MOST_WORKERS, LabelledFolderOptions
from runtime.progress import announced
from utils import EXIT_DONE, EXIT_PARTIAL, command, counted


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Split."""

    train_csv: Path = flag(MISSING, "annotation file to write: pictures to train on")
    val_csv: Path = flag(MISSING, "annotation file to write: pictures to validate with")
    val_ratio: float = flag(0.2, "share of each label's pictures used for validation", above=0, below=1, common=True)
    min_label_count: int = flag(1, "labels of fewer pictures are dropped", at_least=1, common=True)
    seed: int = flag(0, "the same seed gives the same split on every machine", at_least=0, common=True)
    workers: int | None = flag(None, "processes that check and compare pictures; 0 works in this one (default: one per "
                                     "processor)", at_least=0, at_most=MOST_WORKERS)
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more pixels count as damaged", at_least=1)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """All flags of this command."""

    folder: LabelledFolderOptions
    split: SplitOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/split_multilabel_dataset.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Write both files; 0, or 3 when pictures, label files or folders with errors were left out."""
    flags = build_parser().read(argv)
    folder, options = flags.folder, flags.split
    found = folder.read()
    for line in found.report():
        print(line)
    rule = MultiLabelRule(val_ratio=options.val_ratio, min_label_count=options.min_label_count, seed=options.seed)
    with output_lock(options.train_csv, options.val_csv), report_write_errors(options.train_csv):
        check_csv_outputs(options.train_csv, options.val_csv, overwrite=folder.overwrite)
        split = plan_multilabel_split(folder.input_dir, found.annotations, rule, max_pixels=options.max_pixels,
                                      workers=options.workers, progress=announced)
        print_split(split)
        write_annotated_split({path: found.with_paths(side, relative=folder.relative_paths) for path, side in
                               ((options.train_csv, split.train), (options.val_csv, split.val))},
                              folder.label_delimiter)
    print(f"{counted(len(split.train), 'picture')} to train are in {options.train_csv}, {len(split.val)} to validate "
          f"in {options.val_csv}")
    print_next("train_artist_multilabel.py", "--data-path", folder.input_dir, "--train-ann", options.train_csv,
               "--val-ann", options.val_csv, "--pretrained", "--linear-probe")
    return EXIT_PARTIAL if found.invalid or found.unreadable or split.damaged else EXIT_DONE


def print_split(split: MultiLabelSplit) -> None:
    """Print what is on neither side, and labels that are not on both."""
    for label, count in split.rare.items():
        print(f"dropped: the label {label} ({counted(count, 'picture')})")
    for name, reason in split.left_out.items():
        print(f"left out: {name} ({reason})")
    for label, count in split.one_sided.items():
        print(f"on one side only: the label {label} of {counted(count, 'picture')} (other labels of theirs leave no "
              "way)")


if __name__ == "__main__":
    sys.exit(main())
