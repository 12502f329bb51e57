"""WebDataset shards: tar files in which each picture has its class in files of the same name beside it.

The layout is that of img2dataset and open_clip: `KEY.jpg` (or .png, …), `KEY.cls` with the number of the class, and
`KEY.json`, here with `artist`, `class_id`, `file` (the picture's path in a data set of folders) and `source`.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import msgspec

from data.class_mapping import read_class_mapping
from data.names import line_problem, nfc
from data.picture_files import artist_of, picture_name
from data.tar_files import TAR, Member, index_tar
from utils import UserError

CLASS, ABOUT, CAPTION = ".cls", ".json", ".txt"
MAPPING = "class_mapping.csv"
_LARGEST_LABEL = 2**20  # bytes
_LONGEST_NUMBER = 9  # digits of a class


class _About(msgspec.Struct):
    """What is read of `KEY.json`; other programs may mean something else by these keys."""

    artist: Any = None
    file: Any = None


@dataclass(frozen=True, slots=True)
class TarPicture:
    """A picture in a tar, and whose it is.

    Attributes:
        name: its path in a data set of folders, whose first folder is the class.
        path: its path in the tar.
        member: its place there.
    """

    name: str
    path: str
    member: Member


# ---- reading ---------------------------------------------------------------------------------------------------------


def label_pictures(tar: Path, paths: Iterable[str], *, folder: str) -> Iterator[TarPicture]:
    """The pictures at `paths` in a tar with their classes, in this order; those without a class are left out.

    The class is `artist` in `KEY.json`; else what `KEY.cls` holds, which is a number in class_mapping.csv, where that
    lies in the folder above or beside the tar; else the folder in the tar that holds the picture; else `folder`. KEY is
    the path without its last ending. A number without a mapping becomes a name of six digits.

    Raises:
        UserError: a label cannot be read or be a class, `KEY.json` and `KEY.cls` contradict one another, or a picture
            has a caption but no class.
    """
    mapping = next((read_class_mapping(place) for place in (tar.parent.parent / MAPPING, tar.parent / MAPPING)
                    if place.is_file()), [])
    members = index_tar(tar).members
    with open(tar, "rb") as file:
        for path in paths:
            place = PurePosixPath(path)
            key = path.removesuffix(place.suffix)
            about = _read_about(tar, file, members, key)
            artist = nfc(about.artist) if isinstance(about.artist, str) else ""
            number = _read_class(tar, file, members, key, mapping)
            if artist and mapping and number and number != artist:
                raise UserError(f"{key}{CLASS} of {number} and {key}{ABOUT} of {artist} in {tar}", "one artist",
                                "make the shards anew")
            own = place.parent.name
            label = artist or number or (own[:-len(TAR)] if own.lower().endswith(TAR) else own)
            if not label and not {key + ABOUT, key + CAPTION}.isdisjoint(members):
                raise UserError(f"no {key}{CLASS} in {tar}, and no artist in {key}{ABOUT}", "a class of each picture",
                                "add .cls files, or sort the pictures into a folder per artist")
            if "/" in label or line_problem(label):
                raise UserError(f"the class {label[:100]!r} of {key} in {tar}", "a name without / and control "
                                "characters", "correct the labels, or make the shards anew")
            if label or folder:
                labelled = bool(artist or number)
                yield TarPicture(_name(label or folder, path, about.file, labelled=labelled), path, members[path])


def _name(label: str, path: str, file: Any, *, labelled: bool) -> str:
    """What a picture of the class `label` at `path` is called."""
    if labelled and isinstance(file, str) and _is_fit(file) and artist_of(file) == label:
        return file
    if labelled and artist_of(path) == label:
        return path
    return f"{label}/{PurePosixPath(path).name}"


def _is_fit(file: str) -> bool:
    parts = file.split("/")
    return not line_problem(file) and not {"", ".", ".."}.intersection(parts) and picture_name(file) is not False


def _read_about(tar: Path, file: IO[bytes], members: Mapping[str, Member], key: str) -> _About:
    content = _read_label(file, members.get(key + ABOUT))
    try:
        return msgspec.json.decode(content, type=_About) if content else _About()
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{key}{ABOUT} in {tar}, which cannot be read ({error})", "a JSON object",
                        "make the shards anew") from error


def _read_class(tar: Path, file: IO[bytes], members: Mapping[str, Member], key: str, mapping: Sequence[str]) -> str:
    """The class that `KEY.cls` names; empty without that file."""
    text = nfc(_read_label(file, members.get(key + CLASS)).decode("utf-8", "replace")).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        return text
    if mapping and int(text) >= len(mapping):
        raise UserError(f"the class {text[:20]} in {key}{CLASS} of {tar}", f"one from 0 to {len(mapping) - 1}, as in "
                        f"{MAPPING}", "keep shards and mapping of one data set together")
    return mapping[int(text)] if mapping else f"{int(text):06}"


def _read_label(file: IO[bytes], member: Member | None) -> bytes:
    if member is None:
        return b""
    file.seek(member.offset)
    return file.read(min(member.size, _LARGEST_LABEL))


# ---- writing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ShardSample:
    """A picture that is written to a shard.

    Attributes:
        key: the name of its files in the tar, without ending.
        file: its path in a data set of folders; the first folder is the artist.
        class_id: of the artist.
        source: its path in the source folder.
    """

    key: str
    file: str
    class_id: int
    source: str

    @property
    def picture(self) -> str:
        """The path of the picture in the tar."""
        return self.key + PurePosixPath(self.file).suffix.lower()


def shard_name(place: int, size: int) -> str:
    """The shard of the picture at `place`, from 0, where each has `size`."""
    return f"shard-{place // size:06}{TAR}"


def name_keys(files: Iterable[str]) -> list[str]:
    """A key of each path: without its ending, and without dots in the last part, as readers end a key at the first.

    Two paths that would have one key, even if only case tells them apart, get numbers.
    """
    taken: set[str] = set()
    keys = []
    for file in files:
        path = PurePosixPath(file)
        own = key = path.with_name(path.stem.replace(".", "_")).as_posix()
        number = 2
        while key.casefold() in taken:
            key, number = f"{own}-{number}", number + 1
        taken.add(key.casefold())
        keys.append(key)
    return keys


def write_shards(folder: Path, samples: Sequence[ShardSample], contents: Iterable[bytes], size: int) -> None:
    """Write `samples` with the `contents` of their pictures to shards of `size` pictures in `folder`.

    The same samples give the same bytes.
    """
    folder.mkdir(parents=True)
    found = iter(contents)
    for start in range(0, len(samples), size):
        with tarfile.open(folder / shard_name(start, size), "w", format=tarfile.PAX_FORMAT) as tar:
            for sample in samples[start:start + size]:
                about = {"artist": artist_of(sample.file), "class_id": sample.class_id, "file": sample.file,
                         "source": sample.source}
                _add(tar, sample.picture, next(found))
                _add(tar, sample.key + CLASS, str(sample.class_id).encode())
                _add(tar, sample.key + ABOUT, json.dumps(about, ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
