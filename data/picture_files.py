"""Pictures below a folder: which files count, what is passed over, and whose picture a path is."""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import overload

from data.images import IMAGE_EXTENSIONS, SIGNATURE, SIGNATURE_BYTES
from data.names import as_text, from_text, nfc, relative_name
from data.output_folder import MARKER
from data.side_files import split_lines
from data.tar_files import TAR, Member, TarError, index_tar, read_member
from utils import UserError, expand_wildcard, read_bytes

# Folders of file systems, servers and tools, in lower case; further ones are hidden, with a dot in front.
SYSTEM_FOLDERS = frozenset({
    "@eadir", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "lost+found", "lost.dir", "found.000", "__macosx", "temporary items",
    "network trash folder", "__pycache__", "node_modules"})
# Never opened to look for a picture: texts beside pictures; raw photographs and THM files, whose content looks like a
# TIFF or JPEG and is only a small preview.
OTHER_EXTENSIONS = frozenset({
    ".txt", ".json", ".jsonl", ".csv", ".caption", ".xml", ".xmp", ".md", ".npy", ".npz", ".pth", ".safetensors",
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".mos", ".nef", ".nrw", ".orf",
    ".pef", ".raf", ".rw2", ".srw", ".thm"})
# Files by which a folder of results is known, and the pictures that our commands write beside them.
OUTPUT_FILES = {
    **dict.fromkeys(("batch_results.json", "batch_results.jsonl", "batch_results.csv"), "results of inference"),
    **dict.fromkeys(("checkpoint.pth", "model_best.pth", "best_checkpoint.pth", "model.safetensors", "metrics.jsonl"),
                    "a training run"),
    **dict.fromkeys(("report.csv", "robustness.json", "evaluation.json", "calibration.json"), "an evaluation"),
    "cluster_assignments.json": "clusters", "records.jsonl": "an unfinished run or shard", "gallery.json": "a gallery",
    "vectors.csv": "an exported gallery", ".unfinished": "an unfinished run or shard"}
OUTPUT_PICTURES = frozenset({"contact_sheet.png", "clusters.png", "map.png", "curves.png", "confusion.png",
                             "calibration.png", "metrics.png", "neighbours.png"})
_OUTPUT_PATTERNS = {  # by a part of the name: most folders have none, and it is found at once
    "events.out.tfevents.": (re.compile(r"events\.out\.tfevents\..*"), "TensorBoard's files"),
    "_result.": (re.compile(r".+_result\.(json|jsonl|csv)"), "results of inference")}
_NAMES_SHOWN = 10


def artist_of(name: str) -> str | None:
    """Whose picture `name` is, a "/"-separated path below a root: its first folder in NFC; None without a folder.

    A tar is no artist's folder: in it, the first folder counts.
    """
    folder, separator, rest = name.partition("/")
    if "/" in rest and folder.lower().endswith(TAR):
        return artist_of(rest)
    return nfc(folder) if separator else None


def picture_name(name: str) -> bool | None:
    """Whether a file of this name is a picture; None where only the content can say."""
    extension = _extension(name)
    return True if extension in IMAGE_EXTENSIONS else False if extension in OTHER_EXTENSIONS else None


def _extension(name: str) -> str:
    """What `PurePosixPath.suffix` says, in lower case; a million paths take seconds less."""
    last = name.rpartition("/")[2]
    dot = last.rfind(".")
    return last[dot:].lower() if 0 < dot < len(last) - 1 else ""


def is_excluded(name: str, exclude: Sequence[str]) -> bool:
    """Whether one of the patterns fits the "/"-separated path `name`, see `find_pictures`."""
    if not exclude:
        return False
    name = nfc(name).casefold()
    patterns = [nfc(pattern.replace(os.sep, "/")).strip("/").casefold() for pattern in exclude]
    return any(fnmatchcase(name if "/" in pattern else name.rpartition("/")[2], pattern) for pattern in patterns)


@dataclass(frozen=True)
class FilePaths(Sequence[Path]):
    """Files below a folder. Each path is made when it is asked for: a million of them take many seconds.

    Attributes:
        root: the folder.
        names: relative paths, "/"-separated.
    """

    root: Path
    names: Sequence[str]

    def __len__(self) -> int:
        """The number of files."""
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Path: ...
    @overload
    def __getitem__(self, index: slice) -> FilePaths: ...
    def __getitem__(self, index: int | slice) -> Path | FilePaths:
        """One file, or some."""
        return FilePaths(self.root, self.names[index]) if isinstance(index, slice) else self.root / self.names[index]


@dataclass(frozen=True, kw_only=True)
class PictureFolder:
    """What was found below a folder.

    Attributes:
        root: the folder.
        names: the relative paths of the picture files, "/"-separated, in code-point order.
        folders: names, as on disk, of the folders directly in it that may be an artist's, in code-point order: not
            those that were passed over or hold nothing but results of ours.
        passed_over: path relative to `root` of every other file, and of every folder that was not searched → reason.
        unreadable: those of these folders that could not be read, and the reasons: pictures may be missing.
    """

    root: Path
    names: list[str]
    folders: list[str]
    passed_over: dict[str, str]
    unreadable: Sequence[tuple[Path, str]]

    @property
    def images(self) -> FilePaths:
        """The picture files, in the order of their names."""
        return FilePaths(self.root, self.names)

    def name(self, image: Path) -> str:
        """The path of `image` relative to the root, "/"-separated."""
        return relative_name(image, self.root)

    def artist(self, image: Path) -> str:
        """Whose picture `image` is, see `artist_of`; a loose one is of the artist that the root is named after."""
        return artist_of(self.name(image)) or nfc(self.root.resolve().name)

    def without_loose(self) -> PictureFolder:
        """The same with the pictures that lie directly in the root among what is passed over."""
        loose = [name for name in self.names if "/" not in name]
        if not loose:
            return self
        reasons = dict.fromkeys(loose, "a picture in no artist's folder")
        return replace(self, names=[name for name in self.names if "/" in name],
                       passed_over=self.passed_over | reasons)

    def without_folders(self) -> PictureFolder:
        """The same without what lies in folders below the root; the pictures there are among what is passed over."""
        inside = dict.fromkeys((name for name in self.names if "/" in name),
                               "a picture in a sub-folder, without --recursive")
        outside = {name: reason for name, reason in self.passed_over.items() if "/" not in name}
        return replace(self, names=[name for name in self.names if "/" not in name], folders=[], unreadable=[],
                       passed_over=outside | inside)

    def of_artists(self) -> PictureFolder:
        """`without_loose`, unless all pictures are loose: then the root is the folder of one artist."""
        artists = self.without_loose()
        return artists if artists.names else self

    def report(self, used: Collection[str] = ()) -> list[str]:
        """What was passed over: a line for each reason with the number of names and the first of them.

        Files that are `used` after all, such as label files, are left out.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        for name, reason in sorted(self.passed_over.items()):
            if name not in used:
                groups[reason].append(as_text(name))
        return [f"passed over: {len(names)} ({reason}): {', '.join(names[:_NAMES_SHOWN])}"
                f"{', …' if len(names) > _NAMES_SHOWN else ''}" for reason, names in sorted(groups.items())]


def find_pictures(folder: str | os.PathLike[str], *, recursive: bool = True, extensions: Collection[str] = (),
                  exclude: Sequence[str] = (), tars: bool = False) -> PictureFolder:
    """The pictures below `folder`, and what else is there.

    A file is a picture if its extension is one of pictures, or unknown and the content begins like a picture. Hidden
    files and folders, `SYSTEM_FOLDERS` and what our commands wrote are passed over. Links to folders are followed, but
    below each folder of the root each real folder is read once.

    Args:
        folder: the root, which is searched whatever its name.
        recursive: take the pictures in its sub-folders, too; else they are counted.
        extensions: lower case with a dot; if given, they alone decide, in any case.
        exclude: patterns with * and ? of files and folders to pass over, in any case and in NFC: of names, or with a
            "/" of whole paths below the root.
        tars: search tar files as if they were folders where there is no picture beside them.

    Raises:
        UserError: the folder is missing or cannot be read, or a tar. A folder below it that cannot be read is passed
            over.
    """
    found = _Search(Path(folder), frozenset(extensions), tuple(exclude)).run()
    if tars and not found.names:
        found = _open_tars(found, exclude)
    return found if recursive else found.without_folders()


def _open_tars(found: PictureFolder, exclude: Sequence[str]) -> PictureFolder:
    """`found`, in which no picture lies, with those in its tar files."""
    tars = [name for name, reason in found.passed_over.items() if reason == f"no picture, {TAR}"]
    inside = {f"{tar}/{name}": problem for tar in tars for name, problem in tar_content(found.root / tar, exclude)}
    passed_over = {name: reason for name, reason in found.passed_over.items() if name not in {*tars}}
    passed_over |= {name: problem for name, problem in inside.items() if problem}
    return replace(found, names=sorted(name for name, problem in inside.items() if not problem),
                   passed_over=dict(sorted(passed_over.items())))


def tar_content(tar: Path, exclude: Sequence[str] = ()) -> Iterator[tuple[str, str | None]]:
    """The path of all that lies in a tar, and why it is passed over; None for a picture.

    Raises:
        UserError: it cannot be read, is cut off or damaged, or holds a name that leads out of it.
    """
    try:
        index = index_tar(tar)
        yield from index.passed_over.items()
        for name, member in index.members.items():
            yield name, _member_problem(tar, name, member, exclude)
    except OSError as error:
        reason = error if isinstance(error, TarError) else error.strerror
        raise UserError(f"{tar}, which is damaged or no tar file ({reason})", "a whole, uncompressed .tar file",
                        "copy it again, or unpack it and pack it anew") from error


def _member_problem(tar: Path, name: str, member: Member, exclude: Sequence[str]) -> str | None:
    """Why a file in a tar is passed over; None for a picture."""
    if is_excluded(name, exclude):
        return "--exclude"
    last = name.rpartition("/")[2]
    if last.startswith("."):
        return "a hidden file"
    known = picture_name(last)
    if known is None:
        known = SIGNATURE.match(read_member(tar, Member(member.offset, min(member.size, SIGNATURE_BYTES)))) is not None
    return None if known else f"no picture, {_extension(last) or 'no ending'}"


class _Search:
    """One walk through a folder."""

    def __init__(self, root: Path, extensions: frozenset[str], exclude: tuple[str, ...]) -> None:
        self.root, self.extensions, self.exclude = root, extensions, exclude
        self.images: list[str] = []
        self.holding: set[str] = set()  # relative paths of the folders that these are in
        self.passed_over: dict[str, str] = {}
        self.unreadable: dict[str, str] = {}
        self.outputs: dict[str, str] = {}  # relative path of a folder of ours → what it is

    def run(self) -> PictureFolder:
        folders: list[str] = []
        for parent, subfolders, files in self._walk():
            if not parent:
                folders = list(subfolders)
            self._sort_files(parent, files)
        holding = self.holding | {parent for name in self.holding for parent in _parents(name)}
        self._join_outputs(holding)
        ours = {name.partition("/")[0] for name in self.passed_over if name in self.outputs}
        return PictureFolder(
            root=self.root, names=sorted(self.images),
            folders=sorted(name for name in folders if name in holding or name not in ours | self.passed_over.keys()),
            passed_over=dict(sorted(self.passed_over.items())), unreadable=[
                (self.root / name, problem) for name, problem in self.unreadable.items() if name in self.passed_over])

    def _walk(self) -> Iterator[tuple[str, list[str], list[str]]]:
        """Each searched folder relative to the root ("" is the root), its folders to be searched and its files.

        Links come last: a folder is read under its own name if it has one here.
        """
        starts, visited, root = [""], {("", os.path.realpath(self.root))}, os.path.join(self.root, "")
        for start in starts:
            real_start, pending = os.path.join(os.path.realpath(os.path.join(self.root, start)), ""), [start]
            while pending:
                parent = pending.pop()
                path, below = root + parent, parent[len(start):].lstrip("/")
                try:
                    subfolders, links, files = _list_folder(path)
                except OSError as error:
                    self._note_unreadable(parent, error)
                    continue
                # No folder between `start` and `parent` is a link; but junctions of Windows do not count as links.
                real = os.path.realpath(path) if os.name == "nt" or not below else real_start + below
                if parent and not self._is_searched(parent, real, files, visited):
                    continue
                if output := _output_kind([*files, *subfolders]):
                    self.outputs[parent] = output
                kept = self._keep_folders(parent, subfolders)
                starts += [_join(parent, name) for name in kept if name in links]
                pending += [_join(parent, name) for name in reversed(kept) if name not in links]
                yield parent, kept, files

    def _is_searched(self, folder: str, real: str, files: Collection[str], visited: set[tuple[str, str]]) -> bool:
        """Whether a folder below the root, in truth `real`, is searched; else notes why not."""
        if not visited.isdisjoint({("", real), (folder.partition("/")[0], real)}):
            self.passed_over[folder] = "a link to a folder that is searched already"
            return False
        visited.add((folder.partition("/")[0], real))
        if MARKER in files:
            self.passed_over[folder] = self.outputs[folder] = "made by a command of this project"
            return False
        return True

    def _keep_folders(self, parent: str, folders: Sequence[str]) -> list[str]:
        """Those of the folders in `parent` that are not passed over because of their name, sorted."""
        if not folders:
            return []
        problems = {name: self._name_problem(_join(parent, name), folder=True) for name in sorted(folders)}
        self.passed_over |= {_join(parent, name): problem for name, problem in problems.items() if problem}
        return [name for name, problem in problems.items() if not problem]

    def _note_unreadable(self, folder: str, error: OSError) -> None:
        if not folder:
            raise UserError(f"the folder {self.root}: {error.strerror}", "a folder that can be read", "check the path")
        self.passed_over[folder] = self.unreadable[folder] = f"a folder that cannot be read: {error.strerror}"

    def _name_problem(self, name: str, *, folder: bool) -> str | None:
        """Why a file or folder is passed over because of its name, or None."""
        last, kind = name.rpartition("/")[2], "folder" if folder else "file"
        if is_excluded(name, self.exclude):
            return "--exclude"
        if last.startswith("."):
            return f"a hidden {kind}"
        return "a system folder" if folder and last.casefold() in SYSTEM_FOLDERS else None

    def _sort_files(self, parent: str, files: Sequence[str]) -> None:
        before, start = len(self.images), f"{parent}/" if parent else ""
        for file in files:
            name = start + file
            if self._is_plain(file):  # a million of them take a second
                self.images.append(name)
                continue
            is_ours = file in OUTPUT_PICTURES or file.endswith("_result.png")
            problem = self._name_problem(name, folder=False) or (
                self.outputs.get(parent) if is_ours else None) or self._file_problem(name)
            if problem:
                self.passed_over[name] = problem
            else:
                self.images.append(name)
        if parent and len(self.images) > before:
            self.holding.add(parent)

    def _is_plain(self, file: str) -> bool:
        """Whether a file of this name is a picture whatever else there is; false where that takes a closer look."""
        return (file[0] != "." and not self.exclude and not self.extensions and file not in OUTPUT_PICTURES
                and not file.endswith("_result.png") and picture_name(file) is True)

    def _file_problem(self, name: str) -> str | None:
        extension = _extension(name)
        counts = extension in self.extensions if self.extensions else picture_name(name)
        if counts is None:
            counts = _begins_like_picture(self.root / name)
        return None if counts else f"no picture, {extension or 'no ending'}"

    def _join_outputs(self, holding: Collection[str]) -> None:
        """Name a folder of ours once, instead of its files, where nothing in it or below is a picture."""
        whole = {folder for folder in self.outputs if folder and folder not in holding}
        for name in list(self.passed_over):
            outermost = next((folder for folder in _parents(name) if folder in whole), None)
            if outermost:
                del self.passed_over[name]
                self.passed_over[outermost] = self.outputs[outermost]


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _parents(name: str) -> Iterator[str]:
    """The folders above `name`, outermost first."""
    return (name[:place.start()] for place in re.finditer("/", name))


def _list_folder(path: str) -> tuple[list[str], set[str], list[str]]:
    """The names of folders in a folder, those of them that are links, and the names of all other files."""
    folders, links, files = [], set[str](), []
    with os.scandir(path) as entries:
        for entry in entries:
            if not _is_folder(entry):
                files.append(entry.name)
                continue
            folders.append(entry.name)
            if entry.is_symlink():
                links.add(entry.name)
    return folders, links, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # such as a link that leads to itself
        return False


def _output_kind(names: Sequence[str]) -> str | None:
    """What a folder with these files and folders holds, if a command of ours wrote it."""
    if not OUTPUT_FILES.keys().isdisjoint(names):
        return next(OUTPUT_FILES[name] for name in names if name in OUTPUT_FILES)
    together = "/".join(names)
    return next((what for part, (pattern, what) in _OUTPUT_PATTERNS.items()
                 if part in together and any(map(pattern.fullmatch, names))), None)


def _begins_like_picture(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with open(path, "rb") as file:
            return SIGNATURE.match(file.read(SIGNATURE_BYTES)) is not None
    except OSError:
        return False


# ---- inputs ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The files that a command line names.

    Attributes:
        images: in the order given; a folder stands for its pictures.
        folders: what was found in each folder.
    """

    images: list[Path]
    folders: list[PictureFolder]


def expand_inputs(inputs: Sequence[str], *, recursive: bool, exclude: Sequence[str] = ()) -> Inputs:
    """The files that `inputs` name.

    Args:
        inputs: paths of files and folders, patterns of such (`expand_wildcard`), or `@` and the path of a UTF-8 text
            file with one path a line, there also as result files write it (`as_text`), or in double quotes, as Explorer
            copies it. All are relative to the current folder.
        recursive: search the sub-folders of folders, too.
        exclude: see `find_pictures`; files that are named themselves stay.

    Raises:
        UserError: an input or a list is missing. A missing file in a list is no error here: it is found when it is
            read.
    """
    paths: list[Path] = []
    for text in inputs:
        if text.startswith("@"):
            paths += _read_list(Path(text[1:]))
            continue
        expanded = [Path(path) for path in expand_wildcard(text)]
        if not expanded[0].exists():
            raise UserError(f"no {text}", "a picture, a folder of pictures or @list.txt", "check --inputs")
        paths += expanded
    found = [find_pictures(path, recursive=recursive, exclude=exclude) if path.is_dir() else path for path in paths]
    folders = [each for each in found if isinstance(each, PictureFolder)]
    return Inputs(images=[image for each in found
                          for image in (each.images if isinstance(each, PictureFolder) else [each])], folders=folders)


def _read_list(path: Path) -> list[Path]:
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"the list {path}: {error.strerror}", "a text file with one path a line",
                        "check --inputs") from error
    except UnicodeDecodeError as error:
        raise UserError(f"bytes that are not UTF-8 in the list {path}", "a text file in UTF-8",
                        "save it as UTF-8 (PowerShell: Set-Content -Encoding utf8)") from error
    return [_listed_path(line) for line in split_lines(text) if line.strip()]


def _listed_path(line: str) -> Path:
    if os.path.lexists(line):
        return Path(line)
    quoted = re.fullmatch(r'\s*"(.+)"\s*', line)
    return _listed_path(quoted[1]) if quoted else Path(from_text(line))
