"""Learn from validation pictures what a network's probabilities are worth, and when to say that an artist is unknown.

Example: python tools/calibrate.py --checkpoint runs/lsnet_t/model_best.pth --data-path my_dataset --unknown-dir others
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import list_images
from drawing.reliability import reliability_plot
from evaluation.calibration import Calibration, place
from inference.calibration_run import ask, calibrate
from inference.predictor import Predictor
from inference.records import tell_failures
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.options import InferenceOptions
from runtime.text_table import format_table
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command

WEAK = 0.7  # AUROC; 0.5 is chance


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to learn from."""

    data_path: Path = flag(MISSING, "folder with val/, one folder per artist in it, none of which trained the network")
    unknown_dir: Path | None = flag(None, "folder of pictures by artists that the network does not know")
    error_rate: float = flag(0.05, "most of the confident answers that may be wrong, and most of the known artists' "
                                   "pictures that may be called unknown", above=0, below=1)


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/calibrate.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Calibrate; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    folder = options.data_path / "val"
    if not folder.is_dir():
        raise UserError(f"no folder {folder}", "val/ with one folder per artist", "check --data-path")
    outside = list_images(options.unknown_dir) if options.unknown_dir else []
    if options.unknown_dir and not outside:
        raise UserError(f"no picture in {options.unknown_dir}", "at least one", "check --unknown-dir")
    predictor = Predictor.from_options(network)
    predictor.check_task("classification", network.checkpoint)
    if predictor.classes is None:
        raise UserError(f"{network.checkpoint}, which does not name its artists", "a class mapping", "add --class-csv")
    known, others = ask(predictor, list_images(folder), network), ask(predictor, outside, network)
    calibration, figures = calibrate(known, others, options.error_rate, predictor.fingerprint, network.view)
    path = place(network.checkpoint)
    calibration.write(path, figures)
    reliability_plot(known.scores(1), known.scores(calibration.temperature), known.right,
                     others.scores(calibration.temperature), calibration, path.with_suffix(".png"))
    report(calibration, figures, [*known.failures, *others.failures])
    print(f"written: {path} and {path.with_suffix('.png').name}")
    return EXIT_PARTIAL if known.failures or others.failures else EXIT_DONE


def report(calibration: Calibration, figures: dict, failures: list) -> None:
    """Print the figures."""
    tell_failures(failures)
    print(f"{figures['pictures']} validation pictures, {figures['accuracy']:.1%} right; "
          f"{figures['outside_pictures']} by unknown artists")
    print(f"temperature {calibration.temperature:.3f}: ECE {figures['ece_before']:.4f} before, "
          f"{figures['ece_after']:.4f} after")
    if "auroc" in figures:
        print(f"known from unknown artists: AUROC {figures['auroc']:.4f}, FPR at 95 % TPR {figures['fpr95']:.4f}")
        if figures["auroc"] < WEAK:
            print("warning: this network hardly tells unknown artists from its own; do not rely on the verdicts")
    bound = f"from {calibration.confident:.3f}" if calibration.confident <= 1 else "never"
    rows = [["verdict", "probability", "known right", "known wrong", "unknown artists"]]
    for name, text in (("confident", bound), ("possible", f"from {calibration.possible:.3f}"), ("unknown", "below")):
        rows.append([name, text, *(f"{share:.1%}" for share in figures["verdicts"][name])])
    print(*format_table(rows), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
