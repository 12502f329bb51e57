"""Name the artist of a picture or of a folder of pictures, extract feature vectors, or search a gallery.

Example: python inference_artist.py --checkpoint my_run/model_best.pth --input more_pictures
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from data.names import as_text, named_file
from data.output_folder import output_lock
from data.picture_files import PictureFolder, find_pictures
from data.tar_files import find_member
from inference.modes import MODES, InferenceRequest, Mode, ModeName
from inference.sidecars import SidecarOptions
from inference.sorting import SORTED, SortOptions, undo_sort
from runtime.arguments import Parser, check_target, flag
from runtime.next_step import PICTURES, network_flags, print_next
from runtime.options import (
    NEIGHBOURS,
    BackendOptions,
    ExpectedNetwork,
    ExplainOptions,
    FeatureOptions,
    FolderOptions,
    FolderSearchOptions,
    RayOptions,
    ResultOptions,
)
from utils import EXIT_DONE, UserError, command

if TYPE_CHECKING:
    from inference.explanations import Explain
    from inference.journal import Entry
    from inference.predictor import Predictor
    from inference.ray_workers import RayPredictor


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to infer."""

    mode: ModeName = flag("classify", "name artists (classify), extract feature vectors (cluster), do both in one "
                                      "pass, or find the nearest pictures and artists in --gallery (search)",
                          common=True)
    input: Path | None = flag(None, "a picture, or a folder with sub-folders (required, except with --undo-sort)",
                              common=True)
    output: Path | None = flag(None, "folder for the results (default: in results/, named like the input)",
                               writes="folder", common=True)
    top_k: int = flag(5, "artists listed per picture", at_least=1, common=True)
    gallery: str | None = flag(None, "for search: the folder, or milvus:URI, that tools/build_gallery.py filled with "
                                     "the same network", metavar="PLACE", common=True)
    neighbours: int = flag(NEIGHBOURS, "for search: nearest pictures that vote for the artist", at_least=1)
    exact: bool = flag(False, "for search: compare with every picture, without an index")
    threshold: float = flag(0.0, "artists with a lower probability are not listed", at_least=0, at_most=1)
    calibration: bool = flag(True, "use the calibration.json beside the checkpoint, for search that in the gallery, if "
                                   "there is one")
    contact_sheet: bool = flag(False, "write contact_sheet.png, pictures of the folder with their predicted artists",
                               common=True)
    neighbour_sheet: tuple[Path, ...] = flag((), "for search: write neighbours.png, pictures of the folder beside "
                                                 "their nearest in the gallery, which was built from the folders "
                                                 "given here", metavar="FOLDER")
    undo_sort: Path | None = flag(None, "undo --sort-into: remove the unchanged files that this sorted.csv lists",
                                  metavar=SORTED)
    search: FolderSearchOptions
    folder: FolderOptions
    cluster: RayOptions
    files: ResultOptions
    sorting: SortOptions
    tags: SidecarOptions
    maps: ExplainOptions
    network: FeatureOptions
    backend: BackendOptions
    expected: ExpectedNetwork

    @property
    def source(self) -> Path:
        """What is looked at; raises a `UserError` if no flag says it."""
        if self.input is None:
            raise UserError("--input is missing", "", "see python inference_artist.py --help")
        return self.input


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="inference_artist.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Infer; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    if flags.undo_sort:
        print(*undo_sort(flags.undo_sort, dry_run=flags.sorting.dry_run).lines(dry_run=flags.sorting.dry_run), sep="\n")
        return EXIT_DONE
    mode = MODES[flags.mode]
    check_flags(flags, mode)
    found = find_input(flags) if flags.source.is_dir() else None
    from inference.exported_predictor import open_predictor
    from inference.folder_run import Shard
    from search.engines import open_store
    flags.tags.check(found.images if found else [flags.source])
    shard, output = flags.folder.shard, choose_output(flags)
    with output_lock(Shard.parse(shard).folder(output) if shard else output):
        predictor = open_predictor(flags.network, flags.backend,
                                   uses_features=mode.writes_features or mode.needs_gallery,
                                   gallery=open_store(flags.gallery).read_space() if flags.gallery else None)
        predictor.check_expected(flags.expected)
        request = make_request(flags, mode, predictor)
        explainer = make_explainer(flags, predictor, request)
        if found:
            code = infer_folder(flags, output, predictor, request, explainer, found)
        else:
            code = infer_picture(flags, output, predictor, request, explainer)
    print_next(*choose_next(flags, mode, output, predictor.backend))
    return code


def choose_next(flags: Flags, mode: Mode, output: Path, backend: str) -> Sequence[object]:
    """The script to call next, and its flags."""
    network = network_flags(flags.network)
    if flags.folder.shard:
        return "tools/merge_shards.py", "--input", output, "--output", output
    if flags.sorting.sort_into and not flags.sorting.dry_run:
        return ("tools/make_fix_list.py", "--sorted-dir", flags.sorting.sort_into, "--source-dir", flags.source,
                "--output-csv", "fixes.csv")
    if backend != "torch":  # other commands do not take the network
        return "inference_artist.py", "--checkpoint", flags.network.checkpoint, "--input", PICTURES
    train = flags.source.parent / "train"
    is_split = flags.source.name == "val" and train.is_dir()
    if flags.gallery and is_split:
        return "tools/evaluate_retrieval.py", "--gallery", flags.gallery, "--images-dir", flags.source, *network
    if flags.gallery:
        return "tools/build_gallery.py", "--gallery", flags.gallery, "--list"
    if is_split and not mode.writes_features:
        return "tools/build_gallery.py", "--images-dir", train, "--gallery", "my_gallery", *network
    if not flags.source.is_dir():
        return "inference_artist.py", "--mode", mode.name, *network, "--input", flags.source.parent
    if mode.writes_features:
        return ("tools/extract_cluster_features.py", "--features", output, "--images-dir", flags.source, "--output-dir",
                output / "clusters")
    return ("tools/extract_cluster_features.py", "--images-dir", flags.source, *network, "--output-dir",
            output / "clusters")


def choose_output(flags: Flags) -> Path:
    """The folder for the results; raises a `UserError` if it can be no folder."""
    if flags.output:
        return flags.output
    source = flags.source.resolve()
    output = Path("results", source.name if source.is_dir() else source.stem)
    check_target("--output", output, "folder")
    return output


def find_input(flags: Flags) -> PictureFolder:
    """The pictures of the input folder; prints what is passed over."""
    found = find_pictures(flags.source, exclude=flags.search.exclude, tars=True)
    named = "--sort-into" if flags.sorting.sort_into else "--sidecars" if flags.tags.sidecars else None
    if named and (packed := next(filter(find_member, found.images), None)):
        raise UserError(f"{named} with {packed}, which lies in a tar", "pictures in folders", "unpack the tar files")
    for line in found.report():
        print(line)
    if not found.images:
        raise UserError(f"no picture in {flags.source}", "at least one", "check --input")
    return found


def check_flags(flags: Flags, mode: Mode) -> None:
    """Raise a `UserError` if the flags contradict each other or the input."""
    if not flags.source.exists():
        raise UserError(f"no {flags.source}", "a picture or a folder of pictures", "check --input")
    flags.network.check_source()
    if mode.names_artists and flags.network.pretrained:
        raise UserError(f"--mode {mode.name} with --pretrained, whose network knows no artists",
                        "--mode cluster or search", "choose one of them, or train on your artists first")
    if not flags.source.is_dir() and (flags.folder.resume or flags.folder.shard):
        raise UserError(f"--resume or --shard with the single picture {flags.source}", "a folder", "check --input")
    if (flags.gallery is not None) != mode.needs_gallery:
        raise UserError(f"--mode {mode.name} with{'out' if flags.gallery is None else ''} --gallery",
                        "--mode search and --gallery together", "add or leave away one of them")
    if not flags.source.is_dir() and flags.cluster.ray:
        raise UserError(f"--ray with the single picture {flags.source}", "a folder", "check --input")
    if flags.cluster.ray_workers and not flags.cluster.ray:
        raise UserError("--ray-workers without --ray", "both", "add --ray local, or the address of a cluster")
    check_sheets(flags, mode)
    check_sorting(flags, mode)
    check_maps(flags, mode)


def check_maps(flags: Flags, mode: Mode) -> None:
    """Raise a `UserError` if class maps are asked for that the run cannot draw."""
    flags.maps.check([flags.source] if flags.source.is_dir() else [])
    if not flags.maps.explain:
        return
    if not (mode.names_artists or mode.needs_gallery):
        raise UserError(f"--explain with --mode {mode.name}", "--mode classify, both or search", "choose one of them")
    if mode.needs_gallery and not flags.neighbour_sheet:
        raise UserError("--explain with --mode search, but without --neighbour-sheet", "the folder of the gallery's "
                        "pictures, which are drawn beside", "add --neighbour-sheet FOLDER")
    if mode.needs_gallery and (flags.maps.explain_artist or flags.maps.explain_grid):
        name = "--explain-artist" if flags.maps.explain_artist else "--explain-grid"
        raise UserError(f"{name} with --mode search", "--mode classify or both", f"leave {name} away")


def check_sorting(flags: Flags, mode: Mode) -> None:
    """Raise a `UserError` if the pictures cannot be sorted or tagged as the flags say."""
    folder, useful = flags.sorting.sort_into, mode.names_artists or mode.needs_gallery
    if (folder or flags.tags.sidecars) and (flags.folder.shard or not useful):
        name = "--sort-into" if folder else "--sidecars"
        raise UserError(f"{name} with {'--shard' if useful else f'--mode {mode.name}'}",
                        "--mode classify, both or search, without --shard", f"leave {name} away")
    if folder and not flags.source.is_dir():
        raise UserError(f"--sort-into with the single picture {flags.source}", "a folder", "check --input")
    if folder and folder.resolve() == choose_output(flags).resolve():
        raise UserError(f"--sort-into {folder}, which is the folder for the results", "another folder",
                        "choose another folder for one of them")
    flags.sorting.check([flags.source])


def check_sheets(flags: Flags, mode: Mode) -> None:
    """Raise a `UserError` if a sheet is asked for that the run cannot draw."""
    if flags.contact_sheet and not (mode.names_artists and flags.source.is_dir()):
        raise UserError(f"--contact-sheet with --mode {mode.name} of {flags.source}",
                        "--mode classify or both, of a folder", "leave --contact-sheet away")
    if flags.neighbour_sheet and not mode.needs_gallery:
        raise UserError(f"--neighbour-sheet with --mode {mode.name}", "--mode search", "leave --neighbour-sheet away")
    if missing := [folder for folder in flags.neighbour_sheet if not folder.is_dir()]:
        raise UserError(f"no folder {missing[0]}", "the folder that the gallery was built from",
                        "check --neighbour-sheet")
    if flags.folder.shard and (flags.contact_sheet or flags.neighbour_sheet):
        sheet = "--contact-sheet" if flags.contact_sheet else "--neighbour-sheet"
        raise UserError(f"{sheet} with --shard", "one of them: a shard does not see the whole folder",
                        f"leave {sheet} away")


def make_request(flags: Flags, mode: Mode, predictor: Predictor) -> InferenceRequest:
    """The request of the flags, checked against the network.

    Raises:
        UserError: the network cannot name artists, or calibration or gallery are of another network.
    """
    from evaluation.gallery_verdicts import read_verdicts
    from search.engines import open_store
    checkpoint = flags.network.checkpoint
    if mode.names_artists and checkpoint:
        predictor.check_task("classification", checkpoint)
        if predictor.classes is None:
            raise UserError(f"{checkpoint}, which does not name its artists", "a class mapping",
                            "add --class-csv OUTPUT_DIR/class_mapping.csv of its training, or use --mode cluster")
    calibration = search = verdicts = None
    if mode.names_artists and checkpoint and flags.calibration:
        calibration = predictor.calibrate(flags.network.view)
    if flags.gallery:
        search, verdicts = open_store(flags.gallery).search(
            neighbours=flags.neighbours, space=predictor.space, exact=flags.exact,
            also=partial(read_verdicts, neighbours=flags.neighbours) if flags.calibration else lambda *_: None)
    return InferenceRequest(mode=mode, top_k=flags.top_k, threshold=flags.threshold, calibration=calibration,
                            space=predictor.space, gallery=flags.gallery, search=search, verdicts=verdicts)


def infer_picture(flags: Flags, output: Path, predictor: Predictor, request: InferenceRequest,
                  explainer: Explain | None) -> int:
    """Write and print the record of a single picture; the exit code."""
    from inference.prediction_sheet import write_prediction_sheet
    from inference.records import Summary, format_record, make_entries, print_outcome, write_single
    from inference.tally import KnownArtists
    from search.gallery import find_images
    (_, record), = make_entries(predictor.predict([flags.source], flags.network), flags.source.parent, request)
    path = write_single(flags.source, record, output, flags.files)
    if flags.neighbour_sheet and request.search:
        known = KnownArtists(flags.source.parent, request.search.gallery.sizes)
        write_prediction_sheet(path.with_suffix(".png"), [(as_text(flags.source.name), record)], Summary(pictures=1),
                               folder=flags.source.parent, known=known, gallery=find_images(flags.neighbour_sheet))
    for line in format_record(record):
        print(line)
    names = request.search.gallery.sizes if request.search else predictor.classes or ()
    entries = [(as_text(flags.source.name), record)]
    filed = max(file_answers(flags, output, entries, names), explain_answers(flags, predictor, explainer, entries, 1))
    usual = f"{flags.source.stem}_result{path.suffix}"
    if path.name != usual:
        print(f"the result is in {path.name}: {usual} is of another picture, or too long a name")
    return max(filed, print_outcome(1, [(flags.source, record["error"])] if "error" in record else [], path.parent))


def infer_folder(flags: Flags, output: Path, predictor: Predictor, request: InferenceRequest,
                 explainer: Explain | None, found: PictureFolder) -> int:
    """Write the results of a folder, or the journal of a shard; the exit code."""
    from inference.folder_run import run_folder
    from inference.prediction_sheet import write_prediction_sheet
    from inference.records import (
        NEIGHBOURS_SHEET,
        SHEET,
        Summary,
        find_earlier_results,
        print_outcome,
        write_results,
    )
    from inference.tally import KnownArtists
    from search.gallery import find_images
    timer, started = time.monotonic(), time.time()
    journal = run_folder(predictor, found.images, flags.source, output, request, options=flags.folder,
                         network=flags.network, workers=make_workers(flags, predictor, request))
    artists = request.search.gallery.sizes if request.search else predictor.classes or ()
    known = KnownArtists(flags.source, artists)
    filed = EXIT_DONE
    if flags.folder.shard:
        summary, output = Summary.of([journal], known), journal.folder
    else:
        summary = write_results([journal], output, flags.files, request.mode, known)
        if flags.contact_sheet or flags.neighbour_sheet:
            write_prediction_sheet(output / (SHEET if flags.contact_sheet else NEIGHBOURS_SHEET), journal.entries(),
                                   summary, folder=flags.source, known=known,
                                   gallery=find_images(flags.neighbour_sheet) if flags.neighbour_sheet else None)
        filed = file_answers(flags, output, journal.entries(), artists)
    filed = max(filed, explain_answers(flags, predictor, explainer, journal.entries(), summary.pictures))
    if not flags.folder.shard:
        journal.remove()
        if earlier := find_earlier_results(output, started):
            print(f"from an earlier run, with another --mode or format: {', '.join(earlier)}")
    for line in summary.tally.lines():
        print(line)
    return max(filed, print_outcome(summary.pictures, summary.failures, output, folders=found.unreadable,
                                    how=f" in {time.monotonic() - timer:.1f} s"))


def make_workers(flags: Flags, predictor: Predictor, request: InferenceRequest) -> RayPredictor | None:
    """The workers that answer in place of `predictor` where the flags name a cluster."""
    if not flags.cluster.ray:
        return None
    from inference.ray_workers import RayPredictor
    return RayPredictor(flags.cluster, predictor, flags.network, flags.backend, calibrated=bool(request.calibration),
                        uses_features=request.mode.writes_features or request.mode.needs_gallery,
                        space=request.search.gallery.space if request.search else None)


def file_answers(flags: Flags, output: Path, entries: Iterable[Entry], artists: Collection[str]) -> int:
    """Sort and tag the pictures of records where the flags say so; 3 if that failed for some, else 0."""
    if not (flags.sorting.sort_into or flags.tags.sidecars):
        return EXIT_DONE
    from inference.filing import file_pictures
    from inference.tally import name_pictures
    root = flags.source if flags.source.is_dir() else flags.source.parent
    tagged = [*name_pictures(entries, root)]
    places = {picture: output / "sidecars" / picture.relative_to(root) for picture, _ in tagged}
    return file_pictures(tagged, artists, flags.sorting, flags.tags, places)


def make_explainer(flags: Flags, predictor: Predictor, request: InferenceRequest) -> Explain | None:
    """What draws class maps, where the flags ask for them; raises a `UserError` if the network cannot."""
    if not flags.maps.explain:
        return None
    from inference.explanations import ClassMaps, NeighbourMaps
    from search.gallery import find_images
    if request.search:
        return NeighbourMaps(predictor, request.search.gallery, find_images(flags.neighbour_sheet), flags.network)
    return ClassMaps(predictor, flags.maps, flags.network)


def explain_answers(flags: Flags, predictor: Predictor, explainer: Explain | None, entries: Iterable[Entry],
                    total: int) -> int:
    """Draw class maps of the pictures of records where there is an explainer; 3 if that failed for some, else 0."""
    if explainer is None:
        return EXIT_DONE
    from inference.explanations import write_explanations
    root = flags.source if flags.source.is_dir() else flags.source.parent
    answered = ((name, named_file(root, name), record) for name, record in entries if "error" not in record)
    return write_explanations(explainer, answered, flags.maps, predictor, total)


if __name__ == "__main__":
    sys.exit(main())
