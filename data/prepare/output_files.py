"""Single files that a command writes where users say: asked for before anything is replaced."""

from __future__ import annotations

import os
from pathlib import Path

from data.prepare.output_folder import ask_to_replace
from utils import UserError


def claim_csv_files(*targets: Path, overwrite: bool) -> None:
    """Make sure that each of `targets` may be written; those that exist are asked about, unless `overwrite`.

    Raises:
        UserError: one has another ending than .csv, so that it may be a source; one is a folder; two are one file; or
            the answer was no.
    """
    for target in targets:
        if target.suffix.lower() != ".csv" or target.is_dir():
            raise UserError(f"the output {target}", "a file whose name ends in .csv", "correct the path")
    if len({os.path.realpath(target) for target in targets}) < len(targets):
        raise UserError(f"one file {targets[0]} for several outputs", "a file for each", "correct the paths")
    for target in targets:
        if target.exists() and not overwrite:
            ask_to_replace(target, "exists")
