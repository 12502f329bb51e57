"""Make a set to try detectors and segmenters on: shapes on textures, or pages with pictures of two artists each.

Example: python tools/make_detection_set.py --textures my_pictures --output-dir my_shapes
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import new_folder
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, UserError, command, counted, write_json


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Pictures."""

    output_dir: Path = flag(MISSING, "folder to make; an earlier output is only replaced after a question")
    textures: Path | None = flag(None, "folder of pictures, parts of which are the background of the shapes (default: "
                                       "generated noise)", metavar="FOLDER", common=True)
    pages_of: Path | None = flag(None, "instead of shapes, pages of pictures of two artists, from the train/ and val/ "
                                       "of this split; sources.json names the file that each picture shows",
                                 metavar="SPLIT", common=True)
    train: int = flag(400, "pictures to train on", at_least=1, metavar="N", common=True)
    val: int = flag(100, "pictures to validate with", at_least=1, metavar="N", common=True)
    size: int = flag(160, "longer side of a picture, px", at_least=32, at_most=4096, metavar="PX", common=True)
    seed: int = flag(0, "another seed draws other pictures", at_least=0, common=True)
    overwrite: bool = flag(False, "replace an earlier output without asking", common=True)


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/make_detection_set.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Make the set, and print what a constant answer scores on it; the exit code."""
    flags = build_parser().read(argv)
    sources = [folder for folder in (flags.textures, flags.pages_of) if folder]
    if len(sources) > 1:
        raise UserError("--textures with --pages-of", "one of them", "leave one away")
    from bench.dense_sets import SetOptions, constant_figures, write_pages, write_shapes

    options = SetOptions(train=flags.train, val=flags.val, size=flags.size, seed=flags.seed)
    with new_folder(flags.output_dir, made_by="make_detection_set.py", overwrite=flags.overwrite,
                    sources=sources) as folder:
        if flags.pages_of:
            write_json(folder / "sources.json", write_pages(folder, flags.pages_of, options))
        else:
            write_shapes(folder, flags.textures, options)
        figures = constant_figures(folder)
    print(f"{counted(flags.train, 'picture')} to train and {flags.val} to validate are in {flags.output_dir}")
    print(*format_table([("a constant answer", "box AP", "AP50", "mask AP", "AP50", "mIoU"), RULE,
                         ("of 100 boxes, or one class", *(f"{value:.2f}" for value in figures.values()))]), sep="\n")
    out = flags.output_dir
    print_next("train_detection.py", "--task", "boxes", "--data-path", out, "--train-ann", out / "train.json",
               "--train-images", out / "images" / "training", "--val-ann", out / "val.json", "--val-images",
               out / "images" / "validation", "--input-size", flags.size, "--channels", 64)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
