"""Names of artists, folders and pictures: one spelling on every system, and which names can be stored."""

from __future__ import annotations

import unicodedata

_WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def nfc(name: str) -> str:
    """`name` in Unicode's composed form: macOS spells the same name otherwise than Windows and Linux."""
    return unicodedata.normalize("NFC", name)


def line_problem(text: str) -> str | None:
    """Why `text` cannot stand on one line of a UTF-8 text file, or None if it can."""
    unfit = {unicodedata.category(letter) for letter in text} & {"Cc", "Cs", "Zl", "Zp"}
    return "holds control characters or no valid Unicode" if unfit else None


def folder_name_problem(name: str) -> str | None:
    """Why a folder cannot be called `name` on every system ("holds ':'"), or None if it can; Windows is strictest."""
    forbidden = next((sign for sign in name if sign in '<>:"/\\|?*' or unicodedata.category(sign) == "Cc"), None)
    if forbidden:
        return f"holds {forbidden!r}"
    if any(unicodedata.category(letter) == "Cs" for letter in name):
        return "is no valid Unicode"
    if name.endswith((".", " ")):
        return "ends with a dot or a space"
    if name.startswith("."):
        return "starts with a dot, as hidden folders do"
    return "is a device on Windows" if name.partition(".")[0].upper() in _WINDOWS_DEVICES else None
