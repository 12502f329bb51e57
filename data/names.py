"""Names of artists, folders and pictures: one spelling on every system, and which names can be stored."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

# What no line of a text file can hold: control characters, line ends, and bytes that are no UTF-8 as Python has them.
_UNFIT = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_CODE = r"u(00[0189][0-9a-f]|007f|202[89]|d[89a-f][0-9a-f]{2}|feff|005c)"  # of these, of U+FEFF and of a backslash
_ESCAPED = re.compile(rf"[{_UNFIT}\ufeff]|\\(?={_CODE})")  # readers take a U+FEFF at the start for the file's own mark
_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def nfc(name: str) -> str:
    """`name` in Unicode's composed form: macOS spells the same name otherwise than Windows and Linux."""
    return unicodedata.normalize("NFC", name)


def relative_name(path: str | Path, root: Path) -> str:
    """The path from `root` to `path`, which lies below it, "/"-separated."""
    text, start = os.fspath(path), f"{root}{os.sep}"
    if text.startswith(start):  # a tenth of the time, which counts with a million pictures
        return text[len(start):].replace(os.sep, "/")
    return Path(path).relative_to(root).as_posix()


def as_text(name: str | Path, *, below: Path | None = None) -> str:
    r"""`name`, a path of any bytes, as result files and messages hold it: `\u000a` for a line feed, and so on.

    What a line of UTF-8 can hold stays. No two names become one; `from_text` is the inverse. With `below`, a folder, it
    is the path from there, "/"-separated; `named_file` is the inverse of that.
    """
    text = str(name) if below is None else relative_name(name, below)
    return _ESCAPED.sub(lambda sign: f"\\u{ord(sign[0]):04x}", text)


def from_text(text: str) -> str:
    """The name that `as_text` turned into `text`."""
    return re.sub(rf"\\{_CODE}", lambda code: chr(int(code[1], 16)), text)


def named_file(folder: Path, name: str) -> Path:
    """The file below `folder` whose relative path result files hold as `name`."""
    return folder / from_text(name)


def line_problem(text: str) -> str | None:
    """Why `text` cannot stand on one line of a UTF-8 text file, or None if it can; every class and label must.

    Spaces of any script and joiners (U+3000, U+00A0, U+200D) belong to names.
    """
    return "holds control characters or no valid Unicode" if re.search(f"[{_UNFIT}]", text) else None


def folder_name_problem(name: str) -> str | None:
    """Why a folder cannot be called `name` on every system ("holds ':'"), or None if it can; Windows is strictest."""
    forbidden = next((sign for sign in name if sign in '<>:"/\\|?*' or unicodedata.category(sign) == "Cc"), None)
    if forbidden:
        return f"holds {forbidden!r}"
    if problem := line_problem(name):
        return problem
    if name.endswith((".", " ")):
        return "ends with a dot or a space"
    if name.startswith("."):
        return "starts with a dot, as hidden folders do"
    return "is a device on Windows" if name.partition(".")[0].upper() in _WINDOWS_DEVICES else None


def folder_name(text: str, parent: Path) -> str:
    """A name like `text` that a folder in `parent` can have on every system; different texts may become one."""
    name = re.sub(rf'[<>:"/\\|?*{_UNFIT}]', "_", nfc(text)).rstrip(". ")
    name = fit_file_name(name, "", parent).rstrip(". ")
    return name if name and folder_name_problem(name) is None else f"_{name}"


def fit_file_name(start: str, end: str, folder: Path) -> str:
    """`start` + `end`; where no file in `folder` can be called so, less of `start`, its digest, and `end`.

    There is room for the temporary name that `utils.atomic_path` needs.
    """
    longest = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else 255  # Windows counts letters
    room = longest - len("..partial") - len(os.fsencode(end))
    encoded = os.fsencode(start)
    if len(encoded) <= room:
        return start + end
    digest = "-" + hashlib.blake2b(encoded, digest_size=4).hexdigest()
    return encoded[:room - len(digest)].decode("utf-8", "ignore") + digest + end
