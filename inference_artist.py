"""Name the artist of a picture or of a folder of pictures, extract feature vectors, or search a gallery.

Example: python inference_artist.py --mode both --checkpoint runs/lsnet_t/model_best.pth --input new --output results
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from data.images import list_images
from evaluation.calibration import Calibration
from inference.folder_run import FolderOptions, run_folder
from inference.predictor import Predictor
from inference.records import Describe, describe_each, records
from inference.result_files import SHEET, Overview, left_behind, write_results, write_single
from inference.showcase import Showcase
from runtime.arguments import Parser, add_options, as_config, flag, read_options
from runtime.options import InferenceOptions, ResultOptions
from search.gallery_search import NEIGHBOURS, GallerySearch, told
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command

NAMING = ("classify", "both")  # modes that name artists


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to infer."""

    mode: Literal["classify", "cluster", "both", "search"] = flag(
        "classify", "classify names artists, cluster extracts feature vectors, both does both in one pass, search "
                    "finds the nearest pictures and artists of --gallery")
    input: Path = flag(MISSING, "a picture, or a folder searched with its sub-folders")
    output: Path = flag(MISSING, "folder for the results", writes="folder")
    top_k: int = flag(5, "artists named per picture", at_least=1)
    gallery: Path | None = flag(None, "for search: the folder that tools/build_gallery.py made with this checkpoint")
    neighbours: int = flag(NEIGHBOURS, "for search: nearest pictures that vote for the artist", at_least=1)
    threshold: float = flag(0.0, "least probability of an artist that is named", at_least=0, at_most=1)
    calibration: bool = flag(True, "use the calibration.json beside the checkpoint, where there is one")
    contact_sheet: bool = flag(False, "write contact_sheet.png, pictures of the folder with their predicted artists")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="inference_artist.py", description=__doc__)
    for group in (Options, FolderOptions, ResultOptions, InferenceOptions):
        add_options(parser, group)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Infer; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, folder, files, network = (read_options(arguments, group) for group in (
        Options, FolderOptions, ResultOptions, InferenceOptions))
    pictures = find_pictures(options, folder)
    predictor = Predictor.from_options(network)
    if options.mode in NAMING:
        predictor.check_task("classification", network.checkpoint)
    if options.mode in NAMING and predictor.classes is None:
        raise UserError(f"{network.checkpoint}, which does not name its artists", "a class mapping",
                        "add --class-csv OUTPUT_DIR/class_mapping.csv of its training, or use --mode cluster")
    what = {"mode": options.mode, "top_k": options.top_k, "threshold": options.threshold,
            "calibration": find_calibration(predictor, options, network)}
    describe = functools.partial(describe_each, **what)
    if search := open_search(predictor, options):
        describe = functools.partial(search.describe, top_k=options.top_k)
        what |= {"gallery": str(options.gallery), "in it": len(search.gallery.images), "neighbours": options.neighbours}
    if not options.input.is_dir():
        return infer_one(predictor, options, files, network, describe)
    started, begun = time.monotonic(), time.time()
    journal = run_folder(predictor, pictures, options.input, options.output, describe, options=folder, network=network,
                         what={**what, "calibration": what["calibration"] and as_config(what["calibration"])})
    if folder.shard:
        found = Overview.of([journal])
    else:
        found = write_results([journal], options.output, files, has_features=options.mode in ("cluster", "both"))
        if options.contact_sheet:
            showcase = Showcase(options.input, predictor.classes)
            showcase.watch(journal.entries())
            showcase.write(options.output / SHEET)
        journal.remove()
        if earlier := left_behind(options.output, begun):
            print(f"from an earlier run, with another --mode or format: {', '.join(earlier)}")
    return report(found, options.output if not folder.shard else journal.folder, time.monotonic() - started)


def find_pictures(options: Options, folder: FolderOptions) -> Sequence[Path]:
    """What is to be looked at."""
    if not options.input.exists():
        raise UserError(f"no {options.input}", "a picture or a folder of pictures", "check --input")
    if options.contact_sheet and (options.mode not in NAMING or not options.input.is_dir()):
        raise UserError(f"--contact-sheet with --mode {options.mode} of {options.input}",
                        "--mode classify or both, of a folder", "leave --contact-sheet away")
    if not options.input.is_dir() and (folder.resume or folder.shard):
        raise UserError(f"--resume or --shard with the single picture {options.input}", "a folder", "check --input")
    if folder.shard and options.contact_sheet:
        raise UserError("--contact-sheet with --shard", "one of them: a shard does not see the whole folder",
                        "leave --contact-sheet away")
    pictures = list_images(options.input) if options.input.is_dir() else [options.input]
    if not pictures:
        raise UserError(f"no picture in {options.input}", "at least one", "check --input")
    return pictures


def find_calibration(predictor: Predictor, options: Options, network: InferenceOptions) -> Calibration | None:
    """The calibration beside the checkpoint, where it is wanted and artists are named."""
    if not options.calibration or options.mode in ("cluster", "search"):
        return None
    return Calibration.beside(network.checkpoint, predictor.fingerprint, network.view)


def open_search(predictor: Predictor, options: Options) -> GallerySearch | None:
    """The search that the flags ask for, if they do."""
    if (options.gallery is not None) != (options.mode == "search"):
        raise UserError(f"--mode {options.mode} with{'out' if options.gallery is None else ''} --gallery",
                        "--mode search and --gallery together", "add or leave away one of them")
    if options.gallery is None:
        return None
    return GallerySearch.of_folder(options.gallery, predictor.fingerprint, options.neighbours)


def infer_one(predictor: Predictor, options: Options, files: ResultOptions, network: InferenceOptions,
              describe: Describe) -> int:
    """Write and print the record of a single picture."""
    (name, said), = records(predictor.answer([options.input], network), options.input.parent, describe)
    path = write_single(name, said, options.output, files)
    for entry in said.get("classification", ()):
        calibrated = f" (calibrated {entry['calibrated_probability']:.2%})" if "calibrated_probability" in entry else ""
        print(f"{entry['probability']:7.2%}  {entry['class_name']}{calibrated}")
    for line in told(said):
        print(line)
    if "verdict" in said:
        print(f"verdict: {said['verdict']}")
    if "error" in said:
        print(f"not read: {options.input} ({said['error']})", file=sys.stderr)
    print(f"{'error' not in said:d} of 1 pictures; results are in {path.parent}")
    return EXIT_PARTIAL if "error" in said else EXIT_DONE


def report(found: Overview, where: Path, seconds: float) -> int:
    """Tell what became of a folder; the exit code."""
    for name, reason in found.failures:
        print(f"not read: {name} ({reason})", file=sys.stderr)
    print(f"{found.pictures - len(found.failures)} of {found.pictures} pictures in {seconds:.1f} s; results are in "
          f"{where}")
    return EXIT_PARTIAL if found.failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
