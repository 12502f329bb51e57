"""Draw the pictures of a few generated artists, one folder each or mixed: something to try the toolkit on.

Example: python tools/make_demo_dataset.py --output-dir my_pictures
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.demo.artists import ARTISTS, write_demo_artists, write_demo_blends
from data.output_folder import new_folder
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from utils import EXIT_DONE, command, counted


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Pictures."""

    output_dir: Path = flag(MISSING, "folder to make; an earlier output is only replaced after a question")
    artists: int = flag(6, f"artists, 1 to {len(ARTISTS)}", at_least=1, at_most=len(ARTISTS), metavar="N", common=True)
    images_per_artist: int = flag(100, "pictures of each", at_least=1, metavar="N", common=True)
    size: int = flag(128, "side of the square pictures, px", at_least=16, at_most=4096, metavar="PX", common=True)
    seed: int = flag(0, "another seed draws other pictures", at_least=0, common=True)
    blend: bool = flag(False, "draw the same number of pictures in one folder, each by one to three artists in areas "
                              "of known shares, with a .txt beside each that names them", common=True)
    overwrite: bool = flag(False, "replace an earlier output without asking", common=True)


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/make_demo_dataset.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Draw the pictures; the exit code."""
    flags = build_parser().read(argv)
    pictures = flags.artists * flags.images_per_artist
    with new_folder(flags.output_dir, made_by="make_demo_dataset.py", overwrite=flags.overwrite) as folder:
        if flags.blend:
            write_demo_blends(folder, artists=flags.artists, pictures=pictures, size=flags.size, seed=flags.seed)
        else:
            write_demo_artists(folder, artists=flags.artists, pictures_per_artist=flags.images_per_artist,
                               size=flags.size, seed=flags.seed)
    print(f"{counted(pictures, 'picture')} by {counted(flags.artists, 'artist')} are in {flags.output_dir}")
    if flags.blend:
        print_next("tools/split_multilabel_dataset.py", "--input-dir", flags.output_dir, "--train-csv", "train.csv",
                   "--val-csv", "val.csv")
    else:
        print_next("train_artist_style.py", "--data-path", flags.output_dir, "--pretrained", "--linear-probe")
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
