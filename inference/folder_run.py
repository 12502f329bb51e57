"""Inference over a folder: its records go to a journal, which can be resumed, or to one journal per shard."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from data.names import as_text
from data.picture_files import FilePaths
from inference.journal import ABOUT, UNFINISHED, Journal
from inference.modes import MODES, InferenceRequest
from inference.predictor import Predictor
from inference.records import make_entries
from runtime.options import FolderOptions, InferenceOptions
from runtime.progress import progress
from utils import UserError, counted

if TYPE_CHECKING:
    from inference.ray_workers import RayPredictor

SHARD_FOLDER = re.compile(r"shard_([0-9]{1,6})_of_([0-9]{1,6})")


@dataclass(frozen=True, order=True)
class Shard:
    """Part `number`, from 1, of the `count` parts of a folder's pictures."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard written `i/n`; raises a `UserError` if it is not written so, or i is not one of 1 to n."""
        parts = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        number, count = map(int, parts.groups()) if parts else (0, 0)
        if not 1 <= number <= count:
            raise UserError(f"--shard {text}", "i/n with i from 1 to n",
                            "for example --shard 2/4 on the second of four")
        return cls(number, count)

    def folder(self, output: Path) -> Path:
        """The folder of the shard's journal below the output folder."""
        return output / f"shard_{self.number}_of_{self.count}"

    def part(self, pictures: FilePaths, batch_size: int) -> FilePaths:
        """The shard's pictures: consecutive whole batches, the same batches as in an undivided run."""
        batches = -(-len(pictures) // batch_size)
        start, end = (batches * number // self.count * batch_size for number in (self.number - 1, self.number))
        return pictures[start:end]


def run_folder(predictor: Predictor, pictures: FilePaths, folder: Path, output: Path, request: InferenceRequest, *,
               options: FolderOptions, network: InferenceOptions, workers: RayPredictor | None = None) -> Journal:
    """Run the network on all `pictures` of `folder`, or on a shard; returns the journal with all records.

    The journal lies below `output`; names in it are relative to `folder`. With `workers`, these answer in place of
    `predictor`.

    Raises:
        UserError: the unfinished run there has other pictures, network or flags.
        Interrupted: a signal asked to stop; what is done is kept.
        WorkersLost: a process that loads pictures has died; the same holds.
    """
    size = min(network.batch_size, len(pictures))
    about: dict[str, Any] = {
        "pictures": len(pictures), "digest of names": _digest(pictures.names), "model": predictor.fingerprint,
        "precision": str(predictor.placement) if predictor.backend == "torch" else predictor.backend,
        "batch_size": size, **request.identity(), "compile": network.compile,
        "view": network.view, "max_pixels": network.max_pixels}
    if network.draft:  # earlier versions did so by default: their unfinished runs go on without
        about["draft"] = True
    journal_folder = output / UNFINISHED
    if request.mode.writes_features and predictor.space.feature_kind != "pooled":
        about["space"] = msgspec.to_builtins(predictor.space)
    if options.shard:
        shard = Shard.parse(options.shard)
        pictures, journal_folder = shard.part(pictures, size), shard.folder(output)
        about |= {"pictures": len(pictures), "shard": options.shard}
    journal = (Journal.resume(journal_folder, about, batch_size=size) if options.resume
               else Journal.begin(journal_folder, about))
    answers = (workers or predictor).predict(pictures, network, start=journal.done)
    entries = make_entries(progress(answers, len(pictures), journal.done), folder, request, batch_size=size)
    journal.extend(entries, batch_size=size)
    return journal


def find_shards(folders: Sequence[Path]) -> list[Journal]:
    """The journals of all shards of one run, in order.

    Raises:
        UserError: none, one is missing, unfinished or given twice, or they do not belong together.
    """
    found = [(Shard(int(match[1]), int(match[2])), path) for folder in folders if folder.is_dir()
             for path in sorted(folder.iterdir()) if (match := SHARD_FOLDER.fullmatch(path.name))]
    if not found:
        raise UserError(f"no shard in {', '.join(map(str, folders))}", "folders such as shard_1_of_4",
                        "give the --output of the runs with --shard")
    count = found[0][0].count
    if sorted(shard for shard, _ in found) != [Shard(number, count) for number in range(1, count + 1)]:
        names = ", ".join(path.name for _, path in found)
        raise UserError(f"the shards {names}", f"shard_1_of_{count} to shard_{count}_of_{count}, each once",
                        "run what is missing, and take away what belongs to another run")
    journals = [Journal.read(path) for _, path in sorted(found)]
    length = next((journal.length for journal in journals if journal.length), 0)
    first = {**journals[0].about, "pictures": None, "shard": None}
    for journal in journals:
        if journal.done != journal.about["pictures"]:
            whole = counted(journal.about["pictures"], "picture")
            raise UserError(f"{journal.folder} with {journal.done} of {whole}", "all",
                            "finish it: the same command with --resume")
        if {**journal.about, "pictures": None, "shard": None} != first or len({journal.length, length, 0}) > 2:
            raise UserError(f"{journal.folder}, which differs from {journals[0].folder} in pictures, network or flags",
                            "shards of one run", "run one of them again")
    if journals[0].about.get("mode") not in [*MODES]:
        raise UserError(f"the mode {journals[0].about.get('mode')} in {journals[0].folder / ABOUT}",
                        f"one of {', '.join(MODES)}", "run that shard again")
    return journals


def _digest(names: Sequence[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in names:
        digest.update(as_text(name).encode() + b"\0")
    return digest.hexdigest()
