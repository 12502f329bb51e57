"""What is printed of a split into training and validation pictures."""

from __future__ import annotations

from collections.abc import Sequence

from data.names import as_text
from data.picture_files import PictureFolder
from data.prepare.splits import Split
from runtime.text_table import RULE, format_table
from utils import counted

_LINES_SHOWN = 40


def print_split(source: PictureFolder, split: Split) -> None:
    """Print which pictures of `source` will not be in the data set and why, and which stay together."""
    _print_some(source.report())
    _print_left_out(split)
    _print_linked(split)


def _print_left_out(split: Split) -> None:
    side = split.side_of()
    _print_some([f"in {side[group[0]]}/ of several artists: {', '.join(group)} (equal files)"
                 for group in split.conflicts])
    _print_some([f"left out: {name} (same file as {kept})" for name, kept in split.duplicates.items()])
    _print_some([f"left out: {as_text(name)} ({reason})" for name, reason in split.damaged.items()])
    _print_some([f"left out: the artist {artist} ({counted(count, 'usable picture')}, fewer than "
                 f"{split.rule.min_images})" for artist, count in split.left_out.items()])


def _print_linked(split: Split) -> None:
    side = split.side_of()
    _print_some([f"near-duplicates, all in {side[group[0]]}/: {', '.join(group)}"
                 for group in split.near_duplicates or []])
    _print_some([f"near-duplicates of a long chain, not joined: {', '.join(pair)}" for pair in split.parted])
    if split.near_duplicates:
        print(f"{sum(map(len, split.near_duplicates))} near-duplicates in "
              f"{counted(len(split.near_duplicates), 'group')}, each on one side")
    if split.groups is not None:
        sides = list(split.groups.values())
        print(f"{counted(len(sides), 'group')} by --group-by: {sides.count('train')} in train/, "
              f"{sides.count('val')} in val/")
    _print_some([f"not measured: the artist {artist} (no picture in val/)" for artist in split.not_measured()])


def print_artists(split: Split) -> None:
    """Print a table of the artists and their pictures, at most 80 columns wide."""
    rows = [(artist, len(train), len(split.val[artist])) for artist, train in split.train.items()]
    total = (counted(len(rows), "artist"), *(sum(map(len, side.values())) for side in split.sides().values()))
    table = format_table([("artist", "train", "val"), RULE, *rows, RULE, total])
    _print_some(table[:-2])
    print(*table[-2:], sep="\n")
    if len(rows) == 1:
        print("one artist: enough for a gallery, but a trainer needs two to tell apart")


def _print_some(lines: Sequence[str]) -> None:
    """Print `lines`; of a long list the beginning, and where to read the rest."""
    print(*lines[:_LINES_SHOWN], sep="\n", end="\n" if lines else "")
    if len(lines) > _LINES_SHOWN:
        print(f"... and {len(lines) - _LINES_SHOWN} more (dataset_info.json has them all)")
