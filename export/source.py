"""What is exported: a trained network, with all that its folder says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from evaluation.calibration import CALIBRATION, STATISTICS, Calibration
from evaluation.thresholds import THRESHOLDS, read_thresholds
from export.graph import Form
from export.options import ExportOptions
from inference.predictor import Predictor
from runtime.checkpoint import Checkpoint, describe_network, read_checkpoint
from runtime.export_folder import FEATURES, PROBABILITIES, Export
from runtime.networks import Architecture
from utils import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A trained network.

    Attributes:
        checkpoint: its file.
        architecture: what builds it.
        classes: names in the order of the logits.
        predictor: runs it in float32 on the CPU; its features end with those that the score of `calibration` reads.
        calibration: that of its folder, if there is one.
    """

    checkpoint: Checkpoint
    architecture: Architecture
    classes: list[str]
    predictor: Predictor
    calibration: Calibration | None

    @classmethod
    def read(cls, options: ExportOptions) -> Source:
        """The network of --checkpoint.

        Raises:
            UserError: it cannot be read or does not name its classes, or what lies beside it belongs to another one.
        """
        checkpoint = read_checkpoint(options.checkpoint, options.class_csv)
        spec = checkpoint.resolve(options.model)
        if not spec.classes:
            raise UserError(f"{checkpoint.path}, which does not name its classes", "a class mapping", "add --class-csv")
        predictor = Predictor.of_checkpoint(checkpoint, model=options.model, feature_kind=None, device="cpu")
        calibration = Calibration.beside(checkpoint.path, checkpoint.fingerprint, "default"
                                         ) if options.calibration and checkpoint.task != "multilabel" else None
        if calibration and calibration.read_scorer(checkpoint.path).needs_features:
            predictor.add_features()
        return cls(checkpoint=checkpoint, architecture=spec.architecture, classes=spec.classes, predictor=predictor,
                   calibration=calibration)

    @property
    def is_multilabel(self) -> bool:
        """Whether each class has a probability of its own."""
        return self.checkpoint.task == "multilabel"

    @property
    def temperature(self) -> float:
        """What logits are divided by for the probabilities."""
        return self.calibration.temperature if self.calibration else 1.0

    def form(self, *, half: bool, is_tagger: bool, leading: int) -> Form:
        """The form in which it is exported."""
        return Form(kinds=self.predictor.kinds, width=self.predictor.width, sigmoid=self.is_multilabel,
                    temperature=self.temperature, half=half, is_tagger=is_tagger, leading=leading)

    def run(self, pixels_BHWC: np.ndarray) -> dict[str, np.ndarray]:
        """Probabilities and all features of pictures, as inference finds them with torch."""
        features, logits = self.predictor.run(torch.from_numpy(pixels_BHWC))
        scaled = logits / self.temperature
        probabilities = scaled.sigmoid() if self.is_multilabel else scaled.softmax(1)
        return {PROBABILITIES: probabilities.numpy(), FEATURES: features.numpy()}

    def config(self, export: Export | None) -> dict[str, Any]:
        """What config.json says of it, and of the exported network where programs of this project shall read it."""
        network: Any = self.predictor.network
        config = describe_network(self.architecture, network.head_hidden_size, self.classes,
                                  self.predictor.preprocessing, task=self.checkpoint.task,
                                  feature_kind=self.checkpoint.saved.feature_kind)
        return config | ({"export": msgspec.to_builtins(export)} if export else {})

    def side_files(self) -> list[Path]:
        """The files of its folder that belong to its answers: calibration and thresholds.

        Raises:
            UserError: there are thresholds of other labels.
        """
        folder = self.checkpoint.path.parent
        thresholds = folder / THRESHOLDS
        found = [folder / name for name in (CALIBRATION, STATISTICS) if self.calibration and (folder / name).is_file()]
        if self.is_multilabel and thresholds.is_file():
            read_thresholds(thresholds, self.classes)
            found.append(thresholds)
        return found
