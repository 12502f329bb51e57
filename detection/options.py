"""The flags of train_detection.py and train_segmentation.py: those of a trainer, without what only classifiers need."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from runtime.arguments import fixed, flag
from runtime.options import (
    LARGEST_SIDE,
    AugmentationOptions,
    DataOptions,
    DistillationOptions,
    ModelOptions,
    OptimizerOptions,
    RunOptions,
    TrainedOptions,
    TrainerOptions,
)


@dataclass(frozen=True, kw_only=True)
class DenseModelOptions(ModelOptions):
    """Network."""

    model: str | None = flag(None, "backbone: an LSNet, or any model of timm with features_only that takes pictures of "
                                   "any size (default: lsnet_t, or what the resumed checkpoint holds)", metavar="NAME",
                             common=True)
    input_size: int | None = flag(None, "pictures are resized until the shorter side has this length, px (default: 800 "
                                        "to find objects, 512 to name pixels, or the checkpoint's)", at_least=32,
                                  at_most=LARGEST_SIDE, names=("--img-size",), common=True)
    channels: int | None = flag(None, "width of the pyramid and the heads, a multiple of 8 (default: 256, or the "
                                      "checkpoint's)", at_least=8, at_most=1024, common=True)
    pretrained: bool = flag(False, "start from the backbone's published weights, downloaded once", common=True)
    feature_dim: None = fixed(None)
    use_projection: None = fixed(None)
    head: None = fixed(None)
    drop_path_rate: None = fixed(None)


@dataclass(frozen=True, kw_only=True)
class DetectorOptions(DenseModelOptions):
    """Network."""

    rois: int | None = flag(None, "boxes of each picture that train Mask R-CNN's heads (default: 512, or the "
                                  "checkpoint's)", at_least=4, at_most=4096)
    anchor_scale: float | None = flag(
        None, "size of anchors as a multiple of the published ones, of which the smallest have 32 px (default: "
              "--input-size / 800, but at least 1/2 and at most 1; 1 for a file of mmdetection; or the checkpoint's)",
        at_least=0.1, at_most=10)


@dataclass(frozen=True, kw_only=True)
class DetectionDataOptions(DataOptions):
    """Data."""

    data_path: Path = flag(MISSING, "folder that the file names in annotations are relative to")
    train_ann: Path | None = flag(None, "annotations in COCO's format (JSON) of the training pictures; required, "
                                        "except with --eval", common=True)
    val_ann: Path = flag(MISSING, "annotations of the validation pictures", common=True)
    train_images: Path | None = flag(None, "the same for --train-ann, if it is not --data-path", common=True)
    val_images: Path | None = flag(None, "the same for --val-ann, if it is not --data-path", common=True)
    batch_size: int = flag(2, "pictures per process and step", at_least=1, common=True)
    fit: None = fixed(None)


@dataclass(frozen=True, kw_only=True)
class SegmentationDataOptions(DataOptions):
    """Data."""

    data_path: Path = flag(MISSING, "folder with images/ and annotations/, in each training/ and validation/, and "
                                    "classes.txt or objectInfo150.txt, as in ADE20K")
    reduce_zero_label: bool = flag(True, "label 0 stands for no class, and classes begin at 1; without it they begin "
                                         "at 0. 255 is ignored in both", common=True)
    batch_size: int = flag(4, "pictures per process and step", at_least=1, common=True)
    fit: None = fixed(None)


@dataclass(frozen=True, kw_only=True)
class FlipOptions(AugmentationOptions):
    """Augmentation."""

    scale: tuple[float, float] = fixed((1.0, 1.0))
    ratio: tuple[float, float] = fixed((1.0, 1.0))
    color_jitter: float = fixed(0.0)
    aa: str = fixed("none")
    reprob: float = fixed(0.0)
    smoothing: float = fixed(0.0)
    mixup: float = fixed(0.0)
    cutmix: float = fixed(0.0)
    mixup_prob: float = fixed(0.0)
    mixup_switch_prob: float = fixed(0.0)


@dataclass(frozen=True, kw_only=True)
class CropOptions(FlipOptions):
    """Augmentation."""

    zoom: tuple[float, float] = flag((0.5, 2.0), "size of a training picture as a multiple of --input-size, smallest "
                                                 "and largest", at_least=0.1, at_most=10)
    crop: int | None = flag(None, "side of the square that is cut out of it, px; shorter sides are padded, in "
                                  "evaluation, too (default: --input-size, or the checkpoint's)", at_least=32,
                            at_most=LARGEST_SIDE)


@dataclass(frozen=True, kw_only=True)
class DenseOptimizerOptions(OptimizerOptions):
    """Optimisation."""

    sched: Literal["cosine", "step", "poly"] = flag(  # pyrefly: ignore[bad-override]
        "cosine", "schedule of the learning rate: a cosine, a tenth after 2/3 and again after 11/12 of the epochs "
                  "(step), or a polynomial of power 0.9 (poly)")
    lr: float = flag(1e-4, "highest learning rate; above 512 pictures per update it is multiplied by n/512, unless "
                           "--lr-scaling says otherwise", at_least=1e-15, at_most=1000)
    freeze_bn: bool | None = flag(None, "batch norms keep their statistics while their weights learn (default: with "
                                        "--pretrained or --finetune-from)", names=("--set-bn-eval",))


@dataclass(frozen=True, kw_only=True)
class NoTeacher(DistillationOptions):
    """Distillation."""

    teacher_model: None = fixed(None)
    teacher_path: None = fixed(None)
    distillation_type: Literal["none"] = fixed("none")
    distillation_alpha: float = fixed(0.0)
    distillation_tau: float = fixed(1.0)


@dataclass(frozen=True, kw_only=True)
class DenseRunOptions(RunOptions):
    """Run."""

    finetune_from: str | None = flag(None, "start from the backbone of this checkpoint, folder with config.json, or "
                                           "hf_hub:OWNER/NAME; a file of mmdetection or mmsegmentation gives the "
                                           "whole network if it has as many classes", metavar="CHECKPOINT")
    compile: bool = fixed(False)
    grad_checkpointing: bool = fixed(False)
    class_csv: None = fixed(None)
    head_init: None = fixed(None)
    freeze_backbone: int = fixed(0)
    finetune: bool = fixed(False)


@dataclass(frozen=True, kw_only=True)
class FindOptions:
    """What to find."""

    task: Literal["boxes", "instances"] = flag("boxes", "boxes of objects (RetinaNet), or their boxes and masks (Mask "
                                                        "R-CNN)", common=True)


@dataclass(frozen=True, kw_only=True)
class DetectionOptions(TrainerOptions):
    """The flags of train_detection.py."""

    find: FindOptions
    model: DetectorOptions
    data: DetectionDataOptions
    augmentation: FlipOptions
    optimizing: DenseOptimizerOptions
    distillation: NoTeacher
    run: DenseRunOptions


@dataclass(frozen=True, kw_only=True)
class SegmentationOptions(TrainerOptions):
    """The flags of train_segmentation.py."""

    model: DenseModelOptions
    data: SegmentationDataOptions
    augmentation: CropOptions
    optimizing: DenseOptimizerOptions
    distillation: NoTeacher
    run: DenseRunOptions


# ---- prediction ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DenseInferenceOptions(TrainedOptions):
    """Network and loading."""

    checkpoint: Path = flag(MISSING, "model_best.pth of the training, or a folder with config.json and "
                                     "model.safetensors")
    amp: Literal["auto", "bf16", "fp16", "off"] = flag("off", "precision: off is float32, auto bf16 on GPUs that "
                                                              "compute it and float32 elsewhere")
    model: None = fixed(None)
    class_csv: None = fixed(None)
    batch_size: int = fixed(1)  # a picture's answer shall not depend on others, to whose size it would be padded
    compile: bool = fixed(False)
    view: Literal["default"] = fixed("default")
    draft: bool = fixed(False)


@dataclass(frozen=True, kw_only=True)
class ObjectFiles:
    """Drawings, cut-outs and LabelMe."""

    min_score: float = flag(0.5, "lowest score of an object that is drawn, cropped, counted or written for LabelMe; "
                                 "the file of --output has all from 0.05 on", at_least=0, at_most=1, common=True)
    categories: tuple[str, ...] = flag((), "use only objects of these categories for the same outputs", metavar="NAME",
                                       common=True)
    draw: Path | None = flag(None, "draw a PNG of each picture here, with its objects", writes="folder", common=True)
    crop_to: Path | None = flag(None, "write each object as a picture of its own into this folder, as "
                                      "PICTURE_NUMBER_CATEGORY.png; crops.csv lists them", writes="folder", common=True)
    crop_padding: float = flag(0.0, "widen a crop on each side by this share of the object's width and height",
                               at_least=0, at_most=10, common=True)
    labelme: Path | None = flag(None, "write LabelMe's JSON for each picture here: boxes, or polygons of masks",
                                writes="folder", common=True)
    overwrite: bool = flag(False, "replace the folder of --crop-to of an earlier run without asking")
