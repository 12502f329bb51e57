"""From Python: a trained network in three lines, with the answers of the commands.

from inference.api import load
artist = load("my_run")
artist.predict(["picture.jpg", Image.open("another.png")])
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data.image_list import ImageList
from data.images import convert_image
from data.names import as_text
from data.transforms import Transform, Views
from evaluation.calibration import Calibration
from inference.exported_predictor import open_predictor
from inference.journal import Record
from inference.label_records import LabelChoice, make_label_record
from inference.modes import MODES, InferenceRequest
from inference.predictor import Failure, Prediction, Predictor
from inference.records import make_record
from runtime.options import BackendName, BackendOptions, FeatureKind, FeatureOptions
from utils import UserError

Picture = str | Path | Image.Image


def load(source: str | Path, *, backend: BackendName | None = None, feature_kind: FeatureKind | None = None,
         device: str = "auto", batch_size: int = 32, calibration: bool = True) -> ArtistNetwork:
    """The network of a run's folder or file, of a folder of tools/export_model.py, or of `hf-hub:OWNER/NAME`.

    Args:
        source: as --checkpoint takes it.
        backend: as --backend takes it.
        feature_kind: which features `ArtistNetwork.features` returns (default: those that are usual for the network).
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: pictures per step; answers of two runs are equal to the last bit if it is, too.
        calibration: whether records have verdicts where the network is calibrated.

    Raises:
        UserError: the network cannot be read, downloaded or run so.
    """
    options = FeatureOptions(checkpoint=Path(source), feature_kind=feature_kind, device=device)
    predictor = open_predictor(options, BackendOptions(backend=backend), uses_features=True)
    found = predictor.calibrate("default") if calibration and predictor.task != "multilabel" else None
    return ArtistNetwork(predictor, found, batch_size)


class ArtistNetwork:
    """A trained network that names the artists of pictures; `load` makes it.

    Attributes:
        predictor: runs it.
        calibration: that of its folder, where there is one.
        batch_size: pictures per step.
    """

    def __init__(self, predictor: Predictor, calibration: Calibration | None, batch_size: int) -> None:
        """Take what `load` has read."""
        self.predictor, self.calibration, self.batch_size = predictor, calibration, batch_size

    @property
    def classes(self) -> list[str]:
        """The artists, in the order of their ids; none where the checkpoint does not name them."""
        return list(self.predictor.classes or ())

    def predict(self, pictures: Sequence[Picture], *, top_k: int = 5, threshold: float = 0.0) -> list[Record]:
        """What the commands write of pictures, in the order given: files, or images of Pillow.

        `classification`, and `verdict` where the network is calibrated, as inference_artist.py writes them; or `labels`
        as predict_artist_multilabel.py does with --normalize-ratio; or `error` for what is no readable picture.

        Args:
            pictures: any number.
            top_k: artists per picture, at most.
            threshold: least probability of an artist that is named, 0 to 1.

        Raises:
            UserError: the network names no artists, or all its answers are not finite.
        """
        if not self.classes:
            raise UserError(f"{self.predictor.source}, which does not name its artists", "a class mapping",
                            "put its class_mapping.csv beside it")
        request = InferenceRequest(mode=MODES["classify"], top_k=top_k, threshold=threshold,
                                   calibration=self.calibration)
        labels = LabelChoice(top_k=top_k, thresholds=torch.full((len(self.classes),), threshold, dtype=torch.float64),
                             ratio="all", raw=False)

        def record(answer: Prediction | Failure) -> Record:
            if isinstance(answer, Failure):
                return {"error": answer.reason}
            if self.predictor.task == "multilabel":
                return {"labels": make_label_record(answer, labels)["labels"]}
            return make_record(answer, request)

        return [record(answer) for answer in self._answers(pictures)]

    def features(self, pictures: Sequence[Picture]) -> np.ndarray:
        """The features of pictures, (pictures, D) float32, not normalised: those of inference_artist.py --mode cluster.

        Raises:
            UserError: one cannot be read.
        """
        rows = [self._features(answer) for answer in self._answers(pictures)]
        return np.stack(rows) if rows else np.empty((0, self.predictor.width), np.float32)

    @staticmethod
    def _features(answer: Prediction | Failure) -> np.ndarray:
        if isinstance(answer, Failure):
            raise UserError(f"{as_text(str(answer.path))}, which has no features ({answer.reason})",
                            "pictures that can be read", "leave it out")
        return answer.features.numpy()

    def _answers(self, pictures: Sequence[Picture]) -> list[Prediction | Failure]:
        if isinstance(pictures, Picture):
            raise TypeError("a list of pictures, not one picture")
        views = Views(self.predictor.preprocessing, "default")
        return [*self.predictor.answer(_Pictures(pictures, views), batch_size=self.batch_size, num_workers=0)]


class _Pictures(ImageList):
    """Files and images of Pillow, in one list; an image has the name `picture N`, counted from 1."""

    def __init__(self, pictures: Sequence[Picture], transform: Transform) -> None:
        super().__init__([Path(f"picture {number}") if isinstance(each, Image.Image) else Path(each)
                          for number, each in enumerate(pictures, 1)], transform)
        self.images = [each if isinstance(each, Image.Image) else None for each in pictures]
        self.loading = threading.Lock()

    def picture(self, index: int) -> Image.Image:
        image = self.images[index]
        if image is None:
            return super().picture(index)
        with self.loading:  # one image may stand in the list twice, and Pillow reads its file when it is first used
            return convert_image(image, self.paths[index], max_pixels=self.max_pixels)
