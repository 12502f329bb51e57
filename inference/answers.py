"""A network's answers to pictures in folders named by artist, to fit a calibration to."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from data.names import nfc
from data.picture_files import PictureFolder
from evaluation.answers import Answers
from inference.predictor import Failure, Predictor
from runtime.options import InferenceOptions
from runtime.progress import progress


def collect_answers(predictor: Predictor, classes: Sequence[str], folders: Sequence[PictureFolder],
                    options: InferenceOptions) -> tuple[Answers, list[Failure]]:
    """The answers to the pictures of `folders`, and the pictures that could not be read.

    `classes` are the artists in the order of the logits.
    """
    owners = {image: folder.artist(image) for folder in folders for image in folder.images}
    logits: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    artists: list[str] = []
    failures: list[Failure] = []
    for answer in progress(predictor.predict(list(owners), options), len(owners)):
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            logits.append(answer.logits)
            features += [] if answer.added is None else [answer.added]
            artists.append(owners[answer.path])
    ids = {nfc(name): number for number, name in enumerate(classes)}
    return Answers(logits=torch.stack(logits) if logits else torch.empty(0, len(classes)),
                   targets=torch.tensor([ids.get(artist, -1) for artist in artists], dtype=torch.int64),
                   unknown=sorted({*artists} - ids.keys()),
                   features=torch.stack(features).numpy() if features else None), failures
