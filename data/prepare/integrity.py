"""Which pictures are damaged: every one decoded once, in parallel, and the verdict remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL

from data.images import DEFAULT_MAX_PIXELS, ImageError, decode_image
from data.worker_pool import Progress, map_ordered
from utils import write_text

SCAN_CACHE = ".image_scan.json"  # what the cache is called in a folder that holds other things

# Path as given (made absolute) → [size in bytes, mtime in ns, reason or None].
_Verdicts = dict[str, list[Any]]


def scan_images(paths: Sequence[Path], *, cache: Path | None = None, workers: int = 0,
                max_pixels: int = DEFAULT_MAX_PIXELS, progress: Progress | None = None) -> dict[Path, str]:
    """The damaged ones of `paths` with the reason, in the order given.

    Every picture is decoded in full, so one that passes will not fail later. With `cache`, a file of known path, size
    and modification time is not opened again; verdicts gathered before an interruption are kept, too.

    Args:
        paths: picture files.
        cache: a JSON file for the verdicts. One that cannot be read or was made with another limit or another Pillow
            is replaced; one that cannot be written costs only the next scan's time.
        workers: processes that decode; 0 decodes in this one.
        max_pixels: pictures whose header claims more are damaged, px.
        progress: wraps the iteration over the files that must be opened, called with it and their number.
    """
    made_with = {"format": 1, "max_pixels": max_pixels, "pillow": PIL.__version__}
    known = _read_verdicts(cache, made_with) if cache else {}
    stamps = {path: _stamp(path) for path in paths}
    # A file without a stamp (missing, say) is decoded for its reason, and never remembered.
    fresh = [path for path, stamp in stamps.items() if stamp is None or known.get(_key(path), [])[:2] != stamp]
    unstamped: dict[Path, str | None] = {}
    check = functools.partial(_reason_if_damaged, max_pixels=max_pixels)
    try:
        results = map_ordered(check, fresh, workers=workers, progress=progress)
        for path, reason in zip(fresh, results, strict=True):
            if stamps[path] is None:
                unstamped[path] = reason
            else:
                known[_key(path)] = [*stamps[path], reason]
    finally:
        if cache and fresh:
            _write_verdicts(cache, made_with, known)
    reasons = {path: unstamped[path] if stamp is None else known[_key(path)][2] for path, stamp in stamps.items()}
    return {path: reason for path, reason in reasons.items() if reason is not None}


def _reason_if_damaged(path: Path, max_pixels: int) -> str | None:
    try:
        decode_image(path, max_pixels=max_pixels)
    except ImageError as error:
        return error.reason
    return None


def _key(path: Path) -> str:
    return os.path.abspath(path)


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _read_verdicts(cache: Path, made_with: dict[str, Any]) -> _Verdicts:
    try:
        content = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("made_with") != made_with:
        return {}
    files = content.get("files")
    return {path: verdict for path, verdict in files.items()
            if isinstance(verdict, list) and len(verdict) == 3} if isinstance(files, dict) else {}


def _write_verdicts(cache: Path, made_with: dict[str, Any], verdicts: _Verdicts) -> None:
    # Escaped to ASCII: a file name that is no valid Unicode must not stop a scan.
    with contextlib.suppress(OSError):
        write_text(cache, json.dumps({"made_with": made_with, "files": verdicts}))


def find_copies(paths: Sequence[Path], *, workers: int = 0, progress: Progress | None = None) -> list[list[Path]]:
    """Groups of two or more files with the same bytes, in the order of their first file; only equal sizes are read.

    Args:
        paths: readable files.
        workers: processes that read; 0 reads in this one.
        progress: wraps the iteration over the files that must be read, called with it and their number.
    """
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    candidates = [path for path in paths if len(by_size[path.stat().st_size]) > 1]
    groups: dict[bytes, list[Path]] = defaultdict(list)
    for path, digest in zip(candidates, map_ordered(_digest, candidates, workers=workers, progress=progress),
                            strict=True):
        groups[digest].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
