"""The dataset folder that training reads: train/ and val/, one folder per artist in each, and how it was made."""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import itertools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from data.class_mapping import write_class_mapping
from data.images import EXTENSION_FORMATS, decode_image
from data.names import as_text, fit_file_name, line_problem, nfc
from data.picture_files import PictureFolder
from data.prepare.artist_folders import Picture
from data.prepare.integrity import find_copies, scan_images
from data.prepare.near_duplicates import NearDuplicates, find_near_duplicates, scan_looks
from data.prepare.splits import Links, Split, SplitRule, split_artists
from data.shards import ShardSample, name_keys, shard_name, write_shards
from data.side_files import read_text, split_lines
from data.worker_pool import Progress, map_ordered
from utils import UserError, write_json, write_text

DATASET_INFO, SPLIT_INFO = "dataset_info.json", "split_info.txt"
_LOSSLESS = {"PNG", "GIF", "BMP", "TIFF", "PPM", "TGA"}
Method = Literal["copy", "symlink", "hardlink", "list"]
Files = dict[str, dict[str, str]]  # train or val → path of a picture there → its path in the source folder
_SPLIT_COLUMNS = "side\tsource\tfile"
_NO_RIGHT_TO_LINK = 1314  # Windows' ERROR_PRIVILEGE_NOT_HELD


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopySettings:
    """How pictures get from the source folder into the dataset.

    Attributes:
        method: copied, linked to the source file, or left where they are and listed in split_info.txt alone.
        short_side: copies are reduced to this short side, px; smaller pictures, and with None all, keep their bytes.
        max_pixels: pictures with more are not decoded, px.
        shard_size: pictures in a WebDataset shard; None for one folder per artist.
    """

    method: Method
    short_side: int | None
    max_pixels: int
    shard_size: int | None = None


class LinkError(UserError):
    """Pictures cannot be linked from the source folder to the output folder."""


def plan_split(source: PictureFolder, artists: Mapping[str, Sequence[Picture]], rule: SplitRule, *,
               groups: Mapping[str, str] | None, near_duplicates: bool, max_pixels: int, workers: int | None,
               progress: Callable[[str], Progress]) -> Split:
    """Check every picture of `source`, find equal files, and near-duplicates if asked to, and split.

    `groups` has the group of each source path that has one; None without groups. Pictures of more than `max_pixels` px
    count as damaged. `workers` is that of `map_ordered`. `progress` turns a word for what is being done into a wrapper
    of the results.

    Raises:
        UserError: see `split_artists`.
    """
    pictures = [picture for pictures in artists.values() for picture in pictures]
    damaged = {picture.source: f"its name {problem}" for picture in pictures
               if (problem := line_problem(picture.source))}
    files = {source.root / picture.source: picture for picture in pictures if picture.source not in damaged}
    checking = progress("checking")
    if near_duplicates:
        found, looks = scan_looks(list(files), workers=workers, max_pixels=max_pixels, progress=checking)
    else:
        found, looks = scan_images(list(files), workers=workers, max_pixels=max_pixels, progress=checking), None
    damaged |= {files[path].source: reason for path, reason in found.items()}
    equal = find_copies([path for path in files if path not in found], workers=workers, progress=progress("comparing"))
    near = find_near_duplicates(looks, skip={path for group in equal for path in group[1:]}) if looks else None
    links = _find_links(files, equal, near, groups)
    split = split_artists(artists, rule, damaged=damaged, links=links)
    return dataclasses.replace(split, passed_over=source.passed_over)


def _find_links(files: Mapping[Path, Picture], equal: Sequence[Sequence[Path]], near: NearDuplicates | None,
                groups: Mapping[str, str] | None) -> Links:
    """The links between pictures; a near-duplicate stands for all files that equal it."""
    copies = {group[0]: group for group in equal}
    return Links(
        groups=groups, copies=[[files[path] for path in group] for group in equal],
        near_duplicates=None if near is None else [
            [files[copy] for path in group for copy in copies.get(path, [path])] for group in near.groups],
        parted=[] if near is None else [(files[first].source, files[second].source) for first, second in near.parted])


def write_dataset(folder: Path, source: Path, split: Split, settings: CopySettings, *, workers: int | None,
                  progress: Progress) -> None:
    """Fill the empty `folder`: pictures, class_mapping.csv, class_names.json, dataset_info.json, split_info.txt.

    The pictures of `source` are copied, reduced or linked by `workers` processes (see `map_ordered`), or packed.

    Raises:
        LinkError: links are not possible here.
        UserError: two names are one on this file system.
    """
    files = name_files(split, settings, folder)
    places = {side: {name: name for name in names} for side, names in files.items()}
    if settings.shard_size:
        places = {side: _write_shards(folder / side, source, names, list(split.train), settings, workers=workers,
                                      progress=progress) for side, names in files.items()}
    elif settings.method != "list":
        for side, artists in split.sides().items():
            for artist in artists:
                (folder / side / artist).mkdir(parents=True)
        jobs = [(Path(os.path.realpath(source / origin)), folder / side / name)
                for side, names in files.items() for name, origin in names.items()]
        for _ in map_ordered(functools.partial(_write_picture, settings=settings), jobs, workers=workers,
                             progress=progress):
            pass
    write_class_mapping(folder / "class_mapping.csv", list(split.train))
    write_json(folder / "class_names.json", list(split.train))
    write_json(folder / DATASET_INFO, {
        "source_dir": os.path.realpath(source), **dataclasses.asdict(split.rule), **dataclasses.asdict(settings),
        "num_classes": len(split.train),
        **{f"num_{side}": sum(map(len, artists.values())) for side, artists in split.sides().items()},
        "classes": {artist: {"class_id": number, "train": len(split.train[artist]), "val": len(split.val[artist])}
                    for number, artist in enumerate(split.train)},
        "left_out_artists": split.left_out, "not_measured": split.not_measured(), "duplicates": split.duplicates,
        "conflicts": split.conflicts, "num_near_duplicates": sum(map(len, split.near_duplicates or [])),
        "near_duplicates": split.near_duplicates, "parted_near_duplicates": split.parted, "groups": split.groups,
        **{kind: {as_text(name): reason for name, reason in names.items()}
           for kind, names in (("damaged", split.damaged), ("passed_over", split.passed_over))}})
    rows = [f"{side}\t{origin}\t{side}/{places[side][name]}"
            for side, names in files.items() for name, origin in names.items()]
    write_text(folder / SPLIT_INFO, "\n".join([_SPLIT_COLUMNS, *rows]) + "\n")


def _write_shards(folder: Path, source: Path, names: Mapping[str, str], artists: Sequence[str], settings: CopySettings,
                  *, workers: int | None, progress: Progress) -> dict[str, str]:
    """Write one side to shards, in the order of a data set of folders; the path below `folder` of each of `names`.

    `names` has the path in the source folder of each path in a data set of folders.
    """
    order = sorted(names, key=lambda name: (name.partition("/")[0], name))
    ids = {artist: number for number, artist in enumerate(artists)}
    samples = [ShardSample(key=key, file=name, class_id=ids[name.partition("/")[0]], source=names[name])
               for name, key in zip(order, name_keys(order), strict=True)]
    jobs = [(Path(os.path.realpath(source / names[name])), Path(name)) for name in order]
    read = functools.partial(_read_picture, settings=settings)
    size = settings.shard_size or len(samples)
    write_shards(folder, samples, map_ordered(read, jobs, workers=workers if settings.short_side else 0,
                                              progress=progress), size)
    return {sample.file: f"{shard_name(place, size)}/{sample.picture}" for place, sample in enumerate(samples)}


def name_files(split: Split, settings: CopySettings, folder: Path) -> Files:
    """Where each picture of `split` lies in a dataset that is written to `folder`."""
    return {side: {f"{artist}/{name}": picture.source for artist, pictures in artists.items()
                   for picture, name in zip(pictures, _choose_names(pictures, settings, folder), strict=True)}
            for side, artists in split.sides().items()}


def read_split_info(folder: Path) -> Files:
    """What `write_dataset` has noted in `folder`.

    Raises:
        UserError: split_info.txt is missing, or says something else.
    """
    path = folder / SPLIT_INFO
    files: Files = {"train": {}, "val": {}}
    told = {"expected": "the split that prepare_dataset.py or a trainer noted", "action": "make the split anew"}
    for number, line in enumerate(split_lines(read_text(path, **told))):
        side, _, rest = line.partition("\t")
        source, _, file = rest.partition("\t")
        inside = not os.path.isabs(source) and not os.path.normpath(source).startswith("..")
        if number and (side not in files or not inside or not file.startswith(f"{side}/")):
            raise UserError(f"line {number + 1} of {path}: {line[:200]!r}", **told)
        if number:
            files[side][file.partition("/")[2]] = source
    return files


def _choose_names(pictures: Sequence[Picture], settings: CopySettings, folder: Path) -> list[str]:
    """The name of each picture of one folder of the output: its own, numbered if an earlier picture has it.

    Names are compared as Windows and macOS do, without case: the source may tell more names apart.
    """
    names: dict[str, str] = {}
    for picture in pictures:
        name = own = PurePosixPath(_output_name(picture.name, settings, folder))
        for number in itertools.count(2):
            if nfc(str(name)).casefold() not in names:
                break
            name = own.with_name(fit_file_name(f"{own.stem}-{number}", own.suffix, folder))
        names[nfc(str(name)).casefold()] = name.as_posix()
    return list(names.values())


def _output_name(name: str, settings: CopySettings, folder: Path) -> str:
    """Reduced pictures are JPEG or PNG; any other name gets a second extension.

    A name that gets too long for the file system of `folder` is shortened.
    """
    extension = Path(name).suffix.lower()
    if settings.short_side is None or EXTENSION_FORMATS.get(extension) == "JPEG" or extension == ".png":
        return name
    added = ".png" if EXTENSION_FORMATS.get(extension) in _LOSSLESS else ".jpg"
    return PurePosixPath(name).with_name(fit_file_name(PurePosixPath(name).name, added, folder)).as_posix()


def _write_picture(job: tuple[Path, Path], settings: CopySettings) -> None:
    source, target = job
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise UserError(f"two pictures called {target.name} beside {source}, alike but for case or Unicode form",
                        "names that the output's file system can tell apart", "rename one of them")
    if settings.method != "copy":
        _link(source, target, settings.method)
    elif reduced := _reduce(job, settings):
        target.write_bytes(reduced)
    else:
        shutil.copyfile(source, target)


def _read_picture(job: tuple[Path, Path], settings: CopySettings) -> bytes:
    return _reduce(job, settings) or job[0].read_bytes()


def _reduce(job: tuple[Path, Path], settings: CopySettings) -> bytes | None:
    """The bytes of a reduced picture, from a source to a file of this name; None where a copy will do."""
    source, target = job
    if settings.short_side is None:
        return None
    image = decode_image(source, max_pixels=settings.max_pixels)
    scale = min(1.0, settings.short_side / min(image.size))
    if scale == 1 and source.suffix == target.suffix:
        return None
    image, file = image.resize([round(side * scale) for side in image.size], Image.Resampling.LANCZOS), io.BytesIO()
    if target.suffix.lower() == ".png":
        image.save(file, format="PNG")
    else:
        image.save(file, format="JPEG", quality=95, subsampling=0)
    return file.getvalue()


def _link(source: Path, target: Path, method: Method) -> None:
    try:
        if method == "symlink":
            os.symlink(source, target)
        else:
            os.link(source, target)
    except OSError as error:
        if getattr(error, "winerror", None) == _NO_RIGHT_TO_LINK:
            raise LinkError("no right to make symbolic links", "Windows' developer mode or an administrator's terminal",
                            "switch it on, use --hardlink, or copy (neither flag)") from error
        if error.errno == errno.EXDEV:
            raise LinkError(f"{source} on another drive than the output", "one drive or file system for hard links",
                            "choose an output folder there, or copy (without --hardlink)") from error
        raise LinkError(f"{error.strerror} when linking {source}", f"an output folder whose file system has {method}s",
                        "choose another one, or copy (neither --symlink nor --hardlink)") from error
