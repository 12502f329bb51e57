"""The folder that training reads: train/ and val/, one folder per artist in each, and how it was made."""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image

from data.class_mapping import write_class_mapping
from data.images import EXTENSION_FORMATS, decode_image
from data.prepare.artist_folders import Picture, unlistable
from data.prepare.integrity import find_copies, scan_images
from data.prepare.splits import Split, SplitRule, split_artists
from data.worker_pool import Progress, map_ordered
from utils import UserError, write_json, write_text

DATASET_INFO = "dataset_info.json"
_LOSSY = {"JPEG", "WEBP", "AVIF", "JPEG2000"}
_REDUCED_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}  # what reduced pictures are written as
_NO_RIGHT_TO_LINK = 1314  # Windows' ERROR_PRIVILEGE_NOT_HELD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placing:
    """How pictures get from the source folder into the data set.

    Attributes:
        method: copied, or linked to the source file.
        short_side: copies are reduced to this short side, px; smaller pictures, and with None all, keep their bytes.
        max_pixels: pictures with more are not decoded, px.
    """

    method: Literal["copy", "symlink", "hardlink"]
    short_side: int | None
    max_pixels: int


def plan_split(source: Path, artists: Mapping[str, Sequence[Picture]], rule: SplitRule, *, max_pixels: int,
               workers: int, progress: Callable[[str], Progress]) -> Split:
    """Check every picture, find equal files and decide what goes where.

    Args:
        source: the folder that the pictures' source paths are relative to.
        artists: artist → pictures.
        rule: how they are dealt.
        max_pixels: pictures with more count as damaged, px.
        workers: processes that check and compare; 0 does it in this one.
        progress: called with what is being done, gives a wrapper of the iteration.
    """
    pictures = [picture for pictures in artists.values() for picture in pictures]
    damaged = {picture.source: problem for picture in pictures if (problem := unlistable(picture))}
    files = {source / picture.source: picture for picture in pictures if picture.source not in damaged}
    found = scan_images(list(files), workers=workers, max_pixels=max_pixels, progress=progress("checking"))
    damaged |= {files[path].source: reason for path, reason in found.items()}
    copies = find_copies([path for path in files if path not in found], workers=workers, progress=progress("comparing"))
    return split_artists(artists, rule, damaged=damaged, copies=[[files[path] for path in group] for group in copies])


def write_dataset(folder: Path, source: Path, split: Split, placing: Placing, *, workers: int,
                  progress: Progress) -> None:
    """Fill the empty `folder`: pictures, class_mapping.csv, class_names.json, dataset_info.json, split_info.txt.

    Args:
        folder: an empty folder.
        source: the folder that the pictures' source paths are relative to.
        split: what goes where.
        placing: how the pictures are copied, reduced or linked.
        workers: processes that copy and reduce; 0 does it in this one.
        progress: wraps the iteration over the pictures, called with it and their number.

    Raises:
        UserError: links are not possible here, or two names are one on this file system.
    """
    rows = [(side, picture.source, f"{side}/{artist}/{_name_when_placed(picture.name, placing)}")
            for side, artists in split.sides().items() for artist, pictures in artists.items() for picture in pictures]
    for side, artists in split.sides().items():
        for artist in artists:
            (folder / side / artist).mkdir(parents=True)
    jobs = [(Path(os.path.realpath(source / origin)), folder / name) for _, origin, name in rows]
    for _ in map_ordered(functools.partial(_place, placing=placing), jobs, workers=workers, progress=progress):
        pass
    write_class_mapping(folder / "class_mapping.csv", list(split.train))
    write_json(folder / "class_names.json", list(split.train))
    write_json(folder / DATASET_INFO, {
        "source_dir": os.path.realpath(source), **dataclasses.asdict(split.rule), **dataclasses.asdict(placing),
        "num_classes": len(split.train),
        **{f"num_{side}": sum(map(len, artists.values())) for side, artists in split.sides().items()},
        "classes": {artist: {"class_id": number, "train": len(split.train[artist]), "val": len(split.val[artist])}
                    for number, artist in enumerate(split.train)},
        "left_out_artists": split.left_out, "duplicates": split.duplicates, "conflicts": split.conflicts,
        "damaged": {name.encode(errors="backslashreplace").decode(): reason for name, reason in split.damaged.items()}})
    table = ["side\tsource\tfile", *("\t".join(row) for row in rows)]
    write_text(folder / "split_info.txt", "\n".join(table) + "\n")


def _name_when_placed(name: str, placing: Placing) -> str:
    """Reduced pictures are JPEG or PNG: a name that promises neither gets a second extension, so that none collide."""
    written = EXTENSION_FORMATS[Path(name).suffix.lower()]
    if placing.short_side is None or written in _REDUCED_SUFFIXES:
        return name
    return name + _REDUCED_SUFFIXES["JPEG" if written in _LOSSY else "PNG"]


def _place(job: tuple[Path, Path], placing: Placing) -> None:
    source, target = job
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise UserError(f"two pictures called {target.name} beside {source}, alike but for case or Unicode form",
                        "names that the output's file system can tell apart", "rename one of them")
    if placing.method != "copy":
        _link(source, target, placing.method)
    elif placing.short_side is None or not _write_reduced(source, target, placing.short_side, placing.max_pixels):
        shutil.copyfile(source, target)


def _write_reduced(source: Path, target: Path, short_side: int, max_pixels: int) -> bool:
    """False, and nothing written, where the picture is small already and its own bytes may serve."""
    image = decode_image(source, max_pixels=max_pixels)
    share = min(1.0, short_side / min(image.size))
    if share == 1 and source.suffix == target.suffix:
        return False
    image = image.resize([round(side * share) for side in image.size], Image.Resampling.LANCZOS)
    if target.suffix.lower() == ".png":
        image.save(target, format="PNG")
    else:
        image.save(target, format="JPEG", quality=95, subsampling=0)
    return True


def _link(source: Path, target: Path, method: str) -> None:
    try:
        if method == "symlink":
            os.symlink(source, target)
        else:
            os.link(source, target)
    except OSError as error:
        if getattr(error, "winerror", None) == _NO_RIGHT_TO_LINK:
            raise UserError("no right to make symbolic links", "Windows' developer mode or an administrator's terminal",
                            "switch it on, use --hardlink, or copy (neither flag)") from error
        if error.errno == errno.EXDEV:
            raise UserError(f"{source} on another drive than the output", "one drive or file system for hard links",
                            "choose an output folder there, or copy (without --hardlink)") from error
        raise UserError(f"{error.strerror} when linking {source}", f"an output folder whose file system has {method}s",
                        "choose another one, or copy (neither --symlink nor --hardlink)") from error
