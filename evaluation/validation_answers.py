"""validation.json: what the best network answers to each validation picture; validation.npy: features for a map.

Both are written with the weights they belong to, so that a report needs neither the network nor, but for its pictures,
the data set.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from msgspec import Meta

from data.image_list import LabelledImages
from data.names import as_text, named_file
from data.side_files import read_json
from evaluation.evaluator import Evaluation, Meter
from runtime.class_parallel import Ranked
from runtime.networks import classifier_names
from runtime.placement import Placement, count_cores, device_name
from runtime.processes import gather
from search.vectors import read_matrix
from utils import UserError, write_array, write_text

ANSWERS, FEATURES = "validation.json", "validation.npy"
MOST_ANSWERS = 2**18  # pictures x classes up to which all probabilities are kept; beyond, the highest of each picture
FEWEST_ANSWERS = 8  # that are kept of each picture
MOST_MAPPED = 600  # pictures whose features are kept
MOST_TRAINING = 20_000  # training pictures whose names are kept, so that copies of validation pictures can be found
_Class = Annotated[int, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class AnsweredPicture(msgspec.Struct, omit_defaults=True):
    """One validation picture.

    Attributes:
        name: as the data set calls it.
        labels: its classes; one, or with several labels any number.
        own: their probabilities.
        answers: classes and probabilities, the most probable first.
        file: its path below the data set's folder.
    """

    name: str
    labels: list[_Class]
    own: list[_Share]
    answers: list[tuple[_Class, _Share]]
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class PictureFiles:
    """Where the pictures of a data set lie: all below one folder.

    Attributes:
        folder: --data-path, or the deepest one where some lie elsewhere.
        train: paths below it, as text; none of more than `MOST_TRAINING` pictures.
        val: likewise.
    """

    folder: Path
    train: Sequence[str]
    val: Sequence[str]

    @classmethod
    def of(cls, data_path: Path, train_set: LabelledImages, val_set: LabelledImages) -> PictureFiles:
        """Those of two sets of images."""
        known = len(train_set) <= MOST_TRAINING
        train, val = ([os.path.abspath(dataset.path(index)) for index in range(count)]
                      for dataset, count in ((train_set, len(train_set) if known else 0), (val_set, len(val_set))))
        folder = Path(os.path.abspath(data_path))
        if not all(Path(path).is_relative_to(folder) for path in (*train, *val)):
            folder = Path(os.path.commonpath([os.path.dirname(path) for path in (*train, *val)]))
        train, val = ([as_text(path, below=folder) for path in side] for side in (train, val))
        return cls(folder=folder, train=train, val=val)


class ValidationAnswers(msgspec.Struct):
    """The best network's answers to all validation pictures that could be read.

    Attributes:
        task: whether pictures have one label or several.
        classes: names, in the order of ids.
        made: when, on what device, and by which PyTorch.
        folder: that all pictures were in. It is shown, and never opened: a file names no other file.
        pictures: those of validation.
        mapped: places in `pictures` whose features are the rows of validation.npy; none where there is no such file.
        train: paths of the training pictures below the folder; none of more than `MOST_TRAINING`.
    """

    task: Literal["classification", "multilabel"]
    classes: list[str]
    made: dict[str, str]
    folder: str
    pictures: list[AnsweredPicture]
    mapped: list[_Class]
    train: list[str]

    @classmethod
    def read(cls, run: Path) -> ValidationAnswers | None:
        """Those in the folder of a run; None where it has none.

        Raises:
            UserError: the file cannot be read, or contradicts itself.
        """
        path = run / ANSWERS
        if not path.exists():
            return None
        expected, action = "the answers that training wrote", "delete it, or copy the run again"
        found = read_json(path, cls, expected=expected, action=action)
        highest = max((number for picture in found.pictures for number in (
            *picture.labels, *(answer for answer, _ in picture.answers))), default=-1)
        whole = all(len(picture.labels) == len(picture.own) and picture.answers and (
            picture.labels or found.task == "multilabel") for picture in found.pictures)
        if not found.pictures or not whole or highest >= len(found.classes) or max(
                found.mapped, default=-1) >= len(found.pictures):
            raise UserError(f"{path}, which contradicts itself", expected, action)
        return found

    def read_features(self, run: Path) -> np.ndarray:
        """The features of the `mapped` pictures, (M, D) float32; (0, 0) where there are none.

        Raises:
            UserError: validation.npy cannot be read, or has another number of rows.
        """
        if not self.mapped or not (run / FEATURES).exists():
            return np.empty((0, 0), np.float32)
        rows = read_matrix(run / FEATURES)
        if len(rows) != len(self.mapped):
            raise UserError(f"{len(rows)} rows in {run / FEATURES}", f"the {len(self.mapped)} that {ANSWERS} names",
                            "copy both files of one run")
        return np.array(rows)


def picture_path(folder: Path | None, file: str) -> Path | None:
    """The picture `file`, as validation.json has it, below a folder that the user names; None where it leads out."""
    inside = PurePath(file)
    if folder is None or not file or inside.is_absolute() or inside.drive or ".." in inside.parts:
        return None
    return named_file(folder, file)


def keep_answers(evaluation: Evaluation, val_set: LabelledImages, placement: Placement, *,
                 files: Callable[[], PictureFiles], with_features: bool) -> Evaluation:
    """The same evaluation, the report of which also has validation.json and validation.npy.

    Args:
        evaluation: its figures stay the same to the last digit.
        val_set: the images that are evaluated.
        placement: of the network.
        files: where they and the training images lie.
        with_features: whether features are kept; of a compiled network they cannot be seen.
    """

    def write_report(folder: Path, meter: _AnswerMeter) -> Mapping[str, Path]:
        drawings = evaluation.write_report(folder, meter.meter)
        if len(meter.rows()) == len(val_set):  # else one was damaged meanwhile, and no one knows which
            _write(folder, meter, val_set, files(), placement)
        return drawings

    return replace(evaluation, make_meter=lambda: _AnswerMeter(evaluation.make_meter(), len(val_set)),
                   wrap_model=lambda network: _WithClassifierInput(
                       evaluation.wrap_model(network), _classifier(network) if with_features else None),
                   write_report=write_report)


class _WithClassifierInput(torch.nn.Module):
    """A network that returns, beside its outputs, what its classifier read, (B, D), or None where that is not seen."""

    def __init__(self, network: torch.nn.Module, classifier: torch.nn.Module | None) -> None:
        """Wrap `network`; `classifier` is a part of it."""
        super().__init__()
        self.network, self.classifier = network, classifier

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor | None]:
        if self.classifier is None:
            return self.network(images), None
        seen: list[torch.Tensor] = []
        with self.classifier.register_forward_pre_hook(lambda module, values: seen.append(values[0])):
            outputs = self.network(images)
        return outputs, seen[0].flatten(1) if seen else None


def _classifier(network: torch.nn.Module) -> torch.nn.Module | None:
    """The layer whose rows are the classes; the first of two."""
    return next((network.get_submodule(name) for name in classifier_names(network)), None)


class _AnswerMeter:
    """Collects answers and features beside another meter; see `Meter`."""

    def __init__(self, meter: Meter, pictures: int) -> None:
        self.meter, self._pictures = meter, max(1, pictures)
        self._stride = -(-self._pictures // MOST_MAPPED)
        self._parts: dict[int, tuple[list[AnsweredPicture], np.ndarray, list[int]]] = {}

    def update(self, number: int, outputs: tuple[Any, torch.Tensor | None], targets: torch.Tensor) -> None:
        """Count batch `number`; `outputs` are those of `_WithClassifierInput`."""
        answers, features = outputs
        self.meter.update(number, answers, targets)
        found = answers[0] if isinstance(answers, tuple) else answers
        rows = _of_ranked(found, targets) if isinstance(found, Ranked) else self._of_logits(found.float(), targets)
        mapped: list[int] = [] if features is None else [*range(number % self._stride, len(rows), self._stride)]
        kept_features = np.empty((0, 0), np.float32) if features is None else features.float().cpu().numpy()[mapped]
        self._parts[number] = rows, kept_features, mapped

    def _of_logits(self, logits: torch.Tensor, targets: torch.Tensor) -> list[AnsweredPicture]:
        one = targets.ndim == 1
        shares = logits.softmax(1) if one else logits.sigmoid()
        highest, ids = (part.tolist() for part in shares.nan_to_num().topk(
            count_kept(shares.shape[1], self._pictures)))
        rows: list[AnsweredPicture] = []
        for row, target in enumerate(targets):
            labels = [int(target)] if one else target.nonzero()[:, 0].tolist()
            rows.append(AnsweredPicture("", labels, _rounded(shares[row, labels].tolist()),
                                        list(zip(ids[row], _rounded(highest[row]), strict=True))))
        return rows

    def result(self) -> dict[str, float]:
        """The other meter's figures."""
        figures = self.meter.result()
        self._parts = {number: part for held in gather(self._parts) for number, part in held.items()}
        return figures

    def rows(self) -> list[AnsweredPicture]:
        """The pictures of all ranks in the order of the images, without names."""
        return [row for number in sorted(self._parts) for row in self._parts[number][0]]

    def features(self) -> tuple[np.ndarray, list[int]]:
        """The features that were kept, (M, D) float32, and the places of their pictures in `rows`."""
        found, places, start = [], [], 0
        for number in sorted(self._parts):
            rows, features, mapped = self._parts[number]
            found += [features] if mapped else []
            places += [start + place for place in mapped]
            start += len(rows)
        return np.concatenate(found) if found else np.empty((0, 0), np.float32), places


def count_kept(classes: int, pictures: int) -> int:
    """How many answers are kept of each of so many pictures."""
    return min(classes, max(FEWEST_ANSWERS, MOST_ANSWERS // max(1, pictures)))


def _of_ranked(found: Ranked, targets: torch.Tensor) -> list[AnsweredPicture]:
    highest, own = ((logits - found.total.view(-1, *(1,) * (logits.ndim - 1))).exp().nan_to_num()
                    for logits in (found.logits, found.own))
    return [AnsweredPicture("", [label], _rounded([share]), list(zip(ids, _rounded(shares), strict=True)))
            for label, share, ids, shares in zip(targets.tolist(), own.tolist(), found.ids.tolist(), highest.tolist(),
                                                 strict=True)]


def _rounded(shares: Sequence[float]) -> list[float]:
    """To seven digits, which is what float32 holds."""
    return [float(f"{share:.7g}") for share in shares]


def _write(folder: Path, meter: _AnswerMeter, val_set: LabelledImages, files: PictureFiles,
           placement: Placement) -> None:
    rows = meter.rows()
    for name, file, row in zip(val_set.names, files.val, rows, strict=True):
        row.name, row.file = as_text(name), file
    features, mapped = meter.features()
    found = ValidationAnswers(
        task="classification" if isinstance(val_set.target(0), int) else "multilabel", classes=list(val_set.classes),
        made={"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
              "hardware": f"{device_name(placement.device)}, {count_cores()} cores, {placement}",
              "software": f"PyTorch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"},
        folder=as_text(str(files.folder)), pictures=rows, mapped=mapped, train=list(files.train))
    write_text(folder / ANSWERS, msgspec.json.encode(found).decode())
    if mapped:
        write_array(folder / FEATURES, features)
