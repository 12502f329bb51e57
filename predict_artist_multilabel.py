"""Tell which artists' hands pictures show: the confidence of each label, and its share in the mixture.

Example: python predict_artist_multilabel.py --checkpoint my_run/best_checkpoint.pth --inputs new --output results.json
--normalize-ratio
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from data.picture_paths import find_pictures
from inference.label_records import (
    Format,
    LabelChoice,
    Record,
    choose_format,
    choose_thresholds,
    label_record,
    write_label_records,
)
from inference.predictor import Failure, Predictor
from inference.records import tell_failures
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.logbook import progress
from runtime.options import InferenceOptions
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to predict."""

    inputs: tuple[str, ...] = flag(MISSING, "pictures, folders of pictures, and @list.txt for a text file with one "
                                            "path a line")
    recursive: bool = flag(False, "search the sub-folders of folders, too")
    output: Path = flag(MISSING, "file for the results", writes="file")
    format: Format | None = flag(None, "a JSON list, a JSON object per line, or a CSV row per label (default: as the "
                                       "ending of --output says, else json)")
    top_k: int = flag(5, "labels told per picture, at most", at_least=1)
    threshold: str = flag("0", "least confidence of a label that is told: a number for all, or the thresholds.csv of "
                               "the training")
    normalize_ratio: bool = flag(False, "tell the ratio of each label, too: its share, so that those of all labels add "
                                        "up to 1")
    ratio_over: Literal["all", "kept"] | None = flag(None, "let the ratios of the labels told add up to 1 (kept), as "
                                                           "--normalize-ratio does with those of all labels (all)")
    debug_full: bool = flag(False, "tell the confidences of all labels, too, as raw_confidence in the order of their "
                                   "ids")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="predict_artist_multilabel.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Predict; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    style = choose_format(options.output, options.format)
    if options.debug_full and style == "csv":
        raise UserError("--debug-full with CSV", "JSON, which has room for all labels", "add --format json")
    pictures = find_pictures(options.inputs, recursive=options.recursive)
    predictor = open_predictor(network)
    choice = LabelChoice(top_k=options.top_k, thresholds=choose_thresholds(options.threshold, predictor.classes),
                         ratio=options.ratio_over or ("all" if options.normalize_ratio else None),
                         raw=options.debug_full)
    failures: list[Failure] = []
    write_label_records(describe(predictor, pictures, network, choice, failures), options.output, style)
    tell_failures(failures)
    print(f"{len(pictures) - len(failures)} of {len(pictures)} pictures; results are in {options.output}")
    return EXIT_PARTIAL if failures else EXIT_DONE


def open_predictor(network: InferenceOptions) -> Predictor:
    """The network of several labels that the flags name.

    Raises:
        UserError: it was trained for one artist per picture, or its labels have no names.
    """
    predictor = Predictor.from_options(network)
    predictor.check_task("multilabel", network.checkpoint)
    if predictor.classes is None:
        raise UserError(f"{network.checkpoint}, which does not name its labels", "a class mapping",
                        "add --class-mapping OUTPUT_DIR/class_mapping.csv of its training")
    return predictor


def describe(predictor: Predictor, pictures: list[Path], network: InferenceOptions, choice: LabelChoice,
             failures: list[Failure]) -> Iterator[Record]:
    """The record of each picture; those that cannot be read join `failures`. A single picture's is printed."""
    for answer in progress(predictor.answer(pictures, network), len(pictures)):
        record = label_record(answer, choice)
        if isinstance(answer, Failure):
            failures.append(answer)
        elif len(pictures) == 1:
            for label in record["labels"]:
                share = f"  {label['ratio']:7.2%}" if choice.ratio else ""
                print(f"{label['confidence']:7.2%}{share}  {label['label']}")
        yield record


if __name__ == "__main__":
    sys.exit(main())
