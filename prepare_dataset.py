"""Split folders of artists' pictures into a data set for training: train/, val/, class_mapping.csv and what was done.

Example: python prepare_dataset.py --source-dir raw_artists --output-dir artist_dataset --val-ratio 0.2 --min-images 10
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from data.class_mapping import read_artist_map
from data.images import DEFAULT_MAX_PIXELS, IMAGE_EXTENSIONS, list_images
from data.prepare.artist_folders import list_artists
from data.prepare.dataset import Placing, plan_split, write_dataset
from data.prepare.output_folder import new_folder
from data.prepare.splits import Split, SplitRule
from runtime.arguments import Parser, number
from runtime.progress import announced
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, UserError, command

_LINES_SHOWN = 40


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="prepare_dataset.py", description=__doc__)
    add = parser.add_argument
    add("--source-dir", type=Path, required=True, help="folder with one folder of pictures per artist")
    add("--output-dir", type=Path, required=True, help="folder to make; an earlier output is replaced after a question")
    add("--val-ratio", type=number(float, above=0, below=1), default=0.2,
        help="share of each artist's pictures that validates (default: 0.2)")
    add("--min-images", type=number(int, at_least=1), default=10,
        help="artists with fewer usable pictures are left out (default: 10)")
    add("--seed", type=number(int, at_least=0), default=0,
        help="the same seed gives the same split on every machine (default: 0)")
    method = parser.add_mutually_exclusive_group()
    method.add_argument("--symlink", dest="method", action="store_const", const="symlink", default="copy",
                        help="symbolic links to the source files instead of copies")
    method.add_argument("--hardlink", dest="method", action="store_const", const="hardlink",
                        help="hard links instead of copies (source and output on one drive)")
    add("--overwrite", action="store_true", help="replace an earlier output without asking")
    add("--resize", type=number(int, at_least=1), metavar="N",
        help="write copies with the short side reduced to N px (never enlarged), so that training reads less")
    add("--workers", type=number(int, at_least=0), default=os.cpu_count() or 1,
        help="processes that check, reduce and copy; 0 works in this one (default: one per processor)")
    add("--image-extensions", nargs="+", default=sorted(IMAGE_EXTENSIONS), metavar="EXT",
        help=f"extensions that count as pictures, in any case (default: {' '.join(sorted(IMAGE_EXTENSIONS))})")
    add("--artist-map", type=Path, metavar="CSV",
        help="CSV with the columns folder,artist: renames, merges several folders, leaves out where artist is empty")
    add("--max-pixels", type=number(int, at_least=1), default=DEFAULT_MAX_PIXELS,
        help=f"pictures whose header claims more count as damaged (default: {DEFAULT_MAX_PIXELS})")
    return parser


def read_extensions(words: Sequence[str]) -> set[str]:
    """Extensions in lower case with a dot, from words that may lack it or hold several with commas between."""
    extensions = {"." + part.strip().lower().removeprefix(".") for word in words for part in word.split(",")}
    unknown = sorted(extensions - IMAGE_EXTENSIONS)
    if unknown:
        raise UserError(f"--image-extensions {unknown[0]}", "some of " + " ".join(sorted(IMAGE_EXTENSIONS)),
                        "leave it out, or convert these pictures")
    return extensions


@command
def main(argv: list[str] | None = None) -> int:
    """Make the data set; the exit code."""
    arguments = build_parser().parse_args(argv)
    source, workers = arguments.source_dir, arguments.workers
    placing = Placing(method=arguments.method, short_side=arguments.resize, max_pixels=arguments.max_pixels)
    if placing.short_side and placing.method != "copy":
        raise UserError(f"--resize with --{placing.method}", "one of them (a link cannot be smaller than its file)",
                        "leave one out")
    rule = SplitRule(val_ratio=arguments.val_ratio, min_images=arguments.min_images, seed=arguments.seed)
    extensions = read_extensions(arguments.image_extensions)
    artist_map = read_artist_map(arguments.artist_map) if arguments.artist_map else {}
    artists = list_artists(source, artist_map=artist_map, extensions=extensions)
    with new_folder(arguments.output_dir, made_by="prepare_dataset.py", overwrite=arguments.overwrite,
                    sources=[source]) as folder:
        split = plan_split(source, artists, rule, max_pixels=placing.max_pixels, workers=workers, progress=announced)
        show_left_out(source, split, extensions)
        if not split.train:
            raise UserError(f"no artist with at least {rule.min_images} usable pictures in {source}",
                            "one at the least", "add pictures or lower --min-images")
        write_dataset(folder, source, split, placing, workers=workers, progress=announced("writing"))
    show_artists(split)
    print(f"The data set is in {arguments.output_dir}")
    return EXIT_DONE


def show_left_out(source: Path, split: Split, extensions: Collection[str]) -> None:
    """Print what will not be in the data set, and why."""
    loose = len(list_images(source, recursive=False, extensions=extensions))
    if loose:
        print(f"ignored: {loose} pictures that lie in no artist's folder")
    show_some([f"in train/ of several artists: {', '.join(group)} (equal files)" for group in split.conflicts])
    show_some([f"left out: {name} (same file as {kept})" for name, kept in split.duplicates.items()])
    show_some([f"left out: {name} ({reason})" for name, reason in split.damaged.items()])
    show_some([f"left out: the artist {artist} ({count} usable pictures, fewer than {split.rule.min_images})"
               for artist, count in split.left_out.items()])


def show_artists(split: Split) -> None:
    """Print a table of the artists and their pictures, at most 80 columns wide."""
    rows = [(artist, len(train), len(split.val[artist])) for artist, train in split.train.items()]
    total = (f"{len(rows)} artists", *(sum(row[column] for row in rows) for column in (1, 2)))
    table = format_table([("artist", "train", "val"), RULE, *rows, RULE, total])
    show_some(table[:-2])
    print(*table[-2:], sep="\n")


def show_some(lines: list[str]) -> None:
    """Print `lines`, and of a long list its beginning and where to read the rest."""
    print(*lines[:_LINES_SHOWN], sep="\n", end="\n" if lines else "")
    if len(lines) > _LINES_SHOWN:
        print(f"... and {len(lines) - _LINES_SHOWN} more (dataset_info.json has them all)")


if __name__ == "__main__":
    sys.exit(main())
