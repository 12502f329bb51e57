"""From a checkpoint and picture files to predictions and features: one `Result` or `Failure` per file, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler

from data.class_mapping import read_class_mapping
from data.image_list import Batch, collate, full_batches
from data.images import DEFAULT_MAX_PIXELS
from data.loaders import Loading, make_loader
from data.transforms import Preprocessing
from inference.lanes import Lanes
from inference.views import Normalise, ViewList, Views
from runtime.checkpoint import Checkpoint, check_classes, read_checkpoint
from runtime.fingerprint import fingerprint
from runtime.networks import features_and_logits, load_weights
from runtime.options import InferenceOptions
from runtime.placement import WORKERS, Placement
from utils import UserError

TASKS = {"classification": ("one artist per picture", "inference_artist.py"),
         "multilabel": ("several artists per picture", "predict_artist_multilabel.py")}


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
        fingerprint: tells this model from others; empty where no checkpoint was read.
        task: what the network was trained for, see `Checkpoint.task`.
    """

    def __init__(self, network: torch.nn.Module, classes: Sequence[str] | None, preprocessing: Preprocessing,
                 placement: Placement, *, compile: bool = False, fingerprint: str = "",
                 task: str | None = None) -> None:
        """Fold `network` for inference and move it to its place; see `from_checkpoint`."""
        network = network.eval()
        network = network.for_inference() if hasattr(network, "for_inference") else network
        self.dtype = placement.amp or torch.float32
        self.network = placement.network(network).to(self.dtype)
        self.ask = torch.compile(features_and_logits) if compile else features_and_logits
        self.normalise = Normalise(preprocessing, placement.device)
        self.classes, self.preprocessing, self.placement = classes, preprocessing, placement
        self.fingerprint, self.task = fingerprint, task

    @classmethod
    def from_options(cls, options: InferenceOptions) -> Predictor:
        """The predictor that the flags ask for; see `from_checkpoint`."""
        return cls.from_checkpoint(options.checkpoint, model=options.model, class_csv=options.class_csv,
                                   device=options.device, amp=options.amp, compile=options.compile)

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, model: str | None = None, class_csv: str | Path | None = None,
                        device: str = "auto", amp: str = "off", compile: bool = False) -> Predictor:
        """The predictor of a checkpoint; architecture, classes and preprocessing come from the file.

        Args:
            path: `.pth`, `.safetensors` or a folder in timm's hub layout.
            model: architecture; checked against the file, needed for files of other programs.
            class_csv: class_mapping.csv; checked against the file, needed to name classes of files of other programs.
            device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
            amp: precision of weights and pictures: `off` (float32), `bf16`, `fp16`, or `auto`, see `Placement.choose`.
            compile: hand the network to torch.compile.

        Raises:
            UserError: the file cannot be read or contradicts `model` or `class_csv`.
        """
        placement = Placement.choose(device, amp=amp)
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
        return cls(network, classes, preprocessing, placement, compile=compile, fingerprint=fingerprint(checkpoint),
                   task=checkpoint.task)

    def check_task(self, task: str, checkpoint: Path) -> None:
        """Raise a `UserError` unless `checkpoint` was trained for `task`, or does not say for what."""
        if self.task not in (task, None):
            raise UserError(f"{checkpoint}, which was trained for {TASKS[self.task][0]}",
                            f"a network for {TASKS[task][0]}", f"use {TASKS[self.task][1]} for this one")

    def answer(self, paths: Sequence[Path], options: InferenceOptions, *, start: int = 0) -> Iterator[Result | Failure]:
        """One answer per path as the flags ask for; see `predict`."""
        return self.predict(paths, batch_size=options.batch_size, num_workers=options.num_workers,
                            max_pixels=options.max_pixels, view=options.view, draft=options.draft, start=start)

    def predict(self, paths: Sequence[Path], *, batch_size: int = 32, num_workers: int | None = None,
                max_pixels: int = DEFAULT_MAX_PIXELS, view: str = "default", draft: bool = True,
                start: int = 0) -> Iterator[Result | Failure]:
        """One answer per path, in the order given, whatever state the files are in.

        The network sees full batches of readable pictures, the last one filled up: a file that cannot be read moves no
        other one to another place in its batch, so it does not change the last bit of another answer.

        Args:
            paths: picture files.
            batch_size: pictures that the network looks at together.
            num_workers: processes that decode; 0 decodes in this one. None is `WORKERS` beside a GPU and 0 on the CPU,
                where each core decodes a batch, then looks at one, and none is asked for more.
            max_pixels: pictures whose header claims more count as unreadable, px.
            view: one of `inference.views.VIEWS`; features and logits are the means over the views.
            draft: decode JPEGs that are much larger than needed at a part of their size.
            start: paths to pass over; where whole batches of them could be read, the others' answers stay the same.
        """
        size = min(batch_size, len(paths)) or 1
        pictures = ViewList(paths, Views(self.preprocessing, view), max_pixels=max_pixels, draft=draft)
        with Lanes(self.placement.lanes(batches=-(-len(paths) // size))) as lanes:
            batches = BatchSampler(range(start, len(paths)), size, drop_last=False)
            loaded = self._load(pictures, batches, num_workers, lanes)
            for batch, (features, logits) in lanes.map(self._look_at_views, full_batches(loaded, size)):
                answers = {index: Failure(paths[index], reason) for index, reason in batch.failures}
                for row, index in enumerate(batch.indices.tolist()):
                    answers[index] = Result(paths[index], features[row], logits[row], self.classes)
                yield from (answers[index] for index in sorted(answers))

    def _load(self, pictures: ViewList, batches: BatchSampler, num_workers: int | None,
              lanes: Lanes) -> Iterable[Batch]:
        """The pictures of each batch, decoded where `predict` says."""
        kind = self.placement.device.type
        if num_workers is None:
            num_workers = 0 if kind == "cpu" else WORKERS
        if num_workers or kind != "cpu":
            return make_loader(pictures, batches, Loading(
                batch_size=batches.batch_size, num_workers=min(num_workers, len(batches)), pin_memory=kind == "cuda"))
        return (batch for _, batch in lanes.map(lambda indices: collate([pictures[index] for index in indices]),
                                                batches))

    def _look_at_views(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """The means over the views, on the CPU; a batch without a picture has none."""
        if not len(batch.images):
            return batch.images, batch.images
        features, logits = zip(*map(self.look, batch.images.unbind(1)), strict=True)
        return torch.stack(features).mean(0).cpu(), torch.stack(logits).mean(0).cpu()

    @torch.inference_mode()
    def look(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, D) and logits (B, classes), float32, of one view of B pictures, (B, S, S, 3) uint8."""
        images = self.normalise(pixels_BHWC.to(self.placement.device, non_blocking=True))
        features, logits = self.ask(self.network, self.placement.images(images).to(self.dtype))
        return features.float(), logits.float()


def _classes(checkpoint: Checkpoint, class_csv: str | Path | None) -> Sequence[str] | None:
    if class_csv is None:
        return checkpoint.classes
    classes = read_class_mapping(class_csv)
    check_classes(checkpoint, classes, class_csv)
    return classes
