"""Split folders of artists' pictures into a data set for training: train/, val/, class_mapping.csv and what was done.

Example: python prepare_dataset.py --source-dir my_pictures --output-dir my_dataset
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from data.images import DEFAULT_MAX_PIXELS, IMAGE_EXTENSIONS
from data.output_folder import new_folder
from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists, read_artist_map
from data.prepare.dataset import CopySettings, Method, plan_split, write_dataset
from data.prepare.fix_list import read_fix_list, select_pictures
from data.prepare.groups import check_group_names, read_groups
from data.prepare.splits import SplitRule
from runtime.arguments import Parser, flag
from runtime.next_step import print_next
from runtime.options import MOST_WORKERS, FolderSearchOptions
from runtime.progress import announced
from runtime.split_report import print_artists, print_split
from utils import EXIT_DONE, UserError, command


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Data set."""

    source_dir: Path = flag(MISSING, "folder with one folder of pictures per artist")
    output_dir: Path = flag(MISSING, "folder to make; an earlier output is only replaced after a question")
    val_ratio: float = flag(SplitRule.val_ratio, "share of each artist's pictures used for validation", above=0,
                            below=1, common=True)
    min_images: int = flag(SplitRule.min_images, "artists with fewer usable pictures are left out", at_least=1,
                           common=True)
    seed: int = flag(SplitRule.seed, "the same seed gives the same split on every machine", at_least=0, common=True)
    copy: bool = flag(False, "copy the files (the default)")
    symlink: bool = flag(False, "symbolic links to the source files instead of copies")
    hardlink: bool = flag(False, "hard links instead of copies (source and output on one drive)", common=True)
    overwrite: bool = flag(False, "replace an earlier output without asking", common=True)
    resize: int | None = flag(None, "write copies whose short side is reduced to N px (never enlarged), which are "
                                    "faster to read", at_least=1, metavar="N", common=True)
    format: Literal["folders", "webdataset"] = flag(
        "folders", "folders: one folder of pictures per artist in train/ and val/; webdataset: tar files there, with a "
                   ".cls and a .json file for each picture", common=True)
    shard_size: int = flag(1000, "for --format webdataset: pictures in each tar file", at_least=1, metavar="N")
    workers: int | None = flag(None, "processes that check, reduce and copy; 0 works in this one (default: one per "
                                     "processor)", at_least=0, at_most=MOST_WORKERS)
    image_extensions: tuple[str, ...] = flag(
        (), "extensions that count as pictures, in any case (default: those of pictures, and where an extension is "
            "unknown the content decides)", metavar="EXT")
    artist_map: Path | None = flag(None, "CSV with the columns folder,artist: renames artists, merges several "
                                         "folders; an empty artist leaves the folder out", metavar="CSV")
    fix_list: Path | None = flag(None, "CSV with the columns path,artist, such as that of tools/make_fix_list.py: the "
                                       "artists of single pictures, in place of their folders' names; an empty artist "
                                       "leaves the picture out", metavar="CSV", common=True)
    group_by: str | None = flag(None, "pictures that stay together, such as those of a book: a CSV file with the "
                                      "columns path,group (FILE:COLUMN for another column), or a regular expression "
                                      "with one group, searched in the path below --source-dir",
                                metavar="FILE_OR_REGEX")
    leave_groups_out: tuple[str, ...] = flag((), "exactly these groups of --group-by are the validation set",
                                             metavar="GROUP")
    near_duplicates: bool = flag(True, "keep copies of a picture that are resized, compressed again, lightly cropped "
                                       "or recoloured on the same side")
    max_pixels: int = flag(DEFAULT_MAX_PIXELS, "pictures whose header claims more count as damaged", at_least=1)
    search: FolderSearchOptions
    given: frozenset[str] = frozenset()


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
    fixes = read_fix_list(flags.fix_list) if flags.fix_list else {}
    found = select_pictures(find_pictures(source, extensions=extensions, exclude=flags.search.exclude), fixes)
    artists = list_artists(found, artist_map=artist_map, fixes=fixes)
    groups = None if flags.group_by is None else read_groups(
        flags.group_by, [picture.source for pictures in artists.values() for picture in pictures])
    rule = SplitRule(val_ratio=flags.val_ratio, min_images=flags.min_images, seed=flags.seed,
                     group_by=flags.group_by, leave_groups_out=check_group_names(flags.leave_groups_out, groups or {}))
    with new_folder(flags.output_dir, made_by="prepare_dataset.py", overwrite=flags.overwrite,
                    sources=[source]) as folder:
        split = plan_split(found, artists, rule, groups=groups, near_duplicates=flags.near_duplicates,
                           max_pixels=flags.max_pixels, workers=workers, progress=announced)
        print_split(found, split)
        if not split.train:
            raise UserError(f"no artist with at least {rule.min_images} usable pictures in {source}",
                            "one at the least", "add pictures or lower --min-images")
        write_dataset(folder, source, split, settings, workers=workers, progress=announced("writing"))
    print_artists(split)
    print(f"The data set is in {flags.output_dir}")
    if len(split.train) > 1:
        print_next("train_artist_style.py", "--data-path", flags.output_dir, "--pretrained", "--linear-probe")
    elif flags.format == "folders":
        print_next("tools/build_gallery.py", "--images-dir", flags.output_dir / "train", "--gallery", "my_gallery",
                   "--model", "tf_efficientnet_lite0", "--pretrained")
    return EXIT_DONE


def read_copy_settings(flags: Flags) -> CopySettings:
    """How pictures are copied or linked; raises a `UserError` for flags that exclude each other."""
    methods: tuple[Method, ...] = ("copy", "symlink", "hardlink")
    chosen = [method for method in methods if getattr(flags, method)]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[1]} with --{chosen[0]}", "one of them", "leave one out")
    method = chosen[0] if chosen else "copy"
    if flags.resize and method != "copy":
        raise UserError(f"--resize with --{method}", "one of them (a link cannot be smaller than its file)",
                        "leave one out")
    if flags.format == "webdataset" and method != "copy":
        raise UserError(f"--format webdataset with --{method}", "one of them (a tar file holds its pictures)",
                        "leave one out")
    if flags.format == "folders" and "shard_size" in flags.given:
        raise UserError("--shard-size without --format webdataset", "both", "add --format webdataset")
    return CopySettings(method=method, short_side=flags.resize, max_pixels=flags.max_pixels,
                        shard_size=flags.shard_size if flags.format == "webdataset" else None)


def read_extensions(words: Sequence[str]) -> set[str]:
    """Extensions in lower case with a dot, from words that may lack it or hold several with commas between."""
    extensions = {"." + part.strip().lower().removeprefix(".") for word in words for part in word.split(",")}
    unknown = sorted(extensions - IMAGE_EXTENSIONS)
    if unknown:
        raise UserError(f"--image-extensions {unknown[0]}", "some of " + " ".join(sorted(IMAGE_EXTENSIONS)),
                        "leave it out, or convert these pictures")
    return extensions


if __name__ == "__main__":
    sys.exit(main())
