"""Sidecars: the predicted artists of a picture as tags in a text or XMP file of the same name. Needs no torch."""

from __future__ import annotations

import functools
import itertools
import os
import re
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from data.multilabel.grammar import DEFAULT_DELIMITER, format_labels, is_list
from data.multilabel.label_files import choose_label_file
from data.names import as_text, nfc
from data.picture_files import picture_name
from data.side_files import split_lines
from runtime.arguments import flag, flag_name
from utils import UserError, atomic_path, check_writable, counted, is_disk_full, read_bytes, write_text

_DELIMITERS = (DEFAULT_DELIMITER, ";", "|", "\t")
_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">
   <dc:subject>
    <rdf:Bag>
{}
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@dataclass(frozen=True, kw_only=True)
class SidecarOptions:
    """Sidecars."""

    sidecars: Literal["txt", "xmp"] | None = flag(
        None, "write the predicted artists as tags, into a folder with --output: NAME.txt with a comma between, for "
              "trainers of image generators, or NAME.jpg.xmp for photo managers", common=True)
    beside: bool = flag(False, "write them beside the pictures instead")
    overwrite_sidecars: bool = flag(False, "replace existing files with other content, and keep the old ones as "
                                           "NAME.txt.bak; without this flag they stay")

    extend_sidecars: bool = flag(False, "with txt: add the tags to existing files, at the end, and keep the old ones "
                                        "as NAME.txt.bak")

    def check(self, pictures: Iterable[Path]) -> None:
        """Raise a `UserError` if the flags contradict each other, or folders of `pictures` may not be written to."""
        useless = [name for name in ("beside", "overwrite_sidecars", "extend_sidecars") if getattr(self, name)]
        if useless and not self.sidecars:
            raise UserError(f"{flag_name(useless[0])} without --sidecars", "both", "add --sidecars txt or xmp")
        if self.extend_sidecars and self.sidecars == "xmp":
            raise UserError("--extend-sidecars with --sidecars xmp", "text files", "take --sidecars txt")
        if self.extend_sidecars and self.overwrite_sidecars:
            raise UserError("--extend-sidecars with --overwrite-sidecars", "one of them", "leave one of the two away")
        if self.beside:
            for folder in {picture.parent for picture in pictures}:
                check_writable(folder, "--beside")


@dataclass(kw_only=True)
class SidecarOutcome:
    """What was done.

    Attributes:
        delimiter: between the tags of text files.
        written: number of files.
        there: number of files that said the same before.
        without: number of pictures without a tag.
        kept: files that say something else, and stay.
        failed: pictures whose sidecar could not be written, and why.
    """

    delimiter: str
    written: int = 0
    there: int = 0
    without: int = 0
    kept: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What is printed of it."""
        yield from (f"no sidecar: {as_text(str(path))} ({reason})" for path, reason in self.failed)
        details = [f"{self.there} said the same before"] * bool(self.there) + [
            f"{counted(self.without, 'picture')} without a known artist"] * bool(self.without)
        yield f"{counted(self.written, 'sidecar')} written" + (f" ({'; '.join(details)})" if details else "")
        if self.kept:
            yield (f"{counted(len(self.kept), 'sidecar')} with other content kept, such as "
                   f"{as_text(str(self.kept[0]))}: --overwrite-sidecars replaces them, --extend-sidecars adds to text "
                   "files; both keep a backup")
        if self.delimiter != DEFAULT_DELIMITER:
            yield (f"a tag holds a comma, so that {self.delimiter!r} stands between tags: read them with "
                   f"--label-delimiter {self.delimiter!r}")


def write_sidecars(tagged: Iterable[tuple[Path, Sequence[str]]], names: Collection[str], options: SidecarOptions,
                   places: Mapping[Path, Path]) -> SidecarOutcome:
    """Write a sidecar for each of `tagged`, pictures and their tags, that has a tag.

    What is there and says something else stays, or is extended or replaced and kept as a backup. A picture whose name
    differs from another one's in the ending only has a text file with its whole name, as the readers of label files
    prefer it.

    Args:
        tagged: pictures and tags.
        names: all tags that there may be: text files of one run have one delimiter.
        options: which sidecars.
        places: where each picture would lie beside its sidecar; a picture that is not in it, where it lies.

    Raises:
        UserError: the tags hold every delimiter, or a comma where files are to be extended.
    """
    outcome = SidecarOutcome(delimiter=_choose_delimiter(names) if options.sidecars == "txt" else DEFAULT_DELIMITER)
    if options.extend_sidecars and outcome.delimiter != DEFAULT_DELIMITER:
        raise UserError("an artist's name with a comma and --extend-sidecars", "names that fit between commas",
                        "rename the artist, or write the tags to a folder of their own")
    for picture, tags in tagged:
        if not tags:
            outcome.without += 1
            continue
        place = places.get(picture, picture)
        if options.sidecars == "xmp":
            file, text = place.with_name(f"{place.name}.xmp"), format_xmp(tags)
        else:
            file = choose_label_file(place, shared=_stem(picture.name) in _shared_stems(picture.parent))
            text = format_tags(tags, outcome.delimiter)
        try:
            _write(file, extend_tags(file, tags) if options.extend_sidecars and os.path.lexists(file) else text,
                   options.overwrite_sidecars or options.extend_sidecars, outcome)
        except (OSError, ValueError) as error:
            if is_disk_full(error):
                raise
            outcome.failed.append((picture, getattr(error, "strerror", None) or str(error)))
    return outcome


def format_tags(tags: Sequence[str], delimiter: str) -> str:
    """One line with `tags`, none of which holds the delimiter, as the grammar of labels reads it."""
    between = delimiter if delimiter.isspace() else f"{delimiter} "
    return between.join(format_labels({tag: 1}, delimiter) for tag in tags) + "\n"


def extend_tags(file: Path, tags: Sequence[str]) -> str:
    """The text of `file`, and behind it those of `tags` that it lacks: on its line, or on lines of their own.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no UTF-8, or holds a list in JSON or Python.
    """
    text = read_bytes(file).decode("utf-8-sig")
    if is_list(text):
        raise ValueError(f"{file.name} holds a list, which is not extended")
    known = {nfc(tag.strip()) for line in split_lines(text) for tag in line.split(DEFAULT_DELIMITER)}
    body = text.rstrip().removesuffix(DEFAULT_DELIMITER).rstrip()
    new = [form for tag in tags if (form := format_labels({tag: 1})) not in known]
    between = "\n" if "\n" in body else f"{DEFAULT_DELIMITER} "
    return between.join([*[body] * bool(body), *new]) + "\n" if new else text


def format_xmp(tags: Sequence[str]) -> str:
    """An XMP packet with `tags` as keywords (dc:subject).

    **Source:** ISO 16684-1, XMP specification, part 1.
    """
    fit = (re.sub("[\ufffe\uffff]", "\ufffd", tag) for tag in tags)  # signs that no XML can hold
    return _XMP.format("\n".join(f"     <rdf:li>{escape(tag)}</rdf:li>" for tag in fit))


def _choose_delimiter(names: Collection[str]) -> str:
    for delimiter in _DELIMITERS:
        if not any(delimiter in name for name in names):
            return delimiter
    raise UserError("tags that hold , and ; and | and tabs", "one of these that none of them holds",
                    "rename an artist, or take --sidecars xmp")


def _stem(name: str) -> str:
    return nfc(os.path.splitext(name)[0]).casefold()


@functools.cache
def _shared_stems(folder: Path) -> frozenset[str]:
    """Stems that two or more pictures in `folder` have, whatever their case."""
    counts = Counter(_stem(name) for name in os.listdir(folder) if picture_name(name))
    return frozenset(stem for stem, count in counts.items() if count > 1)


def _write(file: Path, text: str, overwrite: bool, outcome: SidecarOutcome) -> None:
    if os.path.lexists(file):
        if read_bytes(file) == text.encode():
            outcome.there += 1
            return
        if not overwrite:
            outcome.kept.append(file)
            return
        _back_up(file)
    write_text(file, text)
    outcome.written += 1


def _back_up(file: Path) -> None:
    """Copy `file` beside itself, under a name that no other content has."""
    content = read_bytes(file)
    for number in itertools.count(1):
        backup = file.with_name(f"{file.name}.bak" + (f"-{number}" if number > 1 else ""))
        if not os.path.lexists(backup):
            with atomic_path(backup) as partial:
                shutil.copyfile(file, partial)
            return
        if backup.is_file() and read_bytes(backup) == content:
            return
