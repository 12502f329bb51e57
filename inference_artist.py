"""Name the artist of a picture or of a folder of pictures, extract feature vectors, or search a gallery.

Example: python inference_artist.py --mode both --checkpoint runs/lsnet_t/model_best.pth --input new --output results
"""

from __future__ import annotations

import sys
import time
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from data.output_folder import output_lock
from data.picture_files import PictureFolder, find_pictures
from inference.modes import MODES, InferenceRequest, Mode, ModeName
from runtime.arguments import Parser, flag
from runtime.options import NEIGHBOURS, FeatureOptions, FolderOptions, FolderSearchOptions, ResultOptions
from utils import UserError, command

if TYPE_CHECKING:
    from inference.predictor import Predictor


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to infer."""

    mode: ModeName = flag(
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
    search: FolderSearchOptions
    folder: FolderOptions
    files: ResultOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="inference_artist.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Infer; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    mode = MODES[flags.mode]
    check_flags(flags, mode)
    found = find_input(flags) if flags.input.is_dir() else None
    from inference.folder_run import Shard
    from inference.predictor import Predictor
    from search.vectors import FeatureSpace
    shard = flags.folder.shard
    with output_lock(Shard.parse(shard).folder(flags.output) if shard else flags.output):
        predictor = Predictor.from_options(flags.network, uses_features=mode.writes_features or mode.needs_gallery,
                                           gallery=FeatureSpace.read(flags.gallery) if flags.gallery else None)
        request = make_request(flags, mode, predictor)
        return infer_folder(flags, predictor, request, found) if found else infer_picture(flags, predictor, request)


def find_input(flags: Flags) -> PictureFolder:
    """The pictures of the input folder; prints what is passed over."""
    found = find_pictures(flags.input, exclude=flags.search.exclude)
    for line in found.report():
        print(line)
    if not found.images:
        raise UserError(f"no picture in {flags.input}", "at least one", "check --input")
    return found


def check_flags(flags: Flags, mode: Mode) -> None:
    """Raise a `UserError` if the flags contradict each other or the input."""
    if not flags.input.exists():
        raise UserError(f"no {flags.input}", "a picture or a folder of pictures", "check --input")
    flags.network.check_source()
    if mode.names_artists and flags.network.pretrained:
        raise UserError(f"--mode {mode.name} with --pretrained, whose network knows no artists",
                        "--mode cluster or search", "choose one of them, or train on your artists first")
    if flags.contact_sheet and not (mode.names_artists and flags.input.is_dir()):
        raise UserError(f"--contact-sheet with --mode {mode.name} of {flags.input}",
                        "--mode classify or both, of a folder", "leave --contact-sheet away")
    if not flags.input.is_dir() and (flags.folder.resume or flags.folder.shard):
        raise UserError(f"--resume or --shard with the single picture {flags.input}", "a folder", "check --input")
    if flags.folder.shard and flags.contact_sheet:
        raise UserError("--contact-sheet with --shard", "one of them: a shard does not see the whole folder",
                        "leave --contact-sheet away")
    if (flags.gallery is not None) != mode.needs_gallery:
        raise UserError(f"--mode {mode.name} with{'out' if flags.gallery is None else ''} --gallery",
                        "--mode search and --gallery together", "add or leave away one of them")


def make_request(flags: Flags, mode: Mode, predictor: Predictor) -> InferenceRequest:
    """The request of the flags, checked against the network.

    Raises:
        UserError: the network cannot name artists, or calibration or gallery are of another network.
    """
    from evaluation.calibration import Calibration
    from search.gallery import read_gallery
    from search.gallery_search import GallerySearch
    checkpoint = flags.network.checkpoint
    if mode.names_artists and checkpoint:
        predictor.check_task("classification", checkpoint)
        if predictor.classes is None:
            raise UserError(f"{checkpoint}, which does not name its artists", "a class mapping",
                            "add --class-csv OUTPUT_DIR/class_mapping.csv of its training, or use --mode cluster")
    calibration = search = None
    if mode.names_artists and checkpoint and flags.calibration:
        calibration = Calibration.beside(checkpoint, predictor.fingerprint, flags.network.view)
    if flags.gallery:
        search = GallerySearch(read_gallery(flags.gallery, predictor.space), neighbours=flags.neighbours)
    return InferenceRequest(mode=mode, top_k=flags.top_k, threshold=flags.threshold, calibration=calibration,
                            space=predictor.space, gallery=flags.gallery, search=search)


def infer_picture(flags: Flags, predictor: Predictor, request: InferenceRequest) -> int:
    """Write and print the record of a single picture; the exit code."""
    from inference.records import format_record, make_entries, print_outcome, write_single
    (_, record), = make_entries(predictor.predict_with([flags.input], flags.network), flags.input.parent, request)
    path = write_single(flags.input, record, flags.output, flags.files)
    for line in format_record(record):
        print(line)
    usual = f"{flags.input.stem}_result{path.suffix}"
    if path.name != usual:
        print(f"the result is in {path.name}: {usual} is of another picture, or too long a name")
    return print_outcome(1, [(flags.input, record["error"])] if "error" in record else [], path.parent)


def infer_folder(flags: Flags, predictor: Predictor, request: InferenceRequest, found: PictureFolder) -> int:
    """Write the results of a folder, or the journal of a shard; the exit code."""
    from inference.folder_run import run_folder
    from inference.prediction_sheet import write_prediction_sheet
    from inference.records import SHEET, Summary, find_earlier_results, print_outcome, write_results
    output = flags.output
    timer, started = time.monotonic(), time.time()
    journal = run_folder(predictor, found.images, flags.input, output, request, options=flags.folder,
                         network=flags.network)
    if flags.folder.shard:
        summary, output = Summary.of([journal]), journal.folder
    else:
        summary = write_results([journal], output, flags.files, request.mode)
        if flags.contact_sheet:
            write_prediction_sheet(output / SHEET, journal.entries(), folder=flags.input,
                                   classes=predictor.classes or (),
                                   readable=summary.pictures - len(summary.failures))
        journal.remove()
        if earlier := find_earlier_results(output, started):
            print(f"from an earlier run, with another --mode or format: {', '.join(earlier)}")
    return print_outcome(summary.pictures, summary.failures, output, how=f" in {time.monotonic() - timer:.1f} s",
                         folders=found.unreadable)


if __name__ == "__main__":
    sys.exit(main())
