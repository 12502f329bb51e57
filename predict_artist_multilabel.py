"""Tell which artists' hands pictures show: the confidence of each label, and its share in the mixture.

Example: python predict_artist_multilabel.py --checkpoint my_run/model_best.pth --inputs more_pictures
--output labels.json
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from data.names import as_text
from data.output_folder import output_lock
from data.picture_files import Inputs, expand_inputs
from inference.sidecars import SidecarOptions
from inference.sorting import SortOptions
from runtime.arguments import Parser, flag
from runtime.next_step import PICTURES, print_next
from runtime.options import (
    BackendOptions,
    ExpectedNetwork,
    ExplainOptions,
    FolderSearchOptions,
    ResultFormat,
    TrainedOptions,
)
from runtime.progress import progress
from utils import EXIT_DONE, UserError, command

if TYPE_CHECKING:
    from inference.label_records import LabelChoice
    from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to predict."""

    inputs: tuple[str, ...] = flag(MISSING, "pictures, folders of pictures, and @list.txt for a text file with one "
                                            "path a line", metavar="PATH")
    recursive: bool = flag(False, "also search the sub-folders of folders", common=True)
    output: Path = flag(MISSING, "file for the results", writes="file")
    format: ResultFormat | None = flag(
        None, "a JSON list, a JSON object per line, or a CSV row per label (default: as the ending of --output says, "
              "else json)")
    top_k: int = flag(5, "at most so many labels are listed per picture", at_least=1, common=True)
    threshold: str = flag("0", "labels with a lower confidence are not listed: one number for all labels, the "
                               "thresholds.csv of the training, or trained for the one beside the checkpoint",
                          common=True)
    normalize_ratio: bool = flag(False, "also write each label's ratio, its share in the mixture; the ratios of all "
                                        "labels add up to 1", common=True)
    ratio_over: Literal["all", "kept"] | None = flag(
        None, "write ratios that add up to 1 over all labels (all, like --normalize-ratio) or over the listed ones "
              "(kept)")
    debug_full: bool = flag(False, "also write the confidences of all labels, as raw_confidence in the order of their "
                                   "ids, and their names, as raw_labels")
    search: FolderSearchOptions
    sorting: SortOptions
    tags: SidecarOptions
    maps: ExplainOptions
    network: TrainedOptions
    backend: BackendOptions
    expected: ExpectedNetwork


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="predict_artist_multilabel.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Predict; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    from inference.exported_predictor import open_predictor
    from inference.filing import file_pictures, place_sidecars
    from inference.label_records import (
        choose_format,
        format_labels,
        make_label_records,
        name_labels,
        write_label_records,
    )
    from inference.records import print_outcome
    style = choose_format(flags.output, flags.format)
    if flags.debug_full and style == "csv":
        raise UserError("--debug-full with CSV", "JSON, which has room for all labels", "add --format json")
    found = expand_inputs(flags.inputs, recursive=flags.recursive, exclude=flags.search.exclude)
    for line in [line for folder in found.folders for line in folder.report()]:
        print(line)
    pictures = found.images
    if not pictures:
        raise UserError(f"no picture in {' '.join(flags.inputs)}", "at least one", "check --inputs, or add --recursive")
    flags.sorting.check([folder.root for folder in found.folders])
    flags.tags.check(pictures)
    flags.maps.check([folder.root for folder in found.folders])
    is_filed = bool(flags.sorting.sort_into or flags.tags.sidecars)
    places = place_sidecars(found, flags.output) if flags.tags.sidecars and not flags.tags.beside else {}
    predictor = open_predictor(flags.network, flags.backend)
    predictor.check_expected(flags.expected)
    choice = make_choice(flags, predictor)
    explain = make_explainer(flags, predictor, found)
    answers = progress(predictor.predict(pictures, flags.network), len(pictures))
    entries = make_label_records(answers, choice)
    if is_filed or len(pictures) == 1:
        entries = [*entries]
    if len(pictures) == 1:
        for line in [line for _, record in entries for line in format_labels(record)]:
            print(line)
    with output_lock(flags.output):
        failures = write_label_records(entries, flags.output, style)
        filed = file_pictures(name_labels(entries), predictor.classes or (), flags.sorting, flags.tags,
                              places) if is_filed else EXIT_DONE
    filed = max(filed, explain({path for path, _ in failures}))
    code = max(filed, print_outcome(len(pictures), failures, flags.output,
                                    folders=[each for folder in found.folders for each in folder.unreadable]))
    print_next("predict_artist_multilabel.py", "--checkpoint", flags.network.checkpoint, "--inputs", PICTURES,
               "--output", flags.output, "--normalize-ratio")
    return code


def make_choice(flags: Flags, predictor: Predictor) -> LabelChoice:
    """Which labels are listed, and with which numbers.

    Raises:
        UserError: the network was trained for one artist per picture, its labels have no names, or --threshold is
            wrong.
    """
    from inference.label_records import LabelChoice, parse_thresholds
    checkpoint = flags.network.checkpoint
    predictor.check_task("multilabel", checkpoint)
    if predictor.classes is None:
        raise UserError(f"{checkpoint}, which does not name its labels", "a class mapping",
                        "add --class-mapping OUTPUT_DIR/class_mapping.csv of its training")
    return LabelChoice(top_k=flags.top_k,
                       thresholds=parse_thresholds(flags.threshold, predictor.classes, predictor.source),
                       ratio=flags.ratio_over or ("all" if flags.normalize_ratio else None),
                       raw=flags.debug_full)


def make_explainer(flags: Flags, predictor: Predictor, found: Inputs) -> Callable[[Collection[Path]], int]:
    """What draws class maps where the flags ask for them, of all pictures but some; it returns an exit code.

    Raises:
        UserError: the network cannot, or the sheets of two pictures would have one name.
    """
    if not flags.maps.explain:
        return lambda failed: EXIT_DONE
    from inference.explanations import ClassMaps, write_explanations
    from inference.filing import place_pictures
    explainer = ClassMaps(predictor, flags.maps, flags.network)
    places = place_pictures(found, Path(), "sheets", "predict them one after the other")

    def explain(failed: Collection[Path]) -> int:
        answered = ((as_text(place.as_posix()), path, {}) for path, place in places.items() if path not in failed)
        return write_explanations(explainer, answered, flags.maps, predictor, len(places))

    return explain


if __name__ == "__main__":
    sys.exit(main())
