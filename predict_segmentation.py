"""Name the class of each pixel of pictures: a label map for each, and drawings.

Example: python predict_segmentation.py --checkpoint my_segmenter/model_best.pth --inputs pages --output my_maps
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path, PurePosixPath

from data.names import as_text
from data.output_folder import check_apart, output_lock
from data.picture_files import expand_inputs
from detection.options import DenseInferenceOptions
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import FolderSearchOptions
from runtime.progress import progress
from utils import UserError, command


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to look at."""

    inputs: tuple[str, ...] = flag(MISSING, "pictures, folders, which are searched with their sub-folders, and "
                                            "@list.txt for a text file with one path a line", metavar="PATH")
    output: Path = flag(MISSING, "folder for the label maps, PNGs called like the pictures, and classes.txt",
                        writes="folder")
    draw: Path | None = flag(None, "draw a PNG of each picture here, with its classes in colours", writes="folder",
                             common=True)
    reduce_zero_label: bool | None = flag(None, "number the classes from 1 in the label maps, as in ADE20K, or without "
                                                "it from 0 (default: as the training set did; from 1 where a folder as "
                                                "--checkpoint does not say)", common=True)
    search: FolderSearchOptions
    network: DenseInferenceOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="predict_segmentation.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Write label maps; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    found = expand_inputs(flags.inputs, recursive=True, exclude=flags.search.exclude)
    for line in [line for folder in found.folders for line in folder.report()]:
        print(line)
    if not found.images:
        raise UserError(f"no picture in {' '.join(flags.inputs)}", "at least one", "check --inputs")
    folders = [folder for folder in (flags.output, flags.draw) if folder]
    for folder in folders:
        check_apart(folder, [each.root for each in found.folders])
    if flags.draw and flags.draw.resolve() == flags.output.resolve():
        raise UserError(f"--draw {flags.draw}, which is the folder for the label maps", "another folder",
                        "choose another folder for one of them")
    from detection.predictor import DensePredictor
    from detection.results import Names, write_regions
    from inference.filing import place_pictures
    from inference.records import print_outcome
    predictor = DensePredictor(flags.network, ("semantic",))
    places = place_pictures(found, Path(), "label maps", "look at them one after the other")
    names = Names(pictures={path: PurePosixPath(place.as_posix()) for path, place in places.items()}, image_ids={},
                  classes=predictor.classes, category_ids=())
    saved = predictor.options.get("reduce_zero_label", True)
    with output_lock(*folders):
        answers = progress(predictor.predict(list(places), flags.network), len(places))
        outcome = write_regions(answers, flags.output, flags.draw, names, max_pixels=flags.network.max_pixels,
                                shift=bool(saved) if flags.reduce_zero_label is None else flags.reduce_zero_label)
    total = max(1, outcome.counts.total())
    for name, pixels in outcome.counts.most_common():
        print(f"{pixels / total:7.2%}  {as_text(name)}")
    code = print_outcome(len(places), outcome.failures, flags.output,
                         folders=[each for folder in found.folders for each in folder.unreadable])
    print_next("predict_segmentation.py", "--checkpoint", flags.network.checkpoint, "--inputs", *flags.inputs,
               "--output", flags.output, "--draw", "my_drawings")
    return code


if __name__ == "__main__":
    sys.exit(main())
