"""Inference over a folder: answers to a journal, which an interruption leaves to go on with, and from it to files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.journal import UNFINISHED, Journal
from inference.predictor import Predictor
from inference.records import Describe, records
from inference.shards import parse_shard, shard_folder, shard_of
from runtime.arguments import flag
from runtime.logbook import progress
from runtime.options import InferenceOptions


@dataclass(frozen=True, kw_only=True)
class FolderOptions:
    """A folder of many pictures."""

    resume: bool = flag(False, "go on with the unfinished run in the output folder; begin where there is none")
    shard: str | None = flag(None, "i/n: only the i-th of n parts, for n machines; tools/merge_shards.py puts them "
                                   "together")


def run_folder(predictor: Predictor, pictures: Sequence[Path], folder: Path, output: Path, describe: Describe, *,
               what: dict[str, Any], options: FolderOptions, network: InferenceOptions) -> Journal:
    """Answer every picture of a folder, or of a shard; the journal with all answers, below `output`.

    Args:
        predictor: of the network.
        pictures: all of the folder, in order.
        folder: names in the journal are relative to it.
        output: folder of the results.
        describe: from results to their records.
        what: plain Python that tells this `describe` from others; another run's answers are not mixed in.
        options: how the work is divided and resumed.
        network: how pictures are loaded.

    Raises:
        UserError: the unfinished run there is another one.
        Interrupted: Ctrl-C.
    """
    size = min(network.batch_size, len(pictures))
    about = {"pictures": len(pictures), "digest of names": _digest(pictures, folder), "model": predictor.fingerprint,
             "precision": str(predictor.placement), "batch_size": size, **what,
             **{name: getattr(network, name) for name in ("compile", "view", "draft", "max_pixels")}}
    where = output / UNFINISHED
    if options.shard:
        number, count = parse_shard(options.shard)
        pictures, where = shard_of(pictures, number, count, size), shard_folder(output, number, count)
        about |= {"pictures": len(pictures), "shard": options.shard}
    journal = (Journal.resume(where, about, batch_size=size) if options.resume else Journal.begin(where, about))
    answers = progress(predictor.answer(pictures, network, start=journal.done), len(pictures), journal.done)
    journal.extend(records(answers, folder, describe, together=size), batch_size=size)
    return journal


def _digest(pictures: Sequence[Path], folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for picture in pictures:
        digest.update(picture.relative_to(folder).as_posix().encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()
