"""Build a gallery of known artists from their pictures, add and remove artists without training, list and copy it.

Example: python tools/build_gallery.py --images-dir my_pictures --checkpoint my_run/model_best.pth --gallery my_gallery
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.names import from_text, nfc
from data.picture_files import artist_of, find_pictures
from data.prepare.fix_list import read_fix_list, select_pictures
from runtime.arguments import Parser, flag, flag_name
from runtime.next_step import PICTURES, network_flags, print_next
from runtime.options import COMPONENTS, NEIGHBOURS, FeatureOptions, FolderSearchOptions
from runtime.text_table import RULE, format_table
from search.engines import is_folder, open_store
from search.gallery import HNSW, VECTOR_NAMES, VECTORS, Gallery, GalleryOutline, export_gallery
from search.gallery_store import GalleryStore, write_files
from search.standardisation import STANDARDISATION
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command, counted

if TYPE_CHECKING:
    from evaluation.calibration import Fitted

GalleryScoreChoice = Literal["auto", "probability", "neighbours", "mahalanobis", "style", "combined"]


@dataclass(frozen=True, kw_only=True)
class Flags:
    """One thing to do with a gallery."""

    gallery: str = flag(MISSING, "folder of the gallery, or milvus:URI of a server (http://HOST:PORT) or a Milvus Lite "
                                 "file (NAME.db), with #NAME behind it for more than one gallery there",
                        metavar="PLACE")
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
    copy_to: str | None = flag(None, "copy the gallery, with its calibration, to this folder or milvus:URI",
                               metavar="PLACE")
    copy_from: str | None = flag(None, "make the gallery a copy of the one in this folder or milvus:URI",
                                 metavar="PLACE")
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
                "neighbours, the relative Mahalanobis distance of all features or of style features, or both combined; "
                "auto compares them by leaving artists out in turn")
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
    store = open_store(flags.gallery)
    if flags.list:
        print(*describe(store.read_outline()), sep="\n")
        print_next("tools/build_gallery.py", "--gallery", flags.gallery, "--export", "my_vectors")
        return EXIT_DONE
    if flags.export:
        return export(store, flags.export)
    if flags.copy_to or flags.copy_from:
        source, target = (store, open_store(flags.copy_to)) if flags.copy_to else (
            open_store(flags.copy_from or ""), store)
        return copy(source, target, overwrite=flags.overwrite)
    store.check_place()
    if flags.index:
        from search.hnsw import library
        library()  # missing before the work, not after it
    sizes, failures, fitted = change(flags, store)
    if failures:
        from inference.records import print_failures
        print_failures(failures)
    print(f"{counted(sum(sizes.values()), 'picture')} by {counted(len(sizes), 'artist')} are in {flags.gallery}")
    if flags.index:
        start = time.monotonic()
        graph = store.write_index()
        print(f"{HNSW} is in {flags.gallery}, made in {time.monotonic() - start:.0f} s: a search weighs "
              f"{graph.visited} pictures and finds {graph.recall:.1%} of the ten nearest")
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


def export(store: GalleryStore, folder: Path) -> int:
    """Write the vectors of a gallery for other stores; the exit code."""
    gallery = store.read()
    check_export(folder)
    export_gallery(gallery, folder)
    applied = f"; {STANDARDISATION} is for features that they are compared with" if gallery.standardisation else ""
    print(f"{VECTORS} and {VECTOR_NAMES} are in {folder}{applied}")
    print_next("tools/compare_vectors.py", "--query-vector", folder / "vectors.npy", "--reference-vectors",
               folder / "vectors.npy")
    return EXIT_DONE


def copy(source: GalleryStore, target: GalleryStore, *, overwrite: bool) -> int:
    """Copy a gallery and its calibration from one place to another; the exit code."""
    target.check_place()
    gallery, files = source.read(), source.read_calibration()
    target.write(gallery, overwrite=overwrite, calibration=partial(write_files, files=files) if files else None)
    print(f"{counted(gallery.pictures, 'picture')} by {counted(len(gallery.sizes), 'artist')} are in {target}, as in "
          f"{source}")
    print_next("tools/build_gallery.py", "--gallery", target, "--list")
    return EXIT_DONE


def change(flags: Flags, store: GalleryStore) -> tuple[Mapping[str, int], list[tuple[Path, str]], Fitted | None]:
    """Build, change or calibrate the gallery.

    Returns:
        pictures of each artist, what could not be read, and the calibration if any.
    """
    if flags.images_dir:
        with store.lock():
            gallery, failures = extract(flags.images_dir, flags)
            return gallery.sizes, failures, build(gallery, flags, store)
    if not (flags.add or flags.remove or flags.calibrate):
        return store.read_outline().sizes, [], None
    added, failures = extract(flags.add, flags, store) if flags.add else (None, [])
    sources = [flags.add] if flags.add else []
    with store.lock(wait=True):  # the work is done: only now is there something to wait for
        if not flags.calibrate:
            was_calibrated = bool(store.read_calibration())
            sizes = store.change(added=added, removed=flags.remove, sources=sources)
            tell_uncalibrated(store, was_calibrated=was_calibrated)
            return sizes, failures, None
        gallery = store.read(added.space if added else None)
        if added:
            gallery = gallery.with_pictures(added)
        elif flags.remove:
            gallery = gallery.without(flags.remove)
        fitted = fit(gallery, flags)
        store.calibrate(gallery, fitted.write, added=added, removed=flags.remove, sources=sources)
        return gallery.sizes, failures, fitted


def tell_uncalibrated(store: GalleryStore, *, was_calibrated: bool) -> None:
    """Print that the calibration of a changed gallery is gone, if it had one."""
    if was_calibrated:
        print(f"the calibration of {store} was of its earlier pictures, and is gone: no verdicts until --calibrate")


def fit(gallery: Gallery, flags: Flags) -> Fitted:
    """The calibration of a gallery as the flags ask for it."""
    from evaluation.gallery_verdicts import calibrate_gallery
    return calibrate_gallery(gallery, NEIGHBOURS, flags.error_rate, None if flags.score == "auto" else flags.score)


def build(gallery: Gallery, flags: Flags, store: GalleryStore) -> Fitted | None:
    """Write the new gallery, with its calibration where that is asked for, which is returned."""
    fitted = fit(gallery, flags) if flags.calibrate else None
    was_calibrated = is_folder(flags.gallery) and bool(store.read_calibration())
    store.write(gallery, overwrite=flags.overwrite, sources=[flags.images_dir] if flags.images_dir else [],
                calibration=fitted.write if fitted else None)
    if not fitted:
        tell_uncalibrated(store, was_calibrated=was_calibrated)
    return fitted


def check_export(folder: Path) -> None:
    """Raise a `UserError` if `folder` holds anything but an earlier export: a gallery, say, or pictures."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / VECTOR_NAMES).is_file():
        raise UserError(f"other files in {folder}", "a new or empty folder, or that of an earlier export",
                        "name another folder for --export")


def check_flags(flags: Flags) -> None:
    """Raise a `UserError` unless the flags say one thing to do, and nothing that it does not need."""
    tasks = [name for name in ("images_dir", "add", "remove", "list", "export", "copy_to", "copy_from")
             if getattr(flags, name)]
    if len(tasks) != 1 and (tasks or not (flags.calibrate or flags.index)):
        raise UserError(f"{len(tasks)} of --images-dir, --add, --remove, --list, --export, --copy-to and --copy-from",
                        "one of them, or --calibrate or --index", "give one")
    check_copy(flags)
    if not flags.calibrate and (others := sorted(flags.given & {"error_rate", "score"})):
        raise UserError(f"{flag_name(others[0])} without --calibrate", "both", f"leave {flag_name(others[0])} away")
    if (flags.export or flags.copy_to or flags.copy_from) and (flags.calibrate or flags.index):
        raise UserError(f"--{'calibrate' if flags.calibrate else 'index'} with {flag_name(tasks[0])}", "one of them",
                        "give one first, then the other")
    if flags.fix_list and not (flags.images_dir or flags.add):
        raise UserError("--fix-list without --images-dir or --add", "pictures that it tells of", "leave it away")
    if flags.pca and not flags.images_dir:
        raise UserError(f"--pca {flags.pca} without --images-dir", "a gallery that is built",
                        "leave it away: a gallery keeps what it was built with")
    if flags.list and (others := sorted(flags.given - {"list", "gallery"})):
        raise UserError(f"--list with {', '.join(map(flag_name, others))}", "--gallery and --list alone",
                        "leave the rest away")


def check_copy(flags: Flags) -> None:
    """Raise a `UserError` if the flags ask for an index that Milvus has already, or copy a gallery onto itself."""
    if flags.index and not is_folder(flags.gallery):
        raise UserError(f"--index with {flags.gallery}", "a folder: Milvus keeps an index of its own",
                        "leave --index away")
    other = flags.copy_to or flags.copy_from
    if other and (other == flags.gallery or (is_folder(other) and is_folder(flags.gallery)
                                             and Path(other).resolve() == Path(flags.gallery).resolve())):
        raise UserError(f"a copy of {other} onto itself", "two places", "name another one")


def describe(gallery: GalleryOutline) -> list[str]:
    """The lines that --list prints: how many pictures and artists, whose features, and each artist's pictures."""
    compared = f", compared by up to {gallery.components} principal components" if gallery.components else ""
    return [f"{counted(gallery.pictures, 'picture')} by {counted(len(gallery.sizes), 'artist')}",
            f"{gallery.space.feature_kind} features, {gallery.feature_dim} numbers each{compared}",
            f"of the network {gallery.space.model[:8]}…, which --checkpoint or --model must name", "",
            *format_table([("artist", "pictures"), RULE, *gallery.sizes.items()])]


def extract(folder: Path, flags: Flags, earlier: GalleryStore | None = None) -> tuple[Gallery, list[tuple[Path, str]]]:
    """The gallery of the pictures in `folder`, in the space of the `earlier` one; and what could not be read."""
    flags.network.check_source()
    from inference.predictor import Predictor
    from inference.records import extract_folder
    predictor = Predictor.from_options(flags.network, uses_features=True,
                                       gallery=earlier.read_space() if earlier else None)
    if earlier:
        earlier.check_space(predictor.space)  # refuse another network's gallery before the work
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
