"""Build a gallery of known artists from their pictures, add and remove artists without training, list and export it.

Example: python tools/build_gallery.py --images-dir my_pictures --checkpoint my_run/model_best.pth --gallery my_gallery
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.names import from_text, nfc
from data.output_folder import output_lock
from data.picture_files import artist_of, find_pictures
from data.prepare.fix_list import read_fix_list, select_pictures
from runtime.arguments import Parser, check_target, flag, flag_name
from runtime.next_step import PICTURES, network_flags, print_next
from runtime.options import COMPONENTS, NEIGHBOURS, FeatureOptions, FolderSearchOptions
from runtime.text_table import RULE, format_table
from search.gallery import (
    HNSW,
    VECTOR_NAMES,
    VECTORS,
    Gallery,
    change_gallery,
    export_gallery,
    read_gallery,
    write_gallery,
)
from search.standardisation import STANDARDISATION
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, counted

if TYPE_CHECKING:
    from evaluation.calibration import Fitted

GalleryScoreChoice = Literal["auto", "probability", "neighbours", "mahalanobis", "style"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """One of --images-dir, --add, --remove, --list, --export, --calibrate, --index."""

    gallery: Path = flag(MISSING, "folder of the gallery", metavar="FOLDER")
    images_dir: Path | None = flag(None, "build it from this folder, which holds one folder of pictures per artist",
                                   common=True)
    add: Path | None = flag(None, "add such a folder, or the folder of one artist; pictures of the same name are "
                                  "replaced", common=True)
    fix_list: Path | None = flag(None, "CSV with the columns path,artist, as of tools/make_fix_list.py: whose single "
                                       "pictures of --images-dir or --add are; left out where artist is empty",
                                 metavar="CSV")
    remove: str | None = flag(None, "remove this artist", metavar="ARTIST", common=True)
    list: bool = flag(False, "print its artists, and whose features it holds", common=True)
    export: Path | None = flag(None, "write vectors.npy, of length 1, and vectors.csv to this folder for other stores, "
                                     "and standardisation.npy where the gallery has it",
                               writes="folder", common=True)
    pca: int | None = flag(None, "compare this many principal components of the standardised features (default: up to "
                                 f"{COMPONENTS}, but pooled features as they are)", at_least=1, metavar="N")
    calibrate: bool = flag(False, "alone, or with --images-dir, --add or --remove: learn from its own pictures, left "
                                  "out in turn, when a searched picture's artist is confident, possible or unknown",
                           common=True)
    index: bool = flag(False, "alone, or with --images-dir, --add or --remove: store an HNSW index, by which large "
                              "galleries are searched faster and nearly exactly (needs faiss-cpu)", common=True)
    error_rate: float = flag(0.05, "for --calibrate: most of the confident answers that may be wrong, and most of the "
                                   "known artists' pictures that may be called unknown", above=0, below=1)
    score: GalleryScoreChoice = flag(
        "auto", "for --calibrate: what tells known artists from unknown ones, the vote's share (probability), nearest "
                "neighbours, or the relative Mahalanobis distance of all features or of style features; auto compares "
                "them by leaving artists out in turn")
    overwrite: bool = flag(False, "replace an earlier gallery without asking", common=True)
    search: FolderSearchOptions
    network: FeatureOptions
    given: frozenset[str] = frozenset()


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/build_gallery.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Build or change a gallery; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    check_flags(flags)
    if flags.list:
        print(*describe(read_gallery(flags.gallery)), sep="\n")
        print_next("tools/build_gallery.py", "--gallery", flags.gallery, "--export", f"{flags.gallery}_vectors")
        return EXIT_DONE
    if flags.export:
        gallery = read_gallery(flags.gallery)
        check_export(flags.export)
        export_gallery(gallery, flags.export)
        applied = f"; {STANDARDISATION} is for features that they are compared with" if gallery.standardisation else ""
        print(f"{VECTORS} and {VECTOR_NAMES} are in {flags.export}{applied}")
        print_next("tools/compare_vectors.py", "--query-vector", flags.export / "vectors.npy", "--reference-vectors",
                   flags.export / "vectors.npy")
        return EXIT_DONE
    check_target("--gallery", flags.gallery, "folder")
    if flags.index:
        from search.hnsw import library
        library()  # missing before the work, not after it
    sizes, failures, fitted = change(flags)
    if failures:
        from inference.records import print_failures
        print_failures(failures)
    print(f"{counted(sum(sizes.values()), 'picture')} by {counted(len(sizes), 'artist')} are in {flags.gallery}")
    if flags.index:
        print(store_index(flags.gallery))
    if fitted:
        from evaluation.gallery_verdicts import format_fitted
        print(*format_fitted(fitted), sep="\n")
    if not (flags.images_dir or flags.add):
        print_next("tools/build_gallery.py", "--gallery", flags.gallery, "--list")
    else:
        folder = flags.images_dir
        is_split = folder and folder.name == "train" and folder.with_name("val").is_dir()
        print_next("inference_artist.py", "--mode", "search", "--gallery", flags.gallery, *network_flags(flags.network),
                   "--input", folder.with_name("val") if folder and is_split else PICTURES)
    return EXIT_PARTIAL if failures else EXIT_DONE


def change(flags: Flags) -> tuple[dict[str, int], list[tuple[Path, str]], Fitted | None]:
    """Build, change or calibrate the gallery.

    Returns:
        pictures of each artist, what could not be read, and the calibration if any.
    """
    if flags.images_dir:
        with output_lock(flags.gallery):
            gallery, failures = extract(flags.images_dir, flags)
            return gallery.sizes, failures, write(gallery, flags, sources=[flags.images_dir])
    added, failures = extract(flags.add, flags, read_gallery(flags.gallery)) if flags.add else (None, [])
    sources = [flags.add] if flags.add else []
    if not (added or flags.remove or flags.calibrate):
        return read_gallery(flags.gallery).sizes, failures, None
    with output_lock(flags.gallery, wait=True):  # the work is done: only now is there something to wait for
        if not flags.calibrate:
            was_calibrated = is_calibrated(flags.gallery)
            sizes = change_gallery(flags.gallery, added=added, removed=flags.remove, sources=sources)
            tell_uncalibrated(flags.gallery, was_calibrated=was_calibrated)
            return sizes, failures, None
        gallery = read_gallery(flags.gallery, added.space if added else None)
        if added:
            gallery = gallery.with_pictures(added)
        elif flags.remove:
            gallery = gallery.without(flags.remove)
        return gallery.sizes, failures, write(gallery, flags, sources=sources)


def store_index(folder: Path) -> str:
    """Make the index of the gallery in `folder`; a line that says so."""
    from search.hnsw import write_index
    start = time.monotonic()
    with output_lock(folder, wait=True):
        write_index(folder, read_gallery(folder))
    return f"{HNSW} is in {folder}, made in {time.monotonic() - start:.0f} s"


def is_calibrated(folder: Path) -> bool:
    """Whether the gallery in `folder` has a calibration."""
    from evaluation.calibration import CALIBRATION
    return (folder / CALIBRATION).exists()


def tell_uncalibrated(folder: Path, *, was_calibrated: bool) -> None:
    """Print that the calibration of a changed gallery is gone, if it had one."""
    if was_calibrated:
        print(f"the calibration of {folder} was of its earlier pictures, and is gone: no verdicts until --calibrate")


def write(gallery: Gallery, flags: Flags, sources: Sequence[Path]) -> Fitted | None:
    """Write the whole gallery, with its calibration where that is asked for, which is returned."""
    overwrite = flags.overwrite or not flags.images_dir
    if not flags.calibrate:
        was_calibrated = is_calibrated(flags.gallery)
        write_gallery(flags.gallery, gallery, overwrite=overwrite, sources=sources)
        tell_uncalibrated(flags.gallery, was_calibrated=was_calibrated)
        return None
    from evaluation.calibration import CALIBRATION
    from evaluation.gallery_verdicts import calibrate_gallery
    fitted = calibrate_gallery(gallery, NEIGHBOURS, flags.error_rate, None if flags.score == "auto" else flags.score)
    write_gallery(flags.gallery, gallery, overwrite=overwrite, sources=sources,
                  calibration=lambda folder: fitted.calibration.write(folder / CALIBRATION, fitted.figures,
                                                                      fitted.scorer))
    return fitted


def check_export(folder: Path) -> None:
    """Raise a `UserError` if `folder` holds anything but an earlier export: a gallery, say, or pictures."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / VECTOR_NAMES).is_file():
        raise UserError(f"other files in {folder}", "a new or empty folder, or that of an earlier export",
                        "name another folder for --export")


def check_flags(flags: Flags) -> None:
    """Raise a `UserError` unless the flags say one thing to do, and nothing that it does not need."""
    tasks = [name for name in ("images_dir", "add", "remove", "list", "export") if getattr(flags, name)]
    if len(tasks) != 1 and (tasks or not (flags.calibrate or flags.index)):
        raise UserError(f"{len(tasks)} of --images-dir, --add, --remove, --list and --export", "one of them, or "
                        "--calibrate or --index", "give one")
    if not flags.calibrate and (others := sorted(flags.given & {"error_rate", "score"})):
        raise UserError(f"{flag_name(others[0])} without --calibrate", "both", f"leave {flag_name(others[0])} away")
    if flags.export and (flags.calibrate or flags.index):
        raise UserError(f"--{'calibrate' if flags.calibrate else 'index'} with --export", "one of them",
                        "give one first, then the other")
    if flags.fix_list and not (flags.images_dir or flags.add):
        raise UserError("--fix-list without --images-dir or --add", "pictures that it tells of", "leave it away")
    if flags.pca and not flags.images_dir:
        raise UserError(f"--pca {flags.pca} without --images-dir", "a gallery that is built",
                        "leave it away: a gallery keeps what it was built with")
    if flags.list and (others := sorted(flags.given - {"list", "gallery"})):
        raise UserError(f"--list with {', '.join(map(flag_name, others))}", "--gallery and --list alone",
                        "leave the rest away")


def describe(gallery: Gallery) -> list[str]:
    """The lines that --list prints: how many pictures and artists, whose features, and each artist's pictures."""
    compared = f", compared by up to {gallery.components} principal components" if gallery.components else ""
    return [f"{counted(len(gallery.images), 'picture')} by {counted(len(gallery.sizes), 'artist')}",
            f"{gallery.space.feature_kind} features, {gallery.features.shape[1]} numbers each{compared}",
            f"of the network {gallery.space.model[:8]}…, which --checkpoint or --model must name", "",
            *format_table([("artist", "pictures"), RULE, *gallery.sizes.items()])]


def extract(folder: Path, flags: Flags, earlier: Gallery | None = None) -> tuple[Gallery, list[tuple[Path, str]]]:
    """The gallery of the pictures in `folder`, in the space of the `earlier` one; and what could not be read."""
    flags.network.check_source()
    from inference.predictor import Predictor
    from inference.records import extract_folder
    predictor = Predictor.from_options(flags.network, uses_features=True, gallery=earlier.space if earlier else None)
    if earlier:
        read_gallery(flags.gallery, predictor.space)  # refuse another network's gallery before the work
    pictures = find_pictures(folder, exclude=flags.search.exclude)
    fixes = read_fix_list(flags.fix_list) if flags.fix_list else {}
    pictures = select_pictures(pictures, fixes) if fixes else pictures.of_artists()
    found, failures = extract_folder(predictor, pictures, flags.network)
    gallery = Gallery.of_folder(predictor.space, folder, found.names, found.rows, flags.pca)
    if fixes:
        names = [from_text(name) for name in found.names]
        gallery = replace(gallery, artists=[fixes.get(nfc(name)) or artist_of(name) or "" for name in names])
    return gallery, failures


if __name__ == "__main__":
    sys.exit(main())
