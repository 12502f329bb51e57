"""Build a gallery of known artists from their pictures, add and remove artists without training, and export it.

Example: python tools/build_gallery.py --images-dir my_pictures --checkpoint my_run/model_best.pth --gallery my_gallery
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import list_images
from inference.predictor import Failure, Predictor
from inference.records import extract_features, tell_failures
from runtime.arguments import Parser, add_options, flag, read_options
from runtime.logbook import progress
from runtime.options import InferenceOptions
from search.gallery import Gallery, export_gallery, read_gallery, write_gallery
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, command


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with the gallery: one of --images-dir, --add, --remove and --export."""

    gallery: Path = flag(MISSING, "folder of the gallery", writes="folder")
    images_dir: Path | None = flag(None, "build it from this folder, which holds one folder of pictures per artist")
    add: Path | None = flag(None, "add such a folder, or the folder of one artist; pictures of the same name are "
                                  "replaced")
    remove: str | None = flag(None, "remove this artist")
    export: Path | None = flag(None, "write vectors.npy, of length 1, and vectors.csv to this folder, for other stores",
                               writes="folder")
    overwrite: bool = flag(False, "replace an earlier gallery without asking")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/build_gallery.py", description=__doc__)
    add_options(parser, Options)
    add_options(parser, InferenceOptions, checkpoint=None)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Build or change a gallery; 0, or 3 when some pictures could not be read."""
    arguments = build_parser().parse_args(argv)
    options, network = read_options(arguments, Options), read_options(arguments, InferenceOptions)
    given = [name for name in ("images_dir", "add", "remove", "export") if getattr(options, name) is not None]
    if len(given) != 1:
        raise UserError(f"{len(given)} of --images-dir, --add, --remove and --export", "one of them", "give one")
    failures: list[Failure] = []
    if options.export:
        export_gallery(read_gallery(options.gallery), options.export)
        print(f"vectors.npy and vectors.csv are in {options.export}")
        return EXIT_DONE
    if options.remove is not None:
        gallery = read_gallery(options.gallery).without(options.remove)
    elif options.add:
        predictor = open_predictor(network)
        read_gallery(options.gallery, predictor.fingerprint)
        added, failures = extract(options.add, predictor, network)
        gallery = read_gallery(options.gallery, predictor.fingerprint).with_pictures(added)
    else:
        gallery, failures = extract(options.images_dir, open_predictor(network), network)
    write_gallery(options.gallery, gallery, overwrite=options.overwrite or not options.images_dir,
                  sources=[folder for folder in (options.images_dir, options.add) if folder])
    tell_failures(failures)
    print(f"{len(gallery.images)} pictures by {len(gallery.sizes)} artists are in {options.gallery}")
    return EXIT_PARTIAL if failures else EXIT_DONE


def open_predictor(network: InferenceOptions) -> Predictor:
    """The network that looks at the pictures."""
    if network.checkpoint is None:
        raise UserError("no --checkpoint", "the model that looks at the pictures", "add --checkpoint")
    return Predictor.from_options(network)


def extract(folder: Path, predictor: Predictor, network: InferenceOptions) -> tuple[Gallery, list[Failure]]:
    """The pictures of `folder` as a gallery, and those that could not be read."""
    pictures = list_images(folder)
    names, features, failures = extract_features(progress(predictor.answer(pictures, network), len(pictures)), folder)
    return Gallery.of_folder(predictor.fingerprint, folder, names, features), failures


if __name__ == "__main__":
    sys.exit(main())
