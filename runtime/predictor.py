"""From a checkpoint and picture files to predictions and features: one `Result` or `Failure` per file, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data.class_mapping import read_class_mapping
from data.image_list import Batch, ImageList
from data.images import DEFAULT_MAX_PIXELS
from data.loaders import EvalBatches, Loading, make_loader
from data.transforms import Preprocessing, eval_transform
from runtime.checkpoint import Checkpoint, check_classes, read_checkpoint
from runtime.networks import features_and_logits, load_weights
from runtime.placement import Placement
from utils import UserError


@dataclass(frozen=True, eq=False)
class Result:
    """What the network says of one picture.

    Attributes:
        path: the file.
        features: (D,) float32, raw.
        logits: (classes,) float32, on the CPU.
        classes: names in the order of the logits; None where the checkpoint knows none.
    """

    path: Path
    features: torch.Tensor
    logits: torch.Tensor
    classes: Sequence[str] | None

    def top(self, count: int, threshold: float = 0.0) -> list[dict[str, Any]]:
        """The `count` most probable classes, those of probability ≥ `threshold`, the most probable first."""
        probabilities, ids = self.logits.softmax(0).topk(min(count, len(self.logits)))
        return [{"class_id": number, "class_name": self.classes[number], "probability": probability}
                for number, probability in zip(ids.tolist(), probabilities.tolist(), strict=True)
                if probability >= threshold]


@dataclass(frozen=True)
class Failure:
    """A file that is no readable picture, and why."""

    path: Path
    reason: str


class Predictor:
    """A trained network with everything its checkpoint says about it, ready for pictures.

    Attributes:
        classes: class names; None where the checkpoint knows none and no mapping was given.
        preprocessing: what the checkpoint was evaluated with.
    """

    def __init__(self, network: torch.nn.Module, classes: Sequence[str] | None, preprocessing: Preprocessing,
                 placement: Placement) -> None:
        """Fold `network` for inference and move it to its place; see `from_checkpoint`."""
        network = network.eval()
        self.network = placement.network(network.for_inference() if hasattr(network, "for_inference") else network)
        self.classes, self.preprocessing, self.placement = classes, preprocessing, placement

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, model: str | None = None, class_csv: str | Path | None = None,
                        device: str = "auto") -> Predictor:
        """The predictor of a checkpoint; architecture, classes and preprocessing come from the file.

        Args:
            path: `.pth`, `.safetensors` or a folder in timm's hub layout.
            model: architecture; checked against the file, needed for files of other programs.
            class_csv: class_mapping.csv; checked against the file, needed to name classes of files of other programs.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

        Raises:
            UserError: the file cannot be read or contradicts `model` or `class_csv`.
        """
        placement = Placement.choose(device)
        checkpoint = read_checkpoint(path)
        architecture = checkpoint.architecture(model)
        classes = _classes(checkpoint, class_csv)
        if classes is not None and len(classes) != architecture.num_classes:
            raise UserError(f"{len(classes)} classes for {path}, whose head has {architecture.num_classes}",
                            "the class mapping it was trained with", "use the class_mapping.csv of its output folder")
        network = architecture.create()
        load_weights(network, checkpoint.evaluated, checkpoint.path)
        if "preprocessing" in checkpoint.config:
            preprocessing = Preprocessing.from_dict(checkpoint.config["preprocessing"])
        else:
            preprocessing = Preprocessing.from_pretrained_cfg(
                architecture.pretrained_cfg, input_size=architecture.model_args.get("img_size"), fit="crop")
        return cls(network, classes, preprocessing, placement)

    def predict(self, paths: Sequence[Path], *, batch_size: int = 32, num_workers: int = 0,
                max_pixels: int = DEFAULT_MAX_PIXELS) -> Iterator[Result | Failure]:
        """One answer per path, in the order given, whatever state the files are in."""
        pictures = ImageList(paths, eval_transform(self.preprocessing), max_pixels=max_pixels)
        loading = Loading(batch_size=batch_size, num_workers=num_workers,
                          pin_memory=self.placement.device.type == "cuda")
        for batch in make_loader(pictures, EvalBatches(len(paths), loading), loading):
            answers: dict[int, Result | Failure] = {
                index: Failure(paths[index], reason) for index, reason in batch.failures}
            answers |= self._answer(batch, paths)
            yield from (answers[index] for index in sorted(answers))

    def _answer(self, batch: Batch, paths: Sequence[Path]) -> dict[int, Result | Failure]:
        if not len(batch.indices):
            return {}
        with torch.inference_mode():
            features, logits = features_and_logits(self.network, self.placement.images(batch.images))
        features, logits = features.float().cpu(), logits.float().cpu()
        return {index: Result(paths[index], features[row], logits[row], self.classes)
                for row, index in enumerate(batch.indices.tolist())}


def _classes(checkpoint: Checkpoint, class_csv: str | Path | None) -> Sequence[str] | None:
    if class_csv is None:
        return checkpoint.classes
    classes = read_class_mapping(class_csv)
    check_classes(checkpoint, classes, class_csv)
    return classes
