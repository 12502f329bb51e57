"""Learn from validation pictures what a network's probabilities are worth, and when to say that an artist is unknown.

Example: python tools/calibrate.py --checkpoint my_run/model_best.pth --data-path my_dataset
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from data.picture_files import PictureFolder, find_pictures
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import FolderSearchOptions, TrainedOptions
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, check_writable, command, counted

if TYPE_CHECKING:
    from evaluation.answers import Answers
    from evaluation.calibration import Fitted

MOST_PICTURES = 20_000  # of train/ that a score learns from
FEW = 50  # validation pictures; a share of 5 % is known to 3 points then


ScoreChoice = Literal["auto", "probability", "energy", "neighbours", "mahalanobis", "style", "combined"]


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """What to learn from."""

    data_path: Path = flag(MISSING, "folder with val/, whose pictures did not train the network, and train/, whose "
                                    "pictures did; one folder per artist in each")
    unknown_dir: Path | None = flag(None, "folder of pictures by artists that the network does not know", common=True)
    error_rate: float = flag(0.05, "highest share of wrong answers among the confident ones, and of known artists' "
                                   "pictures that are called unknown", above=0, below=1, common=True)
    score: ScoreChoice = flag("auto", "what tells known artists from unknown ones: the calibrated probability, or the "
                                      "energy of the logits; nearest neighbours, the relative Mahalanobis distance of "
                                      "all features or of style features, or both combined, which learn from train/; "
                                      "auto compares them by leaving known artists out in turn", common=True)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """All flags of this command."""

    calibrate: CalibrateOptions
    search: FolderSearchOptions
    network: TrainedOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/calibrate.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Calibrate; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    options, network = flags.calibrate, flags.network
    pictures = find_folders(options, flags.search)
    for line in [line for found in pictures for line in found.report()]:
        print(line)

    from evaluation.calibration import STATISTICS, calibration_path, fit_calibration
    from inference.answers import collect_answers
    from inference.predictor import Predictor
    from inference.records import print_failures
    from runtime.checkpoint import is_hub_name

    if is_hub_name(network.checkpoint):
        raise UserError(f"{network.checkpoint}, beside which nothing can be written", "a checkpoint on this machine",
                        "download the folder, and name it")
    path = calibration_path(network.checkpoint)
    check_writable(path.parent, f"{path.name} beside {network.checkpoint}")
    predictor = Predictor.from_options(network)
    predictor.check_task("classification", network.checkpoint)
    if predictor.classes is None:
        raise UserError(f"{network.checkpoint}, which does not name its artists", "a class mapping", "add --class-csv")
    train = find_training(options, flags.search)
    blocks = predictor.add_features().blocks if train else []
    (known, others, training), failures = zip(*(
        collect_answers(predictor, predictor.classes, folders, network)
        for folders in (pictures[:1], pictures[1:], train)), strict=True)
    unread = [*(failure for each in failures for failure in each), *(each for found in pictures for each in
                                                                     found.unreadable)]
    fitted = fit_calibration(known, others, options.error_rate, predictor.fingerprint, network.view,
                             training=training.known() if train else None, blocks=blocks,
                             pretrained=predictor.pretrained, score=None if options.score == "auto" else options.score)
    with output_lock(path, wait=True):
        fitted.calibration.write(path, fitted.figures, fitted.scorer)
        draw(fitted, known, others, path.with_suffix(".png"))
    print_failures(unread)
    print(*format_figures(fitted), sep="\n")
    statistics = f", {STATISTICS}" if fitted.scorer.arrays else ""
    print(f"written: {path}{statistics} and {path.with_suffix('.png').name}")
    print_next("inference_artist.py", "--checkpoint", network.checkpoint, "--input",
               options.unknown_dir or options.data_path / "val", "--contact-sheet")
    return EXIT_PARTIAL if unread else EXIT_DONE


def find_folders(options: CalibrateOptions, search: FolderSearchOptions) -> list[PictureFolder]:
    """The validation pictures, and those of unknown artists where a folder is given.

    Raises:
        UserError: one of the folders is missing, or the second holds no picture.
    """
    folder, unknown_dir = options.data_path / "val", options.unknown_dir
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "val/ with one folder per artist", "check --data-path")
    known = find_pictures(folder, exclude=search.exclude, tars=True).without_loose()
    if unknown_dir is None:
        return [known]
    unknown = find_pictures(unknown_dir, exclude=search.exclude, tars=True)
    if not unknown.names:
        raise UserError(f"no picture in {unknown_dir}", "at least one", "check --unknown-dir")
    return [known, unknown]


def find_training(options: CalibrateOptions, search: FolderSearchOptions) -> list[PictureFolder]:
    """The training pictures, at most `MOST_PICTURES` at equal distances; none where there are none, or no need."""
    folder = options.data_path / "train"
    if options.score in ("probability", "energy") or not folder.is_dir():
        return []
    found = find_pictures(folder, exclude=search.exclude, tars=True).without_loose()
    names = found.names[::-(-len(found.names) // MOST_PICTURES) or 1]
    print(f"{counted(len(names), 'training picture')}, by which the scores tell known artists from unknown ones")
    return [replace(found, names=names)] if names else []


def draw(fitted: Fitted, known: Answers, others: Answers, path: Path) -> None:
    """Write calibration.png."""
    from drawing.plots import reliability_plot
    from evaluation.calibration import rate_answers, reliability_bins
    calibration, figures, right = fitted.calibration, fitted.figures, known.right
    (after, scores), (_, unknown) = (rate_answers(answers, fitted.scorer) for answers in (known, others))
    reliability_plot({f"before: {100 * figures['ece_before']:.1f} points off on average":
                          reliability_bins(known.probabilities(1), right),
                      f"calibrated: {100 * figures['ece_after']:.1f} points off on average":
                          reliability_bins(after, right)},
                     {"right": scores[right], "wrong": scores[~right], "unknown artists": unknown},
                     calibration.score, calibration.possible, calibration.confident, path)


def format_figures(fitted: Fitted) -> list[str]:
    """The lines that are printed of a calibration."""
    from evaluation.calibration import format_separation, format_verdicts
    calibration, figures = fitted.calibration, fitted.figures
    outside = f"; {figures['outside_pictures']} by unknown artists" if figures["outside_pictures"] else ""
    lines = [f"{counted(figures['pictures'], 'validation picture')}, {figures['accuracy']:.1%} right{outside}",
             f"temperature {calibration.temperature:.3f}: ECE {figures['ece_before']:.4f} before, "
             f"{figures['ece_after']:.4f} after"]
    if figures["accuracy"] == 1:
        lines.append("warning: with no wrong answer nothing says how sure the network may be; its probabilities stay "
                     "as they are; add validation pictures")
    elif figures["pictures"] < FEW:
        lines.append(f"warning: {counted(figures['pictures'], 'picture')} give rough figures; take {FEW} or more")
    return [*lines, *format_separation(fitted), *format_verdicts(fitted)]


if __name__ == "__main__":
    sys.exit(main())
