"""One evaluation: every picture once, the figures the same on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from data.image_folder import ImageFolder
from data.image_list import Batch, ImageList
from data.loaders import EvalBatches, Loading, make_loader
from data.transforms import Preprocessing
from runtime.logbook import Logbook
from runtime.placement import Placement


class Meter(Protocol):
    """Collects an evaluation batch by batch, each under its number in the whole."""

    def update(self, number: int, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Count one batch."""

    def result(self) -> dict[str, float]:
        """The figures over all batches of all ranks."""


def no_report(folder: Path, meter: Any) -> Mapping[str, Path]:
    """The report of an examination that has no details to tell."""
    return {}


def unchanged(network: torch.nn.Module) -> torch.nn.Module:
    """The network, as a meter of its logits asks it."""
    return network


@dataclass(frozen=True, kw_only=True)
class Examination:
    """How one trainer's networks are judged.

    Attributes:
        meter: makes the collector of one evaluation.
        monitor: the figure, higher is better, that chooses model_best.pth.
        title: its name for people.
        headline: the figures of an evaluation as the line that is printed.
        report: writes the details of the best evaluation to a folder; the PNGs among them, by title.
        asked: makes of the network what the meter reads, such as one that tells its features, too.
    """

    meter: Callable[[], Meter]
    monitor: str
    title: str
    headline: Callable[[dict[str, float]], str]
    report: Callable[[Path, Any], Mapping[str, Path]] = no_report
    asked: Callable[[torch.nn.Module], torch.nn.Module] = unchanged


Disturb = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # pictures (B, 3, S, S), targets -> other pictures


def evaluate(network: torch.nn.Module, loader: DataLoader, meter: Meter, place: Placement, logbook: Logbook,
             disturb: Disturb | None = None) -> dict[str, float]:
    """The figures of `network`, which is at `place`, over every picture of `loader` that can be read.

    The loaders of all ranks together hold every batch once; the figures are the same on every rank. `disturb` makes
    the pictures harder first.
    """
    network.eval()
    numbers = loader.batch_sampler.numbers
    with torch.inference_mode(), logbook.bar("evaluate", len(loader)) as bar:
        for number, batch in zip(numbers, loader, strict=True):
            report_failures(batch, loader.dataset, logbook)
            if len(batch.targets):
                images, targets = place.images(batch.images), batch.targets.to(place.device)
                meter.update(number, network(disturb(images, targets) if disturb else images), targets)
            bar.update()
    return meter.result()


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Judges one network on any number of sets of pictures.

    Attributes:
        network: at `place`, in evaluation mode.
        classes: names, in the order of its logits.
        preprocessing: how it sees pictures.
        loading: batch size and processes.
        place: where it is.
        logbook: what is told.
    """

    network: torch.nn.Module
    classes: Sequence[str]
    preprocessing: Preprocessing
    loading: Loading
    place: Placement
    logbook: Logbook

    def figures(self, pictures: ImageFolder, meter: Meter, *, network: torch.nn.Module | None = None,
                disturb: Disturb | None = None) -> dict[str, float]:
        """What `meter` collects over `pictures`, from `network` where it is another than the judge's own."""
        loader = make_loader(pictures, EvalBatches(len(pictures), self.loading), self.loading)
        return evaluate(network or self.network, loader, meter, self.place, self.logbook, disturb)


def report_failures(batch: Batch, dataset: ImageList, logbook: Logbook) -> None:
    """Name the pictures that were fine at the start and cannot be read any more."""
    for index, reason in batch.failures:
        logbook.say(f"left out: {dataset.path(index)} ({reason})")
