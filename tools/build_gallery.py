"""Build a gallery of known artists from their pictures, add and remove artists without training, and export it.

Example: python tools/build_gallery.py --images-dir my_pictures --checkpoint my_run/model_best.pth --gallery my_gallery
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from data.picture_files import find_pictures
from runtime.arguments import Parser, flag
from runtime.options import COMPONENTS, FeatureOptions, FolderSearchOptions
from search.gallery import Gallery, export_gallery, read_gallery, write_gallery
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to do with the gallery: one of --images-dir, --add, --remove and --export."""

    gallery: Path = flag(MISSING, "folder of the gallery", writes="folder")
    images_dir: Path | None = flag(None, "build it from this folder, which holds one folder of pictures per artist")
    add: Path | None = flag(None, "add such a folder, or the folder of one artist; pictures of the same name are "
                                  "replaced")
    remove: str | None = flag(None, "remove this artist")
    export: Path | None = flag(None, "write vectors.npy, of length 1, and vectors.csv to this folder, for other stores",
                               writes="folder")
    pca: int | None = flag(None, "compare this many principal components of the standardised features (default: up to "
                                 f"{COMPONENTS}, but pooled features as they are)", at_least=1, metavar="N")
    overwrite: bool = flag(False, "replace an earlier gallery without asking")
    search: FolderSearchOptions
    network: FeatureOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/build_gallery.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Build or change a gallery; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    given = [name for name in ("images_dir", "add", "remove", "export") if getattr(flags, name) is not None]
    if len(given) != 1:
        raise UserError(f"{len(given)} of --images-dir, --add, --remove and --export", "one of them", "give one")
    if flags.pca and not flags.images_dir:
        raise UserError(f"--pca {flags.pca} without --images-dir", "a gallery that is built",
                        "leave it away: a gallery keeps what it was built with")
    if flags.export:
        export_gallery(read_gallery(flags.gallery), flags.export)
        print(f"vectors.npy and vectors.csv are in {flags.export}")
        return EXIT_DONE
    failures: list[tuple[Path, str]] = []
    if flags.images_dir:
        with output_lock(flags.gallery):
            gallery, failures = extract(flags.images_dir, flags)
            write_gallery(flags.gallery, gallery, overwrite=flags.overwrite, sources=[flags.images_dir])
    elif flags.add:
        earlier = read_gallery(flags.gallery)
        added, failures = extract(flags.add, flags, earlier)
        with output_lock(flags.gallery, wait=True):  # the work is done: only now is there something to wait for
            gallery = read_gallery(flags.gallery, added.space).with_pictures(added)
            write_gallery(flags.gallery, gallery, overwrite=True, sources=[flags.add])
    else:
        with output_lock(flags.gallery, wait=True):
            gallery = read_gallery(flags.gallery).without(flags.remove or "")
            write_gallery(flags.gallery, gallery, overwrite=True)
    if failures:
        from inference.records import print_failures
        print_failures(failures)
    print(f"{len(gallery.images)} pictures by {len(gallery.sizes)} artists are in {flags.gallery}")
    return EXIT_PARTIAL if failures else EXIT_DONE


def extract(folder: Path, flags: Flags, earlier: Gallery | None = None) -> tuple[Gallery, list[tuple[Path, str]]]:
    """The gallery of the pictures in `folder`, in the space of the `earlier` one; and what could not be read."""
    flags.network.check_source()
    from inference.predictor import Predictor
    from inference.records import extract_folder
    predictor = Predictor.from_options(flags.network, uses_features=True, gallery=earlier.space if earlier else None)
    if earlier:
        read_gallery(flags.gallery, predictor.space)  # refuse another network's gallery before the work
    pictures = find_pictures(folder, exclude=flags.search.exclude).of_artists()
    found, failures = extract_folder(predictor, pictures, flags.network)
    return Gallery.of_folder(predictor.space, folder, found.names, found.rows, flags.pca), failures


if __name__ == "__main__":
    sys.exit(main())
