"""A folder's pictures shared among machines: which part is whose, and the parts together again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from inference.journal import Journal
from utils import UserError

PATTERN = re.compile(r"shard_(\d+)_of_(\d+)")


def parse_shard(text: str) -> tuple[int, int]:
    """Number, from 1, and count of a shard written `i/n`.

    Raises:
        UserError: it is not written so, or i is not one of 1 to n.
    """
    parts = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    number, count = map(int, parts.groups()) if parts else (0, 0)
    if not 1 <= number <= count:
        raise UserError(f"--shard {text}", "i/n with i from 1 to n", "for example --shard 2/4 on the second of four")
    return number, count


def shard_folder(output: Path, number: int, count: int) -> Path:
    """Where the journal of a shard lies below the output folder."""
    return output / f"shard_{number}_of_{count}"


def shard_of(pictures: Sequence[Path], number: int, count: int, batch_size: int) -> Sequence[Path]:
    """Shard `number` of `count`: consecutive whole batches, so that every batch is that of an undivided run."""
    batches = -(-len(pictures) // batch_size)
    start, end = (batches * part // count * batch_size for part in (number - 1, number))
    return pictures[start:end]


def find_shards(folders: Sequence[Path]) -> list[Journal]:
    """The journals of all shards of one run, in order.

    Raises:
        UserError: none, one is missing, unfinished or given twice, or they do not belong together.
    """
    found = [(int(match[1]), int(match[2]), path) for folder in folders if folder.is_dir()
             for path in sorted(folder.iterdir()) if (match := PATTERN.fullmatch(path.name))]
    if not found:
        raise UserError(f"no shard in {', '.join(map(str, folders))}", "folders such as shard_1_of_4",
                        "give the --output of the runs with --shard")
    count = found[0][1]
    numbers = sorted(number for number, _, _ in found)
    if {each for _, each, _ in found} != {count} or numbers != list(range(1, count + 1)):
        names = ", ".join(path.name for _, _, path in found)
        raise UserError(f"the shards {names}", f"shard_1_of_{count} to shard_{count}_of_{count}, each once",
                        "run what is missing, and take away what belongs to another run")
    journals = [Journal.read(path) for _, _, path in sorted(found)]
    first = {**journals[0].about, "pictures": None, "shard": None}
    for journal in journals:
        if journal.done < journal.about["pictures"]:
            raise UserError(f"{journal.folder} with {journal.done} of {journal.about['pictures']} pictures", "all",
                            "finish it: the same command with --resume")
        if {**journal.about, "pictures": None, "shard": None} != first:
            raise UserError(f"{journal.folder}, which differs from {journals[0].folder} in pictures, network or flags",
                            "shards of one run", "run one of them again")
    return journals
