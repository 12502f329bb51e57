"""From flags to a network and its preprocessing: defaults, and contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.transforms import Preprocessing
from runtime.checkpoint import Checkpoint
from runtime.options import DataOptions, ModelOptions
from runtime.placement import Placement
from training.start import changed_flags, choose_architecture, choose_loading, choose_preprocessing
from utils import UserError

CPU = Placement.resolve("cpu")


def data(**values) -> DataOptions:
    return DataOptions(data_path=Path("x"), **values)


def preprocessing(options: ModelOptions, fit: str | None, checkpoint: Checkpoint | None) -> Preprocessing:
    return choose_preprocessing(options, fit, choose_architecture(options, 3, checkpoint), checkpoint)


def test_the_preset_decides_where_no_flag_does() -> None:
    found = preprocessing(ModelOptions(), None, None)
    assert (found.input_size, found.crop_pct, found.interpolation, found.fit) == (
        224, 0.875, "bicubic", "crop")
    assert preprocessing(ModelOptions(model="lsnet_xl_artist_448"), "pad", None).input_size == 448
    assert preprocessing(ModelOptions(model="resnet18", input_size=96), None, None).input_size == 96
    assert choose_architecture(ModelOptions(), 7, None).num_classes == 7


def test_projection_flags_must_agree() -> None:
    assert choose_architecture(ModelOptions(feature_dim=64, use_projection=True), 3, None).model_args == {
        "feature_dim": 64}
    for options in (ModelOptions(use_projection=True), ModelOptions(use_projection=False, feature_dim=64)):
        with pytest.raises(UserError, match="projection"):
            choose_architecture(options, 3, None)


def test_a_checkpoint_decides_and_flags_may_only_agree() -> None:
    checkpoint = Checkpoint(path=Path("c.pth"), model={"head.l.weight": torch.zeros(3, 384)}, config={
        "architecture": "lsnet_t_artist", "num_classes": 3, "model_args": {"img_size": 96, "drop_path_rate": 0.1},
        "preprocessing": {"input_size": 96, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0, 0, 0],
                          "std": [1, 1, 1], "fit": "pad"}})
    assert preprocessing(ModelOptions(), None, checkpoint).crop_pct == 0.9
    assert choose_architecture(ModelOptions(drop_path_rate=0.1), 3, checkpoint).model_args["img_size"] == 96
    for options in (ModelOptions(feature_dim=64), ModelOptions(drop_path_rate=0.2), ModelOptions(model="lsnet_s")):
        with pytest.raises(UserError, match=r"c\.pth"):
            choose_architecture(options, 3, checkpoint)
    for options, fit in ((ModelOptions(input_size=64), None), (ModelOptions(), "crop")):
        with pytest.raises(UserError, match=r"c\.pth"):
            preprocessing(options, fit, checkpoint)


@pytest.mark.parametrize(("pictures", "batch_size", "accumulation", "expected"), [
    (100, 32, 1, 32), (20, 32, 1, 20), (20, 32, 4, 5), (8, 2, 4, 2)])
def test_a_batch_is_never_larger_than_the_data_set_allows(pictures: int, batch_size: int, accumulation: int,
                                                          expected: int) -> None:
    assert choose_loading(data(batch_size=batch_size), pictures, accumulation, CPU).batch_size == expected


@pytest.mark.parametrize(("pictures", "batch_size", "accumulation"), [(1, 32, 1), (7, 32, 4), (100, 1, 1)])
def test_batches_of_one_are_refused(pictures: int, batch_size: int, accumulation: int) -> None:
    with pytest.raises(UserError, match="at least 2 pictures"):
        choose_loading(data(batch_size=batch_size), pictures, accumulation, CPU)


def test_what_a_hubs_config_says_of_the_input_counts() -> None:
    checkpoint = Checkpoint(path=Path("hub"), model={"fc.weight": torch.zeros(3, 512)}, config={
        "architecture": "resnet18", "num_classes": 3, "model_args": {}, "pretrained_cfg": {
            "input_size": [3, 160, 160], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5]}})
    found = preprocessing(ModelOptions(), None, checkpoint)
    assert (found.input_size, found.crop_pct, found.mean, found.interpolation) == (
        160, 0.9, (0.5, 0.5, 0.5), "bicubic")


def test_flags_that_change_a_resumed_run_are_named() -> None:
    begun = {"epochs": 3, "scale": (0.25, 1.0), "num_workers": 2, "sampler": "balanced", "gone": 1}
    checkpoint = Checkpoint(path=Path("run.pth"), model={}, config={"options": begun})
    assert changed_flags(checkpoint, {**begun, "scale": [0.25, 1.0], "num_workers": 0, "new": 7}) == []
    line, = changed_flags(checkpoint, {**begun, "epochs": 300, "sampler": "shuffle"})
    assert line.startswith("other flags than run.pth was begun with: --epochs 3 is now 300, --sampler balanced is now")
    assert changed_flags(Checkpoint(path=Path("x"), model={}), {"epochs": 3}) == []
