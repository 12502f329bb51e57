"""Reader of training logs as JSON lines: our metrics.jsonl, and logs as LSNet's authors and others publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from utils import UserError

# Published key -> ours. There, epochs count from 0.
PUBLISHED_KEYS = {"train_loss": "train_loss", "train_lr": "lr", "test_loss": "val_loss", "test_acc1": "val_top1",
                  "test_acc5": "val_top5"}
MARKS = ("test_loss", "test_acc1", "train_lr")  # keys that only published logs have


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log by epoch, with the keys of metrics.jsonl; of two records of an epoch the later one counts.

    Lines that are no JSON object with an `epoch`, such as a header or a truncated line, are skipped.

    Raises:
        UserError: the file cannot be read, or has no such line.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}", "a log of training", "check the path") from error
    records = [record for record in map(_parse_line, lines) if record]
    if not records:
        raise UserError(f"no epoch in {path}", "one JSON object per line, with the key epoch",
                        "name the metrics.jsonl of a run, or a published log")
    return [*{record["epoch"]: record for record in sorted(records, key=lambda record: record["epoch"])}.values()]


def _parse_line(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("epoch"), int):
        return None
    if not any(key in found for key in MARKS):
        return found
    return {"epoch": found["epoch"] + 1, **{ours: found[theirs] for theirs, ours in PUBLISHED_KEYS.items()
                                            if theirs in found}}
