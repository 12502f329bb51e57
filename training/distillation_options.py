"""The flags of train_distillation.py: those of a trainer, without what only labels and classifiers need."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from runtime.arguments import fixed, flag
from runtime.options import (
    AugmentationOptions,
    DataOptions,
    DistillationOptions,
    FolderSearchOptions,
    ModelOptions,
    RunOptions,
    TrainerOptions,
)

TEACHER_VIEWS, MOST_VIEWED = 12, 5000  # whose features take some 400 MB of memory


@dataclass(frozen=True, kw_only=True)
class StudentOptions(ModelOptions):
    """Student."""

    pretrained: bool = flag(False, "begin with the weights that were published for --model, downloaded once",
                            common=True)
    feature_dim: None = fixed(None)
    use_projection: None = fixed(None)
    head: Literal["style"] = fixed("style")


@dataclass(frozen=True, kw_only=True)
class UnlabelledDataOptions(DataOptions):
    """Data."""

    data_path: Path = flag(MISSING, "folder of pictures, whatever folders they lie in; or one with train/ and val/, "
                                    "whose pictures validate")
    val_share: float = flag(0.1, "share of the pictures that validate, where there is no val/: the same ones every "
                                 "time", above=0, at_most=0.5, common=True)


@dataclass(frozen=True, kw_only=True)
class ViewOptions(AugmentationOptions):
    """Augmentation."""

    smoothing: float = fixed(0.0)
    mixup: float = fixed(0.0)
    cutmix: float = fixed(0.0)
    mixup_prob: float = fixed(0.0)
    mixup_switch_prob: float = fixed(0.0)


@dataclass(frozen=True, kw_only=True)
class FeatureTeacherOptions(DistillationOptions):
    """Teacher."""

    teacher_model: str | None = flag(None, "the network to learn from: any timm model (with --teacher-path where the "
                                           "file does not say its architecture)", metavar="NAME", common=True)
    teacher_path: str | None = flag(None, "its checkpoint, or a folder with config.json; without it, the published "
                                          "weights of --teacher-model, downloaded once", metavar="CHECKPOINT",
                                    common=True)
    teacher_views: int | None = flag(
        None, "random views of each picture that the teacher looks at, once, before training begins; its features of "
              "them stay in memory. 0: it looks at a new view in every step, which takes longer (default: "
              f"{TEACHER_VIEWS} for up to {MOST_VIEWED:,} pictures, else 0)", at_least=0, at_most=1000, common=True)
    distillation_type: Literal["none"] = fixed("none")
    distillation_alpha: float = fixed(0.0)
    distillation_tau: float = fixed(1.0)


@dataclass(frozen=True, kw_only=True)
class DistillationRunOptions(RunOptions):
    """Run."""

    finetune_from: str | None = flag(None, "begin with the weights of this checkpoint, folder with config.json, or "
                                           "hf_hub:OWNER/NAME, with its architecture, input size and fit where no flag "
                                           "says otherwise", metavar="CHECKPOINT")
    class_csv: None = fixed(None)
    head_init: None = fixed(None)
    freeze_backbone: int = fixed(0)
    eval: bool = fixed(False)
    finetune: bool = fixed(False)


@dataclass(frozen=True, kw_only=True)
class FeatureDistillationOptions(TrainerOptions):
    """The flags of train_distillation.py."""

    model: StudentOptions
    data: UnlabelledDataOptions
    augmentation: ViewOptions
    distillation: FeatureTeacherOptions
    run: DistillationRunOptions
    search: FolderSearchOptions
