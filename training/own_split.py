"""The split that a run makes by itself where --data-path is a folder of artists' folders, or goes on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.image_folder import ListedFolder
from data.output_folder import MARKER, new_folder
from data.picture_files import find_pictures
from data.prepare.artist_folders import list_artists
from data.prepare.dataset import (
    SPLIT_INFO,
    CopySettings,
    Files,
    LinkError,
    Method,
    name_files,
    plan_split,
    read_split_info,
    write_dataset,
)
from data.prepare.splits import Split, SplitRule
from data.train_val import has_sides
from runtime.checkpoint import Checkpoint
from runtime.options import FolderTrainerOptions
from runtime.processes import on_first_rank
from runtime.progress import announced
from runtime.split_report import print_artists, print_split
from training.run_folder import SPLIT
from utils import UserError, counted

RULE = SplitRule(min_images=3)  # two pictures to train and one to validate; a first try may have few


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnSplit:
    """Which pictures of a folder of artists' folders train, and which validate.

    Attributes:
        source: the folder.
        files: the pictures of both sides.
        new: what is to be written once the run begins; None where that was done.
        max_pixels: pictures with more count as damaged, px.
    """

    source: Path
    files: Files
    new: Split | None
    max_pixels: int

    def open(self, side: str, classes: Sequence[str] | None = None) -> ListedFolder:
        """The pictures of one side, `train` or `val`, in the ids of `classes`."""
        return ListedFolder(self.source, self.files[side], classes=classes, max_pixels=self.max_pixels)

    def write(self, output: Path) -> list[str]:
        """Write a new split to the run's output folder, with hard links or else as a list; a line for the log."""
        if self.new is None:
            return []
        folder = output / SPLIT
        counts = f"{counted(len(self.files['train']), 'picture')} to train and {len(self.files['val'])} to validate"
        try:
            self._write(folder, self.new, "hardlink")
        except LinkError as error:
            self._write(folder, self.new, "list")
            return [f"split: {counts}, listed in {folder / SPLIT_INFO} ({error.found})"]
        return [f"split: {counts}, in {folder} (hard links to {self.source})"]

    def _write(self, folder: Path, split: Split, method: Method) -> None:
        with new_folder(folder, made_by="train_artist_style.py", overwrite=True) as building:
            settings = CopySettings(method=method, short_side=None, max_pixels=self.max_pixels)
            write_dataset(building, self.source, split, settings, workers=0, progress=announced("linking"))


def find_split(options: FolderTrainerOptions, checkpoint: Checkpoint | None) -> Path | OwnSplit:
    """The data set of a run: --data-path if it has train/ or val/, else its split, that of `checkpoint` or a new one.

    A new split is planned by the first rank, which prints what prepare_dataset.py does.

    Raises:
        UserError: --data-path has too few artists or lies in the split that would be replaced, or another folder has
            its name.
    """
    source, output = options.data.data_path, options.run.output_dir
    if has_sides(source) or not source.is_dir():
        return source
    if checkpoint and (earlier := checkpoint.path.resolve().parent / SPLIT).is_dir():
        if has_sides(earlier):
            return earlier
        return OwnSplit(source=source, files=read_split_info(earlier), new=None, max_pixels=options.data.max_pixels)
    if options.run.eval:
        return source
    if source.resolve().is_relative_to((output / SPLIT).resolve()):
        raise UserError(f"--data-path {source} in the split of --output-dir", "the folder of the artists' folders, or "
                        "a folder with train/ in it", f"take {output / SPLIT}, or another --output-dir")
    if (output / SPLIT).exists() and not (output / SPLIT / MARKER).is_file():
        raise UserError(f"{output / SPLIT}, which no run made", f"no {SPLIT}/ of another kind in --output-dir",
                        "move it, or choose another --output-dir")
    split = on_first_rank(lambda: _plan(options))
    settings = CopySettings(method="list", short_side=None, max_pixels=options.data.max_pixels)
    return OwnSplit(source=source, files=name_files(split, settings, source), new=split,
                    max_pixels=options.data.max_pixels)


def _plan(options: FolderTrainerOptions) -> Split:
    data = options.data
    source = find_pictures(data.data_path, exclude=options.search.exclude).without_loose()
    artists = list_artists(source, artist_map={})
    _check_artists(data.data_path, {artist: len(pictures) for artist, pictures in artists.items()})
    split = plan_split(source, artists, RULE, groups=None, near_duplicates=True, max_pixels=data.max_pixels,
                       workers=data.num_workers, progress=announced)
    print_split(source, split)
    _check_artists(data.data_path, {artist: len(split.train[artist]) + len(split.val[artist])
                                    for artist in split.train} | split.left_out)
    print_artists(split)
    return split


def _check_artists(source: Path, counts: Mapping[str, int]) -> None:
    """Raise a `UserError` unless two artists have enough pictures; `counts` has the pictures of each."""
    enough = [artist for artist, count in counts.items() if count >= RULE.min_images]
    if len(enough) < 2:
        most = ", ".join(f"{artist} {counts[artist]}" for artist in sorted(counts, key=lambda name: -counts[name])[:5])
        raise UserError(f"{counted(len(enough), 'artist')} with at least {RULE.min_images} usable "
                        f"pictures in {source} (pictures by folder: {most})", "two artists or more, each in a folder",
                        "add pictures, or check --data-path; for a gallery one artist is enough "
                        "(tools/build_gallery.py)")
