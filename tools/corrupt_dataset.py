"""Make what pictures meet on the web of any folder of class folders: recompressed, rescaled, blurred, noisy, …

Example: python tools/corrupt_dataset.py --input-dir my_dataset/val --output-dir my_corrupted
Then: python train_artist_style.py --eval --resume my_run/model_best.pth --data-path my_corrupted/jpeg/3
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.corruptions import CORRUPTIONS, STRENGTHS, Corrupting, write_corrupted
from data.image_folder import ImageFolder
from data.images import DEFAULT_MAX_PIXELS
from data.prepare.output_folder import new_folder
from runtime.arguments import Parser, number
from runtime.logbook import progress
from utils import EXIT_DONE, EXIT_PARTIAL, command


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/corrupt_dataset.py", description=__doc__)
    add = parser.add_argument
    add("--input-dir", type=Path, required=True, help="folder with one folder of pictures per class, such as a val/")
    add("--output-dir", type=Path, required=True, help="folder to make, with <kind>/<strength>/val/<class>/ in it; an "
                                                       "earlier output is replaced after a question")
    add("--kinds", nargs="+", choices=list(CORRUPTIONS), default=list(CORRUPTIONS), metavar="KIND",
        help=f"which of {', '.join(CORRUPTIONS)} (default: all)")
    add("--short-side", type=number(int, at_least=1), default=256, metavar="PX",
        help="larger pictures are reduced to this short side first, px (default: 256)")
    add("--seed", type=number(int, at_least=0), default=0,
        help="with a picture's name it decides the noise and the direction (default: 0)")
    add("--workers", type=number(int, at_least=0), default=os.cpu_count() or 1,
        help="processes that work; 0 works in this one (default: one per processor)")
    add("--max-pixels", type=number(int, at_least=1), default=DEFAULT_MAX_PIXELS,
        help=f"pictures whose header claims more count as damaged (default: {DEFAULT_MAX_PIXELS})")
    add("--overwrite", action="store_true", help="replace an earlier output without asking")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Write the pictures; 0, or 3 when some could not be read."""
    arguments = build_parser().parse_args(argv)
    pictures = ImageFolder(arguments.input_dir, transform=None)
    how = Corrupting(kinds=arguments.kinds, short_side=arguments.short_side, seed=arguments.seed,
                     max_pixels=arguments.max_pixels)
    with new_folder(arguments.output_dir, made_by="corrupt_dataset.py", overwrite=arguments.overwrite,
                    sources=[arguments.input_dir]) as folder:
        failures = write_corrupted(folder, pictures, how, workers=arguments.workers, progress=progress)
    for name, reason in failures.items():
        print(f"left out: {name} ({reason})", file=sys.stderr)
    print(f"{len(pictures) - len(failures)} pictures in {len(how.kinds)} x {len(STRENGTHS)} forms are in "
          f"{arguments.output_dir}, such as {arguments.output_dir / how.kinds[0] / '1'}")
    return EXIT_PARTIAL if failures else EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
