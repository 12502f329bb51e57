"""Class maps for the page about a run: where its network sees the label that it told wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.images import ImageError, decode_image
from data.transforms import Preprocessing, eval_transform, seen_box
from drawing.class_maps import lay_map, shrink
from drawing.inline import jpeg_text
from evaluation.class_maps import check_maps, class_target, explain
from runtime.networks import load_weights
from training.reported_run import ReportedRun
from utils import UserError

MOST_CLASSES = 100_000  # of a network that is built once more, for its maps


@dataclass(kw_only=True)
class ReportMaps:
    """Draws maps of single classes over pictures, on the CPU, until `left` are drawn.

    Attributes:
        network: in evaluation.
        preprocessing: that of its evaluation.
        softmax: whether it names one label per picture.
        left: how many maps may still be drawn.
    """

    network: Any
    preprocessing: Preprocessing
    softmax: bool
    left: int

    @classmethod
    def of(cls, run: ReportedRun, most: int) -> ReportMaps | None:
        """Those of a run's network, `most` at most; None where it has no maps, or other classes than its answers."""
        if run.checkpoint is None or run.answers is None or len(run.answers.classes) > MOST_CLASSES:
            return None
        try:
            spec = run.checkpoint.resolve()
            if spec.classes != run.answers.classes:
                return None
            network = spec.architecture.create()
            load_weights(network, run.checkpoint.evaluated, run.checkpoint.path)
            network.eval().requires_grad_(False)
            check_maps(network, spec.preprocessing.input_size, run.checkpoint.path)
        except UserError:
            return None
        return cls(network=network, preprocessing=spec.preprocessing, softmax=run.answers.task == "classification",
                   left=most)

    def draw(self, path: Path, label: int, side: int, max_pixels: int) -> str:
        """A JPEG in base64 of the picture under its map of the class `label`; empty where there is none to come."""
        if not self.left:
            return ""
        self.left -= 1
        try:
            picture = decode_image(path, max_pixels=max_pixels)
        except ImageError:
            return ""
        target = class_target(lambda logits: torch.full((len(logits), 1), label), softmax=self.softmax)
        maps, _ = explain(self.network, eval_transform(self.preprocessing)(picture)[None], target)
        if not maps.isfinite().all():
            return ""
        box = seen_box(self.preprocessing, picture.size)
        return jpeg_text(lay_map(shrink(picture), maps[0, 0].numpy(), box, picture.size), side)
