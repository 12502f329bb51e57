"""Reader of training logs as JSON lines: our metrics.jsonl, and logs as LSNet's authors and others publish them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from data.side_files import parse_json, read_lines, unreadable
from utils import UserError

# Published key -> ours. There, epochs count from 0.
PUBLISHED_KEYS = {"train_loss": "train_loss", "train_lr": "lr", "test_loss": "val_loss", "test_acc1": "val_top1",
                  "test_acc5": "val_top5"}
MARKS = ("test_loss", "test_acc1", "train_lr")  # keys that only published logs have
LARGEST_VALUE = 1e30
_Epoch = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log by epoch, with the keys of metrics.jsonl; of two records of an epoch the later one counts.

    Lines that are no JSON object with an `epoch`, such as a header or a truncated line, are skipped, and so are values
    that are neither null nor a number of up to `LARGEST_VALUE`.

    Raises:
        UserError: the file cannot be read, or has no such line.
    """
    try:
        records = [record for record in map(_parse_line, read_lines(path)) if record]
    except OSError as error:
        raise unreadable(path, error, expected="a log of training", action="check the path") from error
    if not records:
        raise UserError(f"no epoch in {path}", "one JSON object per line, with the key epoch",
                        "name the metrics.jsonl of a run, or a published log")
    return [*{record["epoch"]: record for record in sorted(records, key=lambda record: record["epoch"])}.values()]


def _parse_line(line: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(line, dict[str, Any])
        epoch = msgspec.convert(found.get("epoch"), _Epoch)
    except ValueError:
        return None
    found = {key: value for key, value in found.items() if value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_VALUE)}
    if not any(key in found for key in MARKS):
        return found
    return {"epoch": epoch + 1, **{ours: found[theirs] for theirs, ours in PUBLISHED_KEYS.items() if theirs in found}}
