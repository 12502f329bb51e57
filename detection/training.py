"""Training of detectors and segmenters on the loop that all trainers share."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import timm
import torch

from data.train_val import first_names
from data.transforms import Preprocessing
from detection import architecture  # noqa: F401 - registers the networks
from detection.augmentation import detection_augmentation, segmentation_augmentation
from detection.coco import read_coco
from detection.datasets import DenseImages, DetectionImages, SegmentationImages, open_ade20k
from detection.learner import wrap
from detection.masks import library
from detection.metrics import CocoMeter, OverlapMeter
from detection.options import DetectionOptions, SegmentationOptions
from detection.published import load_published, published_classes
from detection.pyramid import Colours, features_with
from detection.scenes import Fit, evaluation_fit
from evaluation.evaluator import Evaluation
from runtime.checkpoint import Checkpoint, check_classes
from runtime.networks import Architecture, DenseTask, check_name, load_weights
from runtime.options import TrainerOptions
from runtime.placement import Placement
from training.engine import Task
from training.start import load_backbone
from training.trainer import TrainerSpec
from utils import UserError, counted

DEFAULT_BACKBONE, CHANNELS, ROIS = "lsnet_t", 256, 512
SHORTEST: dict[str, int] = {"boxes": 800, "instances": 800, "semantic": 512}  # px
Options = TypeVar("Options", bound=TrainerOptions)
Images = TypeVar("Images", bound=DenseImages)


def usual_anchor_scale(input_size: int) -> float:
    """The size of anchors, as a multiple of the published ones', for pictures of this shorter side in px.

    Objects shrink with the pictures; anchors below twice the stride would leave gaps.
    """
    return min(1.0, max(0.5, input_size / SHORTEST["boxes"]))


class FirstOutput(torch.nn.Module):
    """The loss that the learner has computed itself."""

    def forward(self, loss: torch.Tensor, targets: torch.Tensor, scenes: Any) -> torch.Tensor:
        """The loss, ()."""
        return loss


class DenseSpec(TrainerSpec[Options, Images], Generic[Options, Images]):
    """What trainers of networks for dense tasks have in common.

    Attributes:
        val_set: the validation images, once they are open.
    """

    has_recipe = False
    has_labels = False  # a picture has many, or none
    val_set: Images

    @property
    def dense_task(self) -> DenseTask:
        """What the network answers."""
        raise NotImplementedError

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """No data; what no flag says of batch norms: as published, but those of an untrained network must learn."""
        options = self.options
        if options.optimizing.freeze_bn is None:
            begun = options.model.pretrained or options.run.finetune_from is not None
            saved = (checkpoint.saved.options or {}).get("freeze_bn") if checkpoint else begun
            self.options = replace(options, optimizing=replace(options.optimizing, freeze_bn=bool(saved)))
        return []

    def check_train(self, train_set: Images) -> None:
        """Raise a `UserError` if no picture is left, or none has an object."""
        if not len(train_set) or not train_set.counts().any():
            raise UserError(f"{counted(len(train_set), 'training picture')} without a single object",
                            "annotations to learn from", "see the list above, and add pictures")

    def fit(self, preprocessing: Preprocessing) -> Fit:
        """How large evaluation sees pictures."""
        return evaluation_fit(self.dense_task, preprocessing.input_size)

    def set_eval_transform(self, val_set: Images, preprocessing: Preprocessing) -> None:
        """Resize only."""
        val_set.fit = self.fit(preprocessing)

    def choose_network(self, outputs: int, checkpoint: Checkpoint | None,
                       source: Checkpoint | None) -> tuple[Architecture, Preprocessing]:
        """The network of the checkpoint, which no flag may contradict, or of the flags."""
        flags: Any = self.options.model
        asked = {"dense_task": self.dense_task, "channels": flags.channels, **self.own_flags()}
        if checkpoint:
            found = checkpoint.resolve(flags.model, dense=True)
            saved = {**found.architecture.model_args, "input_size": found.preprocessing.input_size}
            for name, value in {**asked, "input_size": flags.input_size}.items():
                if value is not None and value != saved.get(name, value):
                    flag = "task" if name == "dense_task" else name.replace("_", "-")
                    raise UserError(f"--{flag} {value}", f"{saved.get(name)}, as in {checkpoint.path}",
                                    "repeat the flags of the first start, or leave this one away")
            return found.architecture, found.preprocessing
        name = flags.model or (source.saved.architecture if source else None) or DEFAULT_BACKBONE
        check_name(name)
        size = flags.input_size or SHORTEST[self.dense_task]
        is_published = source is not None and any(key.startswith("neck.") for key in source.evaluated)
        usual = {"channels": CHANNELS, "rois": ROIS, "anchor_scale": 1.0 if is_published else usual_anchor_scale(size),
                 "crop": size}
        arguments: dict[str, Any] = {key: usual.get(key) if value is None else value for key, value in asked.items()}
        if arguments["channels"] % 8:
            raise UserError(f"--channels {arguments['channels']}", "a multiple of 8", "choose another")
        colours = Colours.of(name)
        return Architecture(name=name, num_classes=outputs, model_args=arguments), Preprocessing(
            input_size=size, crop_pct=1.0, interpolation="bilinear",
            mean=colours.mean, std=colours.std)

    def own_flags(self) -> dict[str, Any]:
        """The arguments of the network that only this task has, as flags say them."""
        return {}

    def load_source(self, network: Any, source: Checkpoint, classes: list[str]) -> str:
        """The backbone of a classifier, a detector or a segmenter; of a published file with as many classes, all."""
        state, path, body = source.evaluated, source.path, network.backbone.body
        if any(key.startswith("neck.") for key in state):
            return self._load_published(network, source, classes)
        if "dense_task" in source.model_args:
            prefix = "backbone.body."
            load_weights(body, {key.removeprefix(prefix): value for key, value in state.items()
                                if key.startswith(prefix)}, path)
        else:
            name = network.backbone.name
            found = source.resolve(None if source.saved.architecture else name).architecture
            size = {key: value for key, value in found.model_args.items() if key == "img_size"}
            whole: Any = timm.create_model(name, **size)
            load_backbone(whole, state, path)
            body.load_state_dict(features_with(name, whole.state_dict()).state_dict())
        return f"beginning with the backbone of {path}; pyramid and heads are new"

    def _load_published(self, network: Any, source: Checkpoint, classes: list[str]) -> str:
        state, path, named = source.evaluated, source.path, published_classes(source.content)
        rows = {"boxes": ("bbox_head.retina_cls.bias", 9), "instances": ("roi_head.mask_head.conv_logits.bias", 1),
                   "semantic": ("decode_head.conv_seg.bias", 1)}
        key, each = rows[self.dense_task]
        if key in state and (len(state[key]) == each * len(classes) if named is None else named == classes):
            load_published(network, self.dense_task, state, path)
            unchecked = "; it names no classes, so their order was not checked" if named is None else ""
            return f"beginning with {path}, all of it{unchecked}"
        backbone = {key.removeprefix("backbone."): value for key, value in state.items()
                    if key.startswith("backbone.")}
        own = network.backbone.body.state_dict()
        prefix = "model." if all(key.startswith("model.") for key in own) else ""
        load_weights(network.backbone.body, {prefix + key: value for key, value in backbone.items()}, path)
        others = f", as its classes are {first_names(named)}" if named else ""
        return f"beginning with the backbone of {path}; pyramid and heads are new{others}"

    def make_task(self, train_set: Images, preprocessing: Preprocessing, placement: Placement) -> Task:
        """The losses of the network itself."""
        return Task(criterion=FirstOutput(), evaluation=self.make_evaluation(train_set.classes),
                    wrap_model=functools.partial(wrap, task=self.dense_task))

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """Those of the checkpoint; the validation set is opened with them."""
        if not checkpoint.classes:
            raise UserError(f"{checkpoint.path}, which does not name its classes", "a checkpoint of this trainer",
                            "choose another file")
        return checkpoint.classes


class DetectionSpec(DenseSpec[DetectionOptions, DetectionImages]):
    """Boxes, or boxes and masks, monitored by average precision."""

    task = "detection"

    @property
    def dense_task(self) -> DenseTask:
        """As --task says."""
        return self.options.find.task

    def own_flags(self) -> dict[str, Any]:
        """Size of the anchors, and of Mask R-CNN the boxes that train it."""
        flags = self.options.model
        rois = {"rois": flags.rois} if self.dense_task == "instances" else {}
        return {"anchor_scale": flags.anchor_scale, **rois}

    def find_data(self, checkpoint: Checkpoint | None) -> list[str]:
        """No data; raises a `UserError` if flags miss a file or do not fit the task, or faster-coco-eval is missing."""
        library()
        if self.options.data.train_ann is None and not self.options.run.eval:
            raise UserError("no --train-ann", "annotations in COCO's format of the pictures to train on", "add it")
        if self.options.model.rois is not None and self.dense_task == "boxes":
            raise UserError("--rois with --task boxes", "--task instances", "leave one of the two away")
        return super().find_data(checkpoint)

    def open_train(self) -> tuple[DetectionImages, list[str]]:
        """The pictures of --train-ann."""
        data = self.options.data
        assert data.train_ann is not None  # `find_data` has refused that
        return self._open(data.train_ann, data.train_images)

    def open_val(self, classes: list[str]) -> tuple[DetectionImages, list[str]]:
        """The pictures of --val-ann."""
        self.val_set, lines = self._open(self.options.data.val_ann, self.options.data.val_images, classes)
        return self.val_set, lines

    def _open(self, path: Path, root: Path | None,
              classes: list[str] | None = None) -> tuple[DetectionImages, list[str]]:
        data = self.options.data
        root = root or data.data_path
        if not root.is_dir():
            raise UserError(f"no folder {root}", f"the folder that the file names of {path} start from",
                            "check --data-path, --train-images and --val-images")
        coco = read_coco(path, root, classes=classes, masks=self.dense_task == "instances")
        return DetectionImages(coco, root, Fit(shortest=1, longest=1), max_pixels=data.max_pixels), coco.notes

    def set_train_transform(self, train_set: DetectionImages, preprocessing: Preprocessing) -> None:
        """Resize and mirror."""
        train_set.fit = self.fit(preprocessing)
        train_set.augmentation = detection_augmentation(self.augmentation.hflip)

    def make_evaluation(self, classes: list[str]) -> Evaluation:
        """COCO's figures; those of masks choose the best network where there are masks."""
        kinds = ("box", "mask") if self.dense_task == "instances" else ("box",)
        return Evaluation(make_meter=lambda: CocoMeter(self.val_set, kinds), monitor=f"{kinds[-1]}_ap",
                          title=f"{kinds[-1]} AP", format_line=format_detection_line,
                          wrap_model=functools.partial(wrap, task=self.dense_task))

    def next_step(self, path: Path, val_set: DetectionImages, *, evaluated: bool) -> Sequence[object]:
        """Evaluate the best network; after that, draw the curves of its run."""
        if evaluated:
            return "tools/plot_log.py", path.with_name("metrics.jsonl")
        data = self.options.data
        return ("train_detection.py", "--eval", "--resume", path, "--task", self.dense_task, "--data-path",
                data.data_path, "--val-ann", data.val_ann,
                *(("--val-images", data.val_images) if data.val_images else ()))


class SegmentationSpec(DenseSpec[SegmentationOptions, SegmentationImages]):
    """A class for each pixel, monitored by the mean of the intersections over unions."""

    task = "segmentation"
    dense_task: DenseTask = "semantic"  # type: ignore[assignment]  # a property where it depends on a flag
    _canvas: int

    def own_flags(self) -> dict[str, Any]:
        """The squares of training."""
        return {"crop": self.options.augmentation.crop}

    def choose_network(self, outputs: int, checkpoint: Checkpoint | None,
                       source: Checkpoint | None) -> tuple[Architecture, Preprocessing]:
        """Remember what it pads pictures to; files of earlier versions pad none."""
        found, preprocessing = super().choose_network(outputs, checkpoint, source)
        self._canvas = found.model_args.get("crop", 0)
        return found, preprocessing

    def fit(self, preprocessing: Preprocessing) -> Fit:
        """How large evaluation sees pictures: those smaller than the crop are padded, as in training."""
        return replace(super().fit(preprocessing), canvas=self._canvas)

    def open_train(self) -> tuple[SegmentationImages, list[str]]:
        """The pictures of images/training."""
        return self._open("training")

    def open_val(self, classes: list[str]) -> tuple[SegmentationImages, list[str]]:
        """The pictures of images/validation."""
        self.val_set, lines = self._open("validation", classes)
        return self.val_set, lines

    def _open(self, side: str, classes: list[str] | None = None) -> tuple[SegmentationImages, list[str]]:
        data = self.options.data
        return open_ade20k(data.data_path, side, Fit(shortest=1, longest=1), classes=classes,
                           shift=data.reduce_zero_label, max_pixels=data.max_pixels)

    def find_classes(self, checkpoint: Checkpoint) -> list[str]:
        """Those of the data set, which must be the checkpoint's."""
        train_set, _ = self._open("validation")
        check_classes(checkpoint, train_set.classes, "the data set")
        return train_set.classes

    def set_train_transform(self, train_set: SegmentationImages, preprocessing: Preprocessing) -> None:
        """Zoom, crop, mirror and colours."""
        flags = self.options.augmentation
        train_set.fit = replace(self.fit(preprocessing), multiple=1, scales=flags.zoom)
        train_set.augmentation = segmentation_augmentation(
            self._canvas or flags.crop or preprocessing.input_size, flags.hflip)

    def make_evaluation(self, classes: list[str]) -> Evaluation:
        """Overlaps."""
        return Evaluation(make_meter=lambda: OverlapMeter(self.val_set), monitor="miou", title="mIoU",
                          format_line=format_segmentation_line, wrap_model=functools.partial(wrap, task="semantic"))

    def next_step(self, path: Path, val_set: SegmentationImages, *, evaluated: bool) -> Sequence[object]:
        """Evaluate the best network; after that, draw the curves of its run."""
        if evaluated:
            return "tools/plot_log.py", path.with_name("metrics.jsonl")
        zero = () if self.options.data.reduce_zero_label else ("--no-reduce-zero-label",)
        return "train_segmentation.py", "--eval", "--resume", path, "--data-path", self.data_path, *zero


def format_detection_line(figures: dict[str, float]) -> str:
    """COCO's most quoted figures on one line."""
    titles = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
    parts = [" ".join([kind, *(f"{title} {figures[f'{kind}_{name}']:.2f}" for name, title in titles.items())])
             for kind in ("box", "mask") if f"{kind}_ap" in figures]
    return f"* {' '.join(parts)} on {counted(int(figures['pictures']), 'picture')}"


def format_segmentation_line(figures: dict[str, float]) -> str:
    """The three figures on one line."""
    return (f"* mIoU {figures['miou']:.2f} aAcc {figures['aacc']:.2f} mAcc {figures['macc']:.2f} on "
            f"{counted(int(figures['pictures']), 'picture')}")
