"""What the files in a run's folder say, for a page about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data.csv_files import read_table
from data.names import as_text
from drawing.plots import METRICS as TITLES
from drawing.plots import monitored
from evaluation.mistakes import RESAMPLES, mean_average_precision
from evaluation.report import COLUMNS, REPORT
from evaluation.thresholds import COLUMNS as LABEL_COLUMNS
from evaluation.thresholds import THRESHOLDS
from evaluation.validation_answers import ValidationAnswers
from runtime.checkpoint import BEST, LATEST, Checkpoint, read_checkpoint
from runtime.logbook import METRICS
from runtime.next_step import PICTURES
from training.log import read_log
from training.pictures import Pictures
from training.run_folder import SPLIT
from utils import UserError, counted


@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A run, finished or not.

    Attributes:
        folder: of the run.
        name: of the folder.
        records: of metrics.jsonl.
        artists: rows of report.csv without its header; none where there is no such file.
        labels: the same of thresholds.csv, which a multi-label run has instead.
        answers: to the validation pictures; None in runs of earlier versions.
        checkpoint: the best network, else the latest; None where the folder has neither.
    """

    folder: Path
    name: str
    records: list[dict[str, Any]]
    artists: list[list[str]]
    labels: list[list[str]]
    answers: ValidationAnswers | None
    checkpoint: Checkpoint | None

    @classmethod
    def read(cls, folder: Path) -> ReportedRun:
        """Read a run.

        Raises:
            UserError: the folder has no metrics.jsonl, or a file of it is malformed.
        """
        if not (folder / METRICS).exists():
            raise UserError(f"no {METRICS} in {folder}", "the output folder of a training run, evaluated at least once",
                            "check the path, or train on")
        table = folder / REPORT
        artists = [row for _, row in read_table(table, COLUMNS)] if table.exists() else []
        for row in artists:
            if not (_is_count(row[2]) and _is_count(row[3]) and _is_share(row[5] or "0")):
                raise UserError(f"counts {row[2]} and {row[3]} and recall {row[5]} in {table}",
                                "counts, and a share of 0 to 1", "evaluate the run again")
        labels = folder / THRESHOLDS
        kept = next((folder / name for name in (BEST, LATEST) if (folder / name).exists()), None)
        return cls(folder=folder, name=as_text(folder.resolve().name), records=read_log(folder / METRICS),
                   artists=artists, answers=ValidationAnswers.read(folder),
                   labels=[row for _, row in read_table(labels, LABEL_COLUMNS)] if labels.exists() else [],
                   checkpoint=read_checkpoint(kept) if kept else None)

    # ---- figures ----

    @property
    def best(self) -> str:
        """The best monitored figure, in words."""
        key = monitored(self.records)
        return f"{TITLES[key][0]} {max(each[key] for each in self.records if each.get(key) is not None):.2f}" if (
            key) else ""

    @cached_property
    def accuracy(self) -> str:
        """Top-1 with its interval; of several labels, macro mAP."""
        support, recall = self._counts()
        if support.sum():
            share = (support * recall).sum() / support.sum()
            drawn = np.random.default_rng(0).binomial(support.sum(), min(share, 1), RESAMPLES) / support.sum()
            return _interval(share, drawn)
        several = self.answers and self.answers.task == "multilabel"
        found = mean_average_precision(self.answers) if several and self.answers else None
        return "" if found is None else _interval(found[0], found[1:])

    @property
    def balanced(self) -> str:
        """Recall, mean over artists with validation pictures, with its interval."""
        support, recall = self._counts()
        if not support.sum():
            return ""
        support, recall, rng = support[support > 0], recall[support > 0], np.random.default_rng(0)
        drawn = np.array([(rng.binomial(support, recall) / support).mean() for _ in range(RESAMPLES)])
        return _interval(recall.mean(), drawn)

    def _counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Validation pictures of each artist, and the share that is recognised."""
        support = np.array([int(row[3]) for row in self.artists], np.int64)
        return support, np.array([float(row[5] or 0) for row in self.artists])

    # ---- what was trained on what ----

    @property
    def options(self) -> dict[str, Any]:
        """The run's flags; none where no checkpoint says them."""
        return (self.checkpoint.saved.options or {}) if self.checkpoint else {}

    @property
    def network(self) -> str:
        """The network and its input."""
        if self.checkpoint is None or not self.checkpoint.saved.architecture:
            return ""
        kind = self.checkpoint.model_args.get("style_head")
        size, fit = ((self.checkpoint.saved.preprocessing or {}).get(key, "") for key in ("input_size", "fit"))
        return f"{self.checkpoint.saved.architecture}{f' with {kind} features' if kind else ''}, {size} px ({fit})"

    @property
    def start(self) -> str:
        """What training began with, and what it did."""
        options = self.options
        if not options:
            return ""
        begun = (f"the weights of {options['finetune_from']}" if options.get("finetune_from") else
                 f"the published weights of {options.get('model')}" if options.get("pretrained") else "nothing")
        return f"{begun}; a linear probe" if options.get("linear_probe") else begun

    @property
    def pictures(self) -> str:
        """How many train and validate."""
        train = sum(int(row[2]) for row in self.artists) or len(self.answers.train if self.answers else ())
        val = next((record["val_pictures"] for record in reversed(self.records) if record.get("val_pictures")), None)
        return ", ".join([*([f"{train} to train"] if train else []), *([f"{val:.0f} to validate"] if val else [])])

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What was trained on what, as titles and texts."""
        options, made = self.options, self.answers.made if self.answers else {}
        best = self.checkpoint.content.get("epoch") if self.checkpoint and self.checkpoint.path.name == BEST else None
        asked = "" if options.get("linear_probe") or not options.get("epochs") else f" of {options['epochs']}"
        split = ("made by the run of folders of artists" if (self.folder / SPLIT).exists() else
                 f"{options['train_ann']} and {options.get('val_ann')}" if options.get("train_ann") else
                 "train/ and val/")
        facts = {
            "network": self.network, "begun with": self.start, "data": str(options.get("data_path", "")),
            "split": split if options else "", "pictures": self.pictures,
            "classes": str(len(self.artists or self.labels) or ""),
            "epochs": f"{self.records[-1]['epoch']}{asked}" + (f"; the best is {best}" if best is not None else ""),
            "seed": str(options.get("seed", "")), "hardware": made.get("hardware", ""),
            "software": made.get("software", ""), "best evaluation": made.get("date", "")}
        return [(title, text) for title, text in facts.items() if text]

    @property
    def flags(self) -> list[tuple[str, str]]:
        """All flags that have a value, those that a recipe chose among them."""
        return [(name, " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
                for name, value in sorted(self.options.items()) if value not in (None, (), [])]

    @property
    def following(self) -> list[Sequence[object]]:
        """The commands that use the best network, with their flags; none where there is none."""
        best, data = self.folder / BEST, Path(str(self.options.get("data_path", "YOUR_DATA")))
        if not best.exists() or not (self.artists or self.labels):
            return []
        held = Path(self.answers.folder) if self.answers else data
        again = ["tools/report.py", self.folder, "--data-path", held, "--compare", "ANOTHER_RUN"]
        if self.labels:
            return [["predict_artist_multilabel.py", "--checkpoint", best, "--inputs", PICTURES, "--output",
                     "labels.json"], again]
        split = self.folder / SPLIT if (self.folder / SPLIT / "val").is_dir() else data
        return [["inference_artist.py", "--checkpoint", best, "--input", PICTURES, "--sort-into", "YOUR_FOLDER"],
                ["tools/calibrate.py", "--checkpoint", best, "--data-path", split], again]

    # ---- other runs ----

    def differs(self, other: ReportedRun) -> str:
        """Why figures of the `other` run cannot be compared with this one's; empty where they can.

        The digests of the validation pictures decide; of runs without, numbers of pictures and names of classes.
        """
        own, theirs = (run._validation() for run in (self, other))
        if own is not None and theirs is not None:
            if np.array_equal(own, theirs):
                return ""
            shared = len(np.intersect1d(own, theirs))
            return f"other validation pictures ({shared} of {counted(len(theirs), 'picture')} are the same)"
        return "" if self._counted() == other._counted() else "other validation pictures"

    def _validation(self) -> np.ndarray | None:
        latest = self.folder / LATEST
        found = Pictures.saved(read_checkpoint(latest)) if latest.exists() else None
        return found.val if found else None

    def _counted(self) -> list[tuple[str, str]]:
        return sorted([(row[1], row[3]) for row in self.artists] + [(row[1], "") for row in self.labels])


def _interval(share: float, drawn: np.ndarray) -> str:
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
