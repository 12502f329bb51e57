"""What a run tells: lines on the terminal and in train_log.txt, one JSON object per epoch, TensorBoard, a bar."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.utils import make_grid
from tqdm import tqdm

from data.images import decode_image
from utils import write_text

LOG, METRICS = "train_log.txt", "metrics.jsonl"


class Logbook:
    """Writes the records of one run; on ranks other than the first it keeps silent.

    Use as a context manager: leaving it flushes TensorBoard's file.
    """

    def __init__(self, folder: Path | None, *, speaks: bool = True, first_epoch: int = 0) -> None:
        """Open the logs of `folder`.

        Args:
            folder: output folder; None writes to the terminal only.
            speaks: whether this process is the one that writes.
            first_epoch: epochs that are done; records of later ones stem from an interrupted attempt and are dropped.
        """
        self.folder, self.speaks = folder, speaks
        self.board: Any = None
        if speaks and folder:
            folder.mkdir(parents=True, exist_ok=True)
            self._drop_records_after(first_epoch)
            # Imported here: it takes a second, and evaluation or a second rank does without.
            from torch.utils.tensorboard import SummaryWriter
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=first_epoch + 1)

    def __enter__(self) -> Logbook:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.board is not None:
            self.board.close()

    def _drop_records_after(self, epoch: int) -> None:
        path = self.folder / METRICS
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            write_text(path, "".join(line for line in lines if line.endswith("\n")
                                     and json.loads(line)["epoch"] <= epoch))

    def say(self, text: str) -> None:
        """One line on the terminal and in the log."""
        if self.speaks:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
            if self.folder:
                # A file name that is no valid Unicode must not end a run.
                with open(self.folder / LOG, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as log:
                    log.write(text + "\n")

    def say_off_terminal(self, text: str) -> None:
        """One line where no progress bar shows the same: in a file, or in the log of a batch system."""
        if self.speaks and not sys.stderr.isatty():
            print(text, flush=True)

    def bar(self, title: str, total: int, done: int = 0) -> tqdm:
        """A progress bar over updates or batches, shown on a terminal only."""
        return tqdm(total=total, initial=done, desc=title, unit="it", leave=False, dynamic_ncols=True,
                    disable=not (self.speaks and sys.stderr.isatty()))

    def record(self, values: Mapping[str, Any]) -> None:
        """Append an epoch's figures to metrics.jsonl and TensorBoard; `values["epoch"]` counts from 1.

        A figure that is not finite is null in metrics.jsonl: NaN is not JSON.
        """
        if self.board is not None:
            finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
            with open(self.folder / METRICS, "a", encoding="utf-8", newline="\n") as metrics:
                metrics.write(json.dumps(finite) + "\n")
            for name, value in values.items():
                if name != "epoch":
                    self.board.add_scalar(name, value, values["epoch"])

    def records(self) -> list[dict[str, Any]]:
        """The objects of metrics.jsonl in order."""
        return [json.loads(line) for line in (self.folder / METRICS).read_text(encoding="utf-8").splitlines()]

    def pictures(self, title: str, images: torch.Tensor) -> None:
        """The first sixteen of `images`, (B, 3, H, W) in any range, as a grid on TensorBoard."""
        if self.board is not None:
            self.board.add_image(title, make_grid(images[:16], nrow=4, normalize=True))

    def drawing(self, title: str, path: Path, epoch: int) -> None:
        """A PNG of the output folder on TensorBoard."""
        if self.board is not None:
            self.board.add_image(title, np.asarray(decode_image(path)), epoch, dataformats="HWC")

    def hyperparameters(self, values: Mapping[str, Any], monitor: str) -> None:
        """The run's options on TensorBoard, beside the figure by which runs are compared."""
        if self.board is not None:
            plain = {name: value if isinstance(value, bool | int | float) else str(value)
                     for name, value in values.items()}
            from torch.utils.tensorboard.summary import hparams
            for summary in hparams(plain, {f"val_{monitor}": 0.0}):
                self.board.file_writer.add_summary(summary)

