"""The log of a run: lines on terminal and in train_log.txt, one JSON object per epoch, TensorBoard, progress bars."""

from __future__ import annotations

import json
import math
import shutil
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from torchvision.utils import make_grid
from tqdm import tqdm

from data.images import decode_image
from data.side_files import parse_json, read_text, split_lines
from runtime.progress import BAR, BAR_OF_FIGURES
from utils import write_text

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOG, METRICS = "train_log.txt", "metrics.jsonl"
_WORDS = {
    "lr": "learning rate", "grad_norm": "gradient norm", "images_per_second": "pictures per second",
    "peak_memory_gib": "peak memory, GiB", "top1": "top-1, %", "top5": "top-5, %", "balanced": "balanced accuracy, %",
    "head": "balanced accuracy of common artists, %", "middle": "balanced accuracy of less common artists, %",
    "tail": "balanced accuracy of rare artists, %", "macro_map": "macro mAP, %", "micro_map": "micro mAP, %"}


class _Record(msgspec.Struct):
    """What each line of metrics.jsonl must say."""

    epoch: int


def _epoch_of(line: str) -> float:
    """The epoch of a line of metrics.jsonl; infinite if it is no record."""
    try:
        return parse_json(line, _Record).epoch
    except ValueError:
        return math.inf


def board_title(name: str) -> str:
    """How TensorBoard calls the figure `name` of metrics.jsonl: "validation/top-1", "training/learning rate"."""
    part, rest = ("validation", name[4:]) if name.startswith("val_") else ("training", name.removeprefix("train_"))
    return f"{part}/{_WORDS.get(rest, rest.replace('_', ' '))}"


def fitted(text: str) -> str:
    """`text` with breaks between words where a line is wider than the terminal; a path or flag stays whole."""
    return "\n".join(textwrap.fill(line, shutil.get_terminal_size().columns, subsequent_indent="  ",
                                   break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))


class Logbook:
    """Writes the log of one run; on ranks other than the first it writes nothing.

    Use it as a context manager: leaving it flushes TensorBoard's file.
    """

    def __init__(self, folder: Path | None, *, is_writer: bool = True, first_epoch: int = 0) -> None:
        """Open the logs of `folder`.

        Args:
            folder: output folder; None writes to the terminal only.
            is_writer: whether this process writes.
            first_epoch: finished epochs; records of later ones come from an interrupted run and are dropped.
        """
        self.is_writer, self._folder = is_writer, folder if is_writer else None
        self._board: SummaryWriter | None = None
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._drop_records_after(self._folder / METRICS, first_epoch)
            # Imported here: it takes a second, and evaluation or a second rank does without.
            from torch.utils.tensorboard import SummaryWriter
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=first_epoch + 1)

    def __enter__(self) -> Logbook:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._board:
            self._board.close()

    @staticmethod
    def _drop_records_after(metrics: Path, epoch: int) -> None:
        if metrics.exists():
            told = {"expected": "the log of a run", "action": "move it to another place"}
            lines = read_text(metrics, **told).split("\n")[:-1]  # a kill may have cut what follows the last end
            write_text(metrics, "".join(f"{line}\n" for line in lines if _epoch_of(line) <= epoch))

    def log(self, text: str) -> None:
        """Write one line to the terminal and to train_log.txt."""
        if self.is_writer:
            tqdm.write(fitted(text) if sys.stdout.isatty() else text, file=sys.stdout)
            sys.stdout.flush()
        if self._folder:
            # A file name that is no valid Unicode must not end a run.
            with open(self._folder / LOG, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text + "\n")

    def log_off_terminal(self, text: str) -> None:
        """Print one line where no progress bar shows the same: in a file, or in the log of a batch system."""
        if self.is_writer and not sys.stderr.isatty():
            print(text, flush=True)

    def bar(self, title: str, total: int, done: int = 0, *, has_figures: bool = False) -> tqdm:
        """A progress bar over updates or batches, shown on a terminal only, with the time that they still take.

        A bar that `has_figures` shows what the caller sets as its postfix in place of that time.
        """
        return tqdm(total=total, initial=done, desc=title, leave=False, dynamic_ncols=True,
                    bar_format=BAR_OF_FIGURES if has_figures else BAR,
                    disable=not (self.is_writer and sys.stderr.isatty()))

    def record(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Append an epoch's figures to metrics.jsonl and TensorBoard; `values["epoch"]` counts from 1.

        A figure that is not finite is null in metrics.jsonl: NaN is not JSON.

        Returns:
            the records of all epochs; none on a rank that does not write.
        """
        if not (self._folder and self._board):
            return []
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with open(self._folder / METRICS, "a", encoding="utf-8", newline="\n") as metrics:
            metrics.write(json.dumps(finite) + "\n")
        for name, value in values.items():
            if name != "epoch":
                self._board.add_scalar(board_title(name), value, values["epoch"])
        return [json.loads(line) for line in split_lines((self._folder / METRICS).read_text(encoding="utf-8"))]

    def show_images(self, title: str, images: torch.Tensor) -> None:
        """Show the first sixteen of `images`, (B, 3, H, W) in any range, as a grid on TensorBoard."""
        if self._board:
            self._board.add_image(title, make_grid(images[:16], nrow=4, normalize=True))

    def show_file(self, title: str, path: Path, epoch: int) -> None:
        """Show a PNG of the output folder on TensorBoard."""
        if self._board:
            self._board.add_image(title, np.asarray(decode_image(path)), epoch, dataformats="HWC")

    def hyperparameters(self, values: Mapping[str, Any], monitor: str) -> None:
        """Show the run's options on TensorBoard, beside the figure by which runs are compared."""
        if self._board:
            plain = {name: value if isinstance(value, bool | int | float) else str(value)
                     for name, value in values.items()}
            from torch.utils.tensorboard.summary import hparams
            for summary in hparams(plain, {board_title(f"val_{monitor}"): 0.0}):
                self._board._get_file_writer().add_summary(summary)  # type: ignore[union-attr]  # it makes one
