"""From a checkpoint and picture files to what is in the pictures: objects, or the class of each pixel.

Letters: H W height and width in px of the picture on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler
from torchvision.transforms.v2 import functional as F

from data.image_list import ImageList
from data.loaders import Loading, make_loader
from detection import architecture  # noqa: F401 - registers the networks
from detection.detectors import whole_masks
from detection.learner import wrap
from detection.masks import library, pack_pixels
from detection.options import DenseInferenceOptions
from detection.scenes import Fit, Scene, Scenes, evaluation_fit
from inference.predictor import NOT_FINITE, Failure
from runtime.checkpoint import read_checkpoint
from runtime.networks import DenseTask, load_weights
from runtime.placement import WORKERS, Placement
from utils import UserError

COMMANDS = {"boxes": "predict_detection.py", "instances": "predict_detection.py", "semantic": "predict_segmentation.py"}


@dataclass(frozen=True, kw_only=True)
class FoundObject:
    """An object in a picture.

    Attributes:
        label: its class, from 0.
        score: in [0, 1].
        box: left, top, right and bottom, px.
        mask: packed, see `detection.masks`; None of a network that finds boxes only.
    """

    label: int
    score: float
    box: tuple[float, float, float, float]
    mask: bytes | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What is in a picture.

    Attributes:
        path: the file.
        size: height and width of the picture, px.
        objects: the surest first; none from a segmenter.
        labels: the class of each pixel, (H, W) uint8; None from a detector.
    """

    path: Path
    size: tuple[int, int]
    objects: Sequence[FoundObject] = ()
    labels: np.ndarray | None = None


class ScenesOfFiles(ImageList):
    """Picture files as scenes without a target, of the size `fit`."""

    stack = Scenes

    def __init__(self, paths: Sequence[Path], fit: Fit, *, max_pixels: int) -> None:
        super().__init__(paths, F.pil_to_tensor, max_pixels=max_pixels)
        self.fit = fit

    def prepare(self, index: int) -> Scene:
        """The picture as the network sees it; raises `ImageError`."""
        image = super().prepare(index)
        size = image.shape[1], image.shape[2]
        return Scene(image=F.resize(image, list(self.fit.size(*size))), size=size)


class DensePredictor:
    """A trained detector or segmenter.

    Attributes:
        task: what it answers.
        classes: their names.
        options: those of its training, as the checkpoint has them; empty where it has none.
    """

    def __init__(self, options: DenseInferenceOptions, tasks: Sequence[DenseTask]) -> None:
        """Read the checkpoint of the flags.

        Raises:
            UserError: it cannot be read, is for none of `tasks`, or names no classes; or faster-coco-eval, which packs
                masks, is missing.
        """
        checkpoint = read_checkpoint(options.checkpoint)
        found: Any = checkpoint.model_args.get("dense_task")
        if found not in tasks:
            other = COMMANDS.get(found, "inference_artist.py")
            raise UserError(f"{checkpoint.path}, which is no network for {COMMANDS[tasks[0]]}",
                            f"a checkpoint of {COMMANDS[tasks[0]].replace('predict', 'train')}", f"give it to {other}")
        spec = checkpoint.resolve(dense=True)
        if spec.classes is None:
            raise UserError(f"{checkpoint.path}, which does not name its classes", "a checkpoint of this project's "
                            "trainers", "choose another file")
        if found == "instances":
            library()
        self.task: DenseTask = found
        self.classes, self.options = spec.classes, checkpoint.saved.options or {}
        self.placement = Placement.resolve(options.device, amp=options.amp)
        network: Any = spec.architecture.create().eval()
        load_weights(network, checkpoint.evaluated, checkpoint.path)
        network.backbone.fold()
        network.backbone.register_forward_hook(self._check)
        self._learner = wrap(self.placement.move_network(network), self.task).eval()
        self._fit = evaluation_fit(self.task, spec.preprocessing.input_size,
                                   canvas=spec.architecture.model_args.get("crop", 0))
        self._is_finite = True

    def predict(self, paths: Sequence[Path], options: DenseInferenceOptions) -> Iterator[Found | Failure]:
        """One answer per path, in the order given. No picture's answer depends on another picture."""
        pictures = ScenesOfFiles(paths, self._fit, max_pixels=options.max_pixels)
        workers = 0 if self.placement.device.type == "cpu" else WORKERS
        loading = Loading(batch_size=1, num_workers=workers if options.num_workers is None else options.num_workers)
        for batch in make_loader(pictures, BatchSampler(range(len(paths)), 1, drop_last=False), loading):
            yield from (Failure(paths[index], reason) for index, reason in batch.failures)
            for index, scene in zip(batch.indices.tolist(), batch.images, strict=True):
                yield self._answer(paths[index], scene)

    def _check(self, module: Any, inputs: Any, levels: dict[str, Tensor]) -> None:
        self._is_finite = all(bool(level.isfinite().all()) for level in levels.values())

    def _answer(self, path: Path, scene: Scene) -> Found | Failure:
        with torch.inference_mode(), self.placement.autocast():
            answer, = self._learner(Scenes([scene]).to(self.placement.device))
        if not self._is_finite:
            return Failure(path, NOT_FINITE)
        if self.task == "semantic":
            return Found(path=path, size=scene.size, labels=answer.to(torch.uint8).cpu().numpy())
        found = {name: value.float().cpu() for name, value in answer.items()}
        masks = ([pack_pixels(mask.numpy()) for mask in whole_masks(found, scene.size)] if self.task == "instances"
                 else [None] * len(found["boxes"]))
        return Found(path=path, size=scene.size, objects=[
            FoundObject(label=int(label), score=score, box=tuple(box), mask=mask) for label, score, box, mask in
            zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), masks, strict=True)])
