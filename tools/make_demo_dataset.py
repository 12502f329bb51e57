"""Draw the pictures of a few generated artists, one folder each or mixed: something to try the toolkit on.

Example: python tools/make_demo_dataset.py --output-dir demo_artists
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.demo.artists import ARTISTS, write_demo_artists, write_demo_blends
from data.prepare.output_folder import new_folder
from runtime.arguments import Parser, number
from utils import EXIT_DONE, command


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/make_demo_dataset.py", description=__doc__)
    add = parser.add_argument
    add("--output-dir", type=Path, required=True, help="folder to make; an earlier output is replaced after a question")
    add("--artists", type=number(int, at_least=1, at_most=len(ARTISTS)), default=6, metavar="N",
        help=f"artists, 1 to {len(ARTISTS)} (default: 6)")
    add("--images-per-artist", type=number(int, at_least=1), default=100, metavar="N",
        help="pictures of each (default: 100)")
    add("--size", type=number(int, at_least=16, at_most=4096), default=128, metavar="PX",
        help="side of the square pictures, px (default: 128)")
    add("--seed", type=number(int, at_least=0), default=0, help="another seed draws other pictures (default: 0)")
    add("--blend", action="store_true", help="as many pictures in one folder, each by one to three artists in areas of "
                                             "known shares, which a .txt beside it names")
    add("--overwrite", action="store_true", help="replace an earlier output without asking")
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Draw the pictures; the exit code."""
    arguments = build_parser().parse_args(argv)
    pictures = arguments.artists * arguments.images_per_artist
    with new_folder(arguments.output_dir, made_by="make_demo_dataset.py", overwrite=arguments.overwrite) as folder:
        if arguments.blend:
            write_demo_blends(folder, artists=arguments.artists, pictures=pictures, size=arguments.size,
                              seed=arguments.seed)
        else:
            write_demo_artists(folder, artists=arguments.artists, pictures_per_artist=arguments.images_per_artist,
                               size=arguments.size, seed=arguments.seed)
    print(f"{pictures} pictures by {arguments.artists} artists are in {arguments.output_dir}")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
