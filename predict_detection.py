"""Find objects in pictures: boxes or masks for COCO and LabelMe, drawings, and cut-outs to name the artist of.

Example: python predict_detection.py --checkpoint my_detector/model_best.pth --inputs pages --output found.json
--crop-to my_crops
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from data.names import as_text
from data.output_folder import check_apart, new_folder, output_lock
from data.picture_files import Inputs, expand_inputs
from detection.options import DenseInferenceOptions, ObjectFiles
from runtime.arguments import Parser, flag
from runtime.next_step import CHECKPOINT, print_next
from runtime.options import FolderSearchOptions
from runtime.progress import progress
from utils import UserError, command, counted

if TYPE_CHECKING:
    from detection.results import Names


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to look at."""

    inputs: tuple[str, ...] = flag(MISSING, "pictures, folders, which are searched with their sub-folders, and "
                                            "@list.txt for a text file with one path a line", metavar="PATH")
    output: Path = flag(MISSING, "file for COCO's results (JSON); NAME_images.json beside it lists pictures and "
                                 "categories", writes="file")
    ann: Path | None = flag(None, "annotations in COCO's format: look at the pictures that they list, below the one "
                                  "folder of --inputs, and use their numbers of pictures and categories",
                            metavar="FILE", common=True)
    files: ObjectFiles
    search: FolderSearchOptions
    network: DenseInferenceOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="predict_detection.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Find objects; 0, or 3 when some pictures or folders could not be read."""
    flags = build_parser().read(argv)
    found, files = expand_inputs(flags.inputs, recursive=True, exclude=flags.search.exclude), flags.files
    check_flags(flags, found)
    from detection.predictor import DensePredictor
    from detection.results import write_objects
    from inference.records import print_outcome
    predictor = DensePredictor(flags.network, ("boxes", "instances"))
    if unknown := [name for name in files.categories if name not in predictor.classes]:
        raise UserError(f"--categories {unknown[0]}", f"one of {', '.join(predictor.classes)}", "correct it")
    names = name_pictures(flags, found, predictor.classes)
    pictures = list(names.pictures)
    with contextlib.ExitStack() as held:
        held.enter_context(output_lock(*(path for path in (flags.output, files.draw, files.labelme) if path)))
        crops = held.enter_context(new_folder(files.crop_to, made_by="predict_detection.py", overwrite=files.overwrite,
                                              sources=sources(found))) if files.crop_to else None
        answers = progress(predictor.predict(pictures, flags.network), len(pictures))
        outcome = write_objects(answers, flags.output, crops, names, files, max_pixels=flags.network.max_pixels)
    counts = ", ".join(f"{count} {as_text(name)}" for name, count in outcome.counts.most_common())
    print(f"{counted(outcome.counts.total(), 'object')}{f': {counts}' if counts else ''}")
    if files.crop_to:
        print(f"{counted(outcome.crops, 'cut-out')} in {files.crop_to}")
    code = print_outcome(len(pictures), outcome.failures, flags.output,
                         folders=[each for folder in found.folders for each in folder.unreadable])
    print_next(*choose_next(flags))
    return code


def choose_next(flags: Flags) -> Sequence[object]:
    """The script to call next, and its flags."""
    if flags.files.crop_to:
        return "inference_artist.py", "--checkpoint", CHECKPOINT, "--input", flags.files.crop_to
    return ("predict_detection.py", "--checkpoint", flags.network.checkpoint, "--inputs", *flags.inputs, "--output",
            flags.output, "--crop-to", "my_crops")


def check_flags(flags: Flags, found: Inputs) -> None:
    """Print what is passed over; raise a `UserError` if there is no picture, or the flags contradict each other."""
    for line in [line for folder in found.folders for line in folder.report()]:
        print(line)
    if not found.images:
        raise UserError(f"no picture in {' '.join(flags.inputs)}", "at least one", "check --inputs")
    if flags.ann and (len(found.folders) != 1 or len(found.images) != len(found.folders[0].images)):
        raise UserError(f"--ann with --inputs {' '.join(flags.inputs)}", "one folder, which its file names start from",
                        "correct --inputs")
    if flags.files.crop_padding and not flags.files.crop_to:
        raise UserError("--crop-padding without --crop-to", "both", "add --crop-to FOLDER")
    for folder in (flags.files.draw, flags.files.labelme, flags.files.crop_to):
        if folder:
            check_apart(folder, sources(found))


def sources(found: Inputs) -> list[Path]:
    """The folders that pictures come from."""
    return [folder.root for folder in found.folders]


def name_pictures(flags: Flags, found: Inputs, classes: Sequence[str]) -> Names:
    """What pictures and categories are called, by --ann or by their places and order; prints what --ann leaves out.

    Raises:
        UserError: two pictures would have one name, or see `read_coco`.
    """
    from detection.coco import read_coco
    from detection.results import Names
    from inference.filing import place_pictures
    if flags.ann:
        root = found.folders[0].root
        coco = read_coco(flags.ann, root, classes=classes)
        print(*coco.notes, sep="\n", end="\n" * bool(coco.notes))
        return Names(pictures={root / each.name: PurePosixPath(each.name) for each in coco.pictures},
                     image_ids={root / each.name: each.id for each in coco.pictures}, classes=classes,
                     category_ids=coco.category_ids)
    places = place_pictures(found, Path(), "results", "look at them one after the other")
    return Names(pictures={path: PurePosixPath(place.as_posix()) for path, place in places.items()},
                 image_ids={path: number for number, path in enumerate(places, 1)}, classes=classes,
                 category_ids=range(1, len(classes) + 1))


if __name__ == "__main__":
    sys.exit(main())
