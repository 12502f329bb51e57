"""Split folders of artists' pictures into a data set for training: train/, val/, class_mapping.csv and what was done.

Example: python prepare_dataset.py --source-dir raw_artists --output-dir artist_dataset --val-ratio 0.2 --min-images 10
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path

from data.images import DEFAULT_MAX_PIXELS, IMAGE_EXTENSIONS
from data.output_folder import new_folder
from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists, read_artist_map
from data.prepare.dataset import CopySettings, Method, plan_split, write_dataset
from data.prepare.groups import check_group_names, read_groups
from data.prepare.splits import Split, SplitRule
from runtime.arguments import Parser, flag
from runtime.options import FolderSearchOptions
from runtime.progress import announced
from runtime.text_table import RULE, format_table
from utils import EXIT_DONE, UserError, command

_LINES_SHOWN = 40


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Data set."""

    source_dir: Path = flag(MISSING, "folder with one folder of pictures per artist")
    output_dir: Path = flag(MISSING, "folder to make; an earlier output is replaced after a question")
    val_ratio: float = flag(0.2, "share of each artist's pictures that validates", above=0, below=1)
    min_images: int = flag(10, "artists with fewer usable pictures are left out", at_least=1)
    seed: int = flag(0, "the same seed gives the same split on every machine", at_least=0)
    symlink: bool = flag(False, "symbolic links to the source files instead of copies")
    hardlink: bool = flag(False, "hard links instead of copies (source and output on one drive)")
    overwrite: bool = flag(False, "replace an earlier output without asking")
    resize: int | None = flag(None, "write copies with the short side reduced to N px (never enlarged), so that "
                                    "training reads less", at_least=1, metavar="N")
    workers: int | None = flag(None, "processes that check, reduce and copy; 0 works in this one (default: one per "
                                     "processor)", at_least=0)
    image_extensions: tuple[str, ...] = flag(
        (), "extensions that count as pictures, in any case (default: those of pictures, and where an extension is "
            "unknown the content decides)", metavar="EXT")
    artist_map: Path | None = flag(None, "CSV with the columns folder,artist: renames, merges several folders, leaves "
                                         "out where artist is empty", metavar="CSV")
    group_by: str | None = flag(None, "which pictures stay together, such as those of a book: a CSV file with the "
                                      "columns path,group (FILE:COLUMN for another column), or a regular expression "
                                      "with one group that is searched in the path below --source-dir",
                                metavar="FILE_OR_REGEX")
    leave_groups_out: tuple[str, ...] = flag((), "groups of --group-by that validate, and nothing else",
                                             metavar="GROUP")
    near_duplicates: bool = flag(True, "keep the same picture resized, compressed again, lightly cropped or recoloured "
                                       "on one side")
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more count as damaged", at_least=1)
    search: FolderSearchOptions


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="prepare_dataset.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Make the data set; the exit code."""
    flags = build_parser().read(argv)
    source, workers = flags.source_dir, flags.workers
    settings = read_copy_settings(flags)
    if flags.leave_groups_out and flags.group_by is None:
        raise UserError("--leave-groups-out without --group-by", "both", "add --group-by, which makes the groups")
    extensions = read_extensions(flags.image_extensions)
    artist_map = read_artist_map(flags.artist_map) if flags.artist_map else {}
    found = find_pictures(source, extensions=extensions, exclude=flags.search.exclude).without_loose()
    artists = list_artists(found, artist_map=artist_map)
    groups = None if flags.group_by is None else read_groups(
        flags.group_by, [picture.source for pictures in artists.values() for picture in pictures])
    rule = SplitRule(val_ratio=flags.val_ratio, min_images=flags.min_images, seed=flags.seed,
                     group_by=flags.group_by, leave_groups_out=check_group_names(flags.leave_groups_out, groups or {}))
    with new_folder(flags.output_dir, made_by="prepare_dataset.py", overwrite=flags.overwrite,
                    sources=[source]) as folder:
        split = plan_split(found, artists, rule, groups=groups, near_duplicates=flags.near_duplicates,
                           max_pixels=flags.max_pixels, workers=workers, progress=announced)
        print_some(found.report())
        print_left_out(split)
        print_linked(split)
        if not split.train:
            raise UserError(f"no artist with at least {rule.min_images} usable pictures in {source}",
                            "one at the least", "add pictures or lower --min-images")
        write_dataset(folder, source, split, settings, workers=workers, progress=announced("writing"))
    print_artists(split)
    print(f"The data set is in {flags.output_dir}")
    return EXIT_DONE


def read_copy_settings(flags: Flags) -> CopySettings:
    """How pictures are copied or linked; raises a `UserError` for flags that exclude each other."""
    if flags.symlink and flags.hardlink:
        raise UserError("--hardlink with --symlink", "one of them", "leave one out")
    method: Method = "symlink" if flags.symlink else "hardlink" if flags.hardlink else "copy"
    if flags.resize and method != "copy":
        raise UserError(f"--resize with --{method}", "one of them (a link cannot be smaller than its file)",
                        "leave one out")
    return CopySettings(method=method, short_side=flags.resize, max_pixels=flags.max_pixels)


def read_extensions(words: Sequence[str]) -> set[str]:
    """Extensions in lower case with a dot, from words that may lack it or hold several with commas between."""
    extensions = {"." + part.strip().lower().removeprefix(".") for word in words for part in word.split(",")}
    unknown = sorted(extensions - IMAGE_EXTENSIONS)
    if unknown:
        raise UserError(f"--image-extensions {unknown[0]}", "some of " + " ".join(sorted(IMAGE_EXTENSIONS)),
                        "leave it out, or convert these pictures")
    return extensions


def print_left_out(split: Split) -> None:
    """Print which pictures will not be in the data set, and why."""
    side = split.side_of()
    print_some([f"in {side[group[0]]}/ of several artists: {', '.join(group)} (equal files)"
                for group in split.conflicts])
    print_some([f"left out: {name} (same file as {kept})" for name, kept in split.duplicates.items()])
    print_some([f"left out: {name} ({reason})" for name, reason in split.damaged.items()])
    print_some([f"left out: the artist {artist} ({count} usable pictures, fewer than {split.rule.min_images})"
                for artist, count in split.left_out.items()])


def print_linked(split: Split) -> None:
    """Print which pictures stay together, and which artists have nothing to validate."""
    side = split.side_of()
    print_some([f"near-duplicates, all in {side[group[0]]}/: {', '.join(group)}"
                for group in split.near_duplicates or []])
    print_some([f"near-duplicates of a long chain, not joined: {', '.join(pair)}" for pair in split.parted])
    if split.near_duplicates:
        print(f"{sum(map(len, split.near_duplicates))} near-duplicates in {len(split.near_duplicates)} groups, each "
              "on one side")
    if split.groups is not None:
        sides = list(split.groups.values())
        print(f"{len(sides)} groups by --group-by: {sides.count('train')} in train/, {sides.count('val')} in val/")
    print_some([f"not measured: the artist {artist} (no picture in val/)" for artist in split.not_measured()])


def print_artists(split: Split) -> None:
    """Print a table of the artists and their pictures, at most 80 columns wide."""
    rows = [(artist, len(train), len(split.val[artist])) for artist, train in split.train.items()]
    total = (f"{len(rows)} artists", *(sum(map(len, side.values())) for side in split.sides().values()))
    table = format_table([("artist", "train", "val"), RULE, *rows, RULE, total])
    print_some(table[:-2])
    print(*table[-2:], sep="\n")
    if len(rows) == 1:
        print("one artist: enough for a gallery, but a trainer needs two to tell apart")


def print_some(lines: list[str]) -> None:
    """Print `lines`; of a long list the beginning, and where to read the rest."""
    print(*lines[:_LINES_SHOWN], sep="\n", end="\n" if lines else "")
    if len(lines) > _LINES_SHOWN:
        print(f"... and {len(lines) - _LINES_SHOWN} more (dataset_info.json has them all)")


if __name__ == "__main__":
    sys.exit(main())
