"""A network's answers to pictures in folders named by artist, to fit a calibration to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from evaluation.calibration import Answers
from inference.predictor import Failure, Predictor
from runtime.options import InferenceOptions
from runtime.progress import progress


def collect_answers(predictor: Predictor, classes: Sequence[str], pictures: Sequence[Path],
                    options: InferenceOptions) -> tuple[Answers, list[Failure]]:
    """The answers to `pictures`, and the pictures that could not be read.

    `classes` are the artists in the order of the logits; the folder of a picture has the name of its artist.
    """
    logits: list[torch.Tensor] = []
    artists: list[str] = []
    failures: list[Failure] = []
    for answer in progress(predictor.predict_with(pictures, options), len(pictures)):
        if isinstance(answer, Failure):
            failures.append(answer)
        else:
            logits.append(answer.logits)
            artists.append(answer.path.parent.name)
    ids = {name: number for number, name in enumerate(classes)}
    return Answers(logits=torch.stack(logits) if logits else torch.empty(0, len(classes)),
                   targets=torch.tensor([ids.get(artist, -1) for artist in artists], dtype=torch.int64),
                   unknown=sorted({*artists} - {*classes})), failures
