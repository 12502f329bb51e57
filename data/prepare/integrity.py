"""Damaged and equal picture files: a parallel scan whose results are remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import PIL

from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_image
from data.side_files import parse_json
from data.tar_files import find_member
from data.worker_pool import Progress, map_ordered
from utils import check_regular_file, read_bytes, write_text

SCAN_CACHE = ".image_scan.json"  # the cache's name in a dataset or run folder
ENDS_PROCESS = "the process that decodes it is ended: damaged, or too large for the memory"

Picture = TypeVar("Picture", str, Path)


class _Verdict(msgspec.Struct, array_like=True, gc=False):
    """The result of a scan, for a file of this size in bytes and modification time in ns; None is sound."""

    size: int
    modified: int
    reason: str | None


class _Cache(msgspec.Struct):
    """The cache file: what it was made with, and a verdict by path."""

    made_with: dict[str, Any]
    files: dict[str, _Verdict]


def scan_images(paths: Sequence[Picture], *, cache: Path | None = None, workers: int | None = 0,
                max_pixels: int = DEFAULT_MAX_PIXELS, progress: Progress | None = None) -> dict[Picture, str]:
    """The damaged files of `paths` with the reason, in the order given.

    Every picture is decoded in full, so one that passes will not fail later. With `cache`, a file of known path, size
    and modification time is not opened again, not even after an interruption.

    Args:
        paths: picture files.
        cache: a JSON file of results. It is replaced if it cannot be read or was made with another limit or Pillow. If
            it cannot be written, the next scan takes longer.
        workers: processes that decode, see `map_ordered`.
        max_pixels: pictures whose header claims more are damaged, px.
        progress: see `map_ordered`.
    """
    made_with = {"format": 1, "max_pixels": max_pixels, "pillow": PIL.__version__}
    known = _read_cache(cache, made_with) if cache else {}
    # A file without a stamp (a missing one) is decoded for its reason, and never remembered; nor is one that ended its
    # process, perhaps because memory was short that day.
    stamps: dict[Picture, tuple[int, int] | None] = {}  # of files that are opened: a million others need no entry
    reasons: dict[Picture, str | None] = {}
    for path in paths:
        stamp, verdict = _stamp(path), known.get(_key(path))
        if stamp is None or verdict is None or (verdict.size, verdict.modified) != stamp:
            stamps[path], reasons[path] = stamp, None
        elif verdict.reason is not None:
            reasons[path] = verdict.reason
    fresh = [*stamps]
    check = functools.partial(_find_damage, max_pixels=max_pixels)
    try:
        results = map_ordered(check, fresh, workers=workers, lost=ENDS_PROCESS, progress=progress)
        for path, reason in zip(fresh, results, strict=True):
            stamp, reasons[path] = stamps[path], reason
            if stamp and reason != ENDS_PROCESS:
                known[_key(path)] = _Verdict(*stamp, reason)
    finally:
        if cache and fresh:
            _write_cache(cache, made_with, known)
    return {path: reason for path, reason in reasons.items() if reason is not None}


def _find_damage(path: str | Path, max_pixels: int) -> str | None:
    try:
        decode_image(Path(path), max_pixels=max_pixels)
    except ImageError as error:
        return error.reason
    return None


def _key(path: str | Path) -> str:
    text = os.fspath(path)
    return text if text.startswith("/") and "/../" not in text else os.path.abspath(text)


def _stamp(path: str | Path) -> tuple[int, int] | None:
    try:
        found = find_member(path)
        status = os.stat(found[0] if found else path)
    except OSError:
        return None
    return found[1].size if found else status.st_size, status.st_mtime_ns


def _read_cache(cache: Path, made_with: Mapping[str, object]) -> dict[str, _Verdict]:
    try:
        text = read_bytes(cache)
        try:
            content = msgspec.json.decode(text, type=_Cache)  # a million files in a second
        except (msgspec.MsgspecError, UnicodeError, RecursionError):  # a name that is no valid Unicode
            content = parse_json(text, _Cache)
    except (OSError, ValueError):
        return {}
    return content.files if content.made_with == made_with else {}


def _write_cache(cache: Path, made_with: Mapping[str, object], verdicts: Mapping[str, _Verdict]) -> None:
    # json.dumps escapes to ASCII, so a file name that is no valid Unicode can be written.
    files = {path: (each.size, each.modified, each.reason) for path, each in verdicts.items()}
    with contextlib.suppress(OSError):
        write_text(cache, json.dumps({"made_with": made_with, "files": files}))


def find_copies(paths: Sequence[Path], *, workers: int | None = 0,
                progress: Progress | None = None) -> list[list[Path]]:
    """Groups of two or more files with the same bytes, in the order of their first file; only equal sizes are read.

    `workers` and `progress` are those of `map_ordered`.
    """
    sizes = [path.stat().st_size for path in paths]
    counts = Counter(sizes)
    candidates = [path for path, size in zip(paths, sizes, strict=True) if counts[size] > 1]
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path, digest in zip(candidates, map_ordered(file_digest, candidates, workers=workers, progress=progress),
                            strict=True):
        groups[digest].append(path)
    return [group for group in groups.values() if len(group) > 1]


def file_digest(path: Path) -> bytes:
    """16 bytes that tell the content of a file from any other.

    Raises:
        OSError: it cannot be read, or see `check_regular_file`.
    """
    digest = hashlib.blake2b(digest_size=16)
    check_regular_file(path)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
