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

    pretrained: bool = flag(False, "start from the published weights of --model, downloaded once", common=True)
    feature_dim: None = fixed(None)
    use_projection: None = fixed(None)
    head: Literal["style"] = fixed("style")


@dataclass(frozen=True, kw_only=True)
class UnlabelledDataOptions(DataOptions):
    """Data."""

    data_path: Path = flag(MISSING, "folder of pictures, in any sub-folders; or one with train/ and val/, whose "
                                    "pictures are used for validation")
    val_share: float = flag(0.1, "share of the pictures used for validation if there is no val/; always the same "
                                 "pictures", above=0, at_most=0.5, common=True)


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

    teacher_model: str | None = flag(None, "the network to learn from: any model of timm (with --teacher-path if that "
                                           "file does not name its architecture)", metavar="NAME", common=True)
    teacher_path: str | None = flag(None, "its checkpoint, or a folder with config.json; without it, the published "
                                          "weights of --teacher-model, downloaded once", metavar="CHECKPOINT",
                                    common=True)
    teacher_views: int | None = flag(None, "random views of each picture whose teacher features are computed once, "
                                           "before training, and kept in memory; 0 computes those of a new view in "
                                           "every step, which takes longer (default: 12 for up to 5,000 pictures, "
                                           "else 0)", at_least=0, at_most=1000, common=True)
    distillation_type: Literal["none"] = fixed("none")
    distillation_alpha: float = fixed(0.0)
    distillation_tau: float = fixed(1.0)


@dataclass(frozen=True, kw_only=True)
class DistillationRunOptions(RunOptions):
    """Run."""

    finetune_from: str | None = flag(None, "start from the weights of this checkpoint, folder with config.json, or "
                                           "hf_hub:OWNER/NAME, with its architecture, input size and fit unless flags "
                                           "say otherwise", metavar="CHECKPOINT")
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
