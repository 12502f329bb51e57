"""Evaluation of a network: every image once, with the same figures on any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from data.image_list import Batch, ImageList, Sample
from data.loaders import EvalBatches, Loading, WorkersLost, make_loader
from data.names import as_text
from data.transforms import Preprocessing
from runtime.logbook import Logbook
from runtime.placement import Placement
from runtime.processes import gather
from utils import UserError, counted

Perturb = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # images (B, 3, S, S), targets -> harder images


class Meter(Protocol):
    """Collects an evaluation batch by batch, each under its number in the whole evaluation."""

    def update(self, number: int, outputs: Any, targets: torch.Tensor, /) -> None:
        """Count one batch; `outputs` are those of the network that `Evaluation.wrap_model` returns."""

    def result(self) -> dict[str, float]:
        """The figures over all batches of all ranks."""


def write_no_report(folder: Path, meter: Any) -> Mapping[str, Path]:
    """The report of an evaluation without details."""
    return {}


def keep_model(network: torch.nn.Module) -> torch.nn.Module:
    """The network itself, for meters that need logits only."""
    return network


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How the networks of a trainer are evaluated.

    Attributes:
        make_meter: makes the collector of one evaluation.
        monitor: the figure, higher is better, that chooses model_best.pth.
        title: its name for people.
        format_line: the figures as the line that is printed.
        write_report: writes the details of the best evaluation to a folder; returns the PNGs among them, by title.
        wrap_model: makes of the network what the meter needs, such as one that also returns features.
    """

    make_meter: Callable[[], Meter]
    monitor: str
    title: str
    format_line: Callable[[dict[str, float]], str]
    write_report: Callable[[Path, Any], Mapping[str, Path]] = write_no_report
    wrap_model: Callable[[torch.nn.Module], torch.nn.Module] = keep_model


def evaluate_loader(network: torch.nn.Module, loader: DataLoader[Sample], meter: Meter, placement: Placement,
                    logbook: Logbook, perturb: Perturb | None = None, *, title: str = "evaluate") -> dict[str, float]:
    """The figures of `network`, which is at `placement`, over every readable image of `loader`; `title` of the bar.

    The loaders of all ranks together hold every batch once. The figures are the same on every rank.

    Raises:
        PicturesGone: files that were there when the run began are not.
        WorkersLost: a process that loads images has died, on any rank.
        UserError: no image can be read, or a figure is not finite, because an answer of the network is not.
    """
    network.eval()
    dataset, batches = loader.dataset, loader.batch_sampler
    assert isinstance(dataset, ImageList)
    assert isinstance(batches, EvalBatches)
    gone: list[Path] = []
    lost = ""
    with torch.inference_mode(), logbook.bar(title, len(loader)) as bar:
        try:
            for number, batch in zip(batches.numbers, loader, strict=True):
                gone += log_failures(batch, dataset, logbook)
                if len(batch.targets):
                    images, targets = placement.move_images(batch.images), batch.targets.to(placement.device)
                    meter.update(number, network(perturb(images, targets) if perturb else images), targets)
                bar.update()
        except WorkersLost as error:
            lost = str(error)
    check_lost(lost)
    figures = meter.result()
    check_gone(gone)
    if odd := [f"{name} {value}" for name, value in figures.items() if not math.isfinite(value)]:
        raise UserError(f"a network whose answers are not finite ({', '.join(odd)})", "finite ones",
                        "take an earlier checkpoint, or train with a lower --lr")
    return figures


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates one network, which is at `placement`, on any number of datasets.

    Attributes:
        classes: names, in the order of the network's logits.
        preprocessing: of the network's input.
        logbook: gets the lines to print.
    """

    network: torch.nn.Module
    classes: Sequence[str]
    preprocessing: Preprocessing
    loading: Loading
    placement: Placement
    logbook: Logbook

    def evaluate(self, dataset: ImageList, meter: Meter, *, network: torch.nn.Module | None = None,
                 perturb: Perturb | None = None) -> dict[str, float]:
        """The figures that `meter` collects over `dataset`, from `network` if it is not the evaluator's own."""
        loader = make_loader(dataset, EvalBatches(len(dataset), self.loading), self.loading)
        return evaluate_loader(network or self.network, loader, meter, self.placement, self.logbook, perturb)


def log_failures(batch: Batch, dataset: ImageList, logbook: Logbook) -> list[Path]:
    """Name the images that could be read at the start of the run and cannot be read any more; those that are gone."""
    failed = [(dataset.path(index), reason) for index, reason in batch.failures]
    for path, reason in failed:
        logbook.log(f"left out: {as_text(str(path))} ({reason})")
    return [path for path, _ in failed if dataset.is_gone(path)]


class PicturesGone(UserError):
    """Pictures that were there when the run began are not there any more."""


def check_gone(gone: list[Path]) -> None:
    """Raise `PicturesGone`, on every rank, if on any rank pictures are gone."""
    everywhere = [path for held in gather(gone) for path in held]
    if everywhere:
        raise PicturesGone(f"{counted(len(everywhere), 'picture')} gone since the run began, such as "
                           f"{everywhere[0]}", "the data set as it was",
                           "put them back, then go on with --resume auto; without them, add --accept-changed-data")


def check_lost(reason: str) -> None:
    """Raise `WorkersLost`, on every rank, if on any rank a process that loads images has died, for a `reason`."""
    if found := next(filter(None, gather(reason)), ""):
        raise WorkersLost(found)
