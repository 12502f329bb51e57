"""Name the artist of a picture or of a folder of pictures, and extract feature vectors.

Example: python inference_artist.py --mode both --checkpoint runs/lsnet_t/model_best.pth --input new --output results
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from data.images import list_images
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.logbook import progress
from runtime.options import InferenceOptions
from runtime.predictor import Failure, Predictor
from runtime.records import record, write_folder, write_single
from runtime.showcase import Showcase
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to infer."""

    mode: Literal["classify", "cluster", "both"] = flag(
        "classify", "classify names artists, cluster extracts feature vectors, both does both in one pass")
    input: Path = flag(MISSING, "a picture, or a folder searched with its sub-folders")
    output: Path = flag(MISSING, "folder for the results")
    top_k: int = flag(5, "artists named per picture", at_least=1)
    threshold: float = flag(0.0, "least probability of an artist that is named", at_least=0, at_most=1)
    contact_sheet: bool = flag(False, "write contact_sheet.png, pictures of the folder with their predicted artists")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="inference_artist.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Infer; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    if not options.input.exists():
        raise UserError(f"no {options.input}", "a picture or a folder of pictures", "check --input")
    pictures = list_images(options.input) if options.input.is_dir() else [options.input]
    if not pictures:
        raise UserError(f"no picture in {options.input}", "at least one", "check --input")
    predictor = Predictor.from_checkpoint(network.checkpoint, model=network.model, class_csv=network.class_csv,
                                          device=network.device)
    if options.mode != "cluster" and predictor.classes is None:
        raise UserError(f"{network.checkpoint}, which does not name its artists", "a class mapping",
                        "add --class-csv OUTPUT_DIR/class_mapping.csv of its training, or use --mode cluster")
    failures = infer(predictor, pictures, options, network)
    for failure in failures:
        print(f"not read: {failure.path} ({failure.reason})", file=sys.stderr)
    print(f"{len(pictures) - len(failures)} of {len(pictures)} pictures; results are in {options.output}")
    return EXIT_PARTIAL if failures else EXIT_DONE


def infer(predictor: Predictor, pictures: list[Path], options: Options, network: InferenceOptions) -> list[Failure]:
    """Write the results of all pictures; those that could not be read."""
    shape = {"mode": options.mode, "top_k": options.top_k, "threshold": options.threshold}
    workers = min(network.num_workers, len(pictures) // network.batch_size)
    answers = predictor.predict(pictures, batch_size=network.batch_size, num_workers=workers,
                                max_pixels=network.max_pixels)
    if not options.input.is_dir():
        answer = next(answers)
        write_single(answer, options.output, **shape)
        for line in record(answer, **shape).get("classification", ()):
            print(f"{line['probability']:7.2%}  {line['class_name']}")
        return [answer] if isinstance(answer, Failure) else []
    answers = progress(answers, len(pictures))
    showcase = Showcase(len(pictures)) if options.contact_sheet and predictor.classes else None
    failures = write_folder(showcase.watch(answers) if showcase else answers, options.input, options.output, **shape)
    if showcase:
        showcase.write(options.output / "contact_sheet.png")
    return failures


if __name__ == "__main__":
    sys.exit(main())
