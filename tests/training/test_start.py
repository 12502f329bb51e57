"""From flags to a network and its preprocessing: defaults, and contradictions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data.transforms import Preprocessing
from runtime.checkpoint import Checkpoint
from runtime.networks import Architecture, make_architecture
from runtime.options import DataOptions, ModelOptions
from runtime.placement import Placement
from training.start import (
    adapt_network,
    changed_flags,
    choose_architecture,
    choose_loading,
    choose_preprocessing,
    load_pretrained,
)
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


# ---- finetuning ------------------------------------------------------------------------------------------------------


def source(name: str | None, state: dict[str, torch.Tensor], classes: list[str] | None = None,
           **model_args: object) -> Checkpoint:
    """A checkpoint of ours, or without `name` of a file that says nothing of its network."""
    config = {"architecture": name, "num_classes": 3, "model_args": {"img_size": 64, **model_args}, "preprocessing": {
        "input_size": 64, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3,
        "fit": "pad"}}
    return Checkpoint(path=Path("nowhere/s.pth"), model=state, classes=classes, config=config if name else {})


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    return make_architecture("lsnet_s_artist", 3, input_size=64).create().state_dict()


def test_finetuning_takes_what_the_checkpoint_says_unless_a_flag_says_otherwise(small) -> None:
    given = source("lsnet_s_artist", small, drop_path_rate=0.1, distillation=True)
    architecture, seen = adapt_network(given, ModelOptions(), None, 5, has_teacher=False)
    assert architecture == Architecture(name="lsnet_s_artist", num_classes=5, model_args={
        "img_size": 64, "drop_path_rate": 0.1})
    assert (seen.input_size, seen.fit, seen.crop_pct, seen.mean) == (64, "pad", 0.9, (0.5, 0.5, 0.5))
    architecture, seen = adapt_network(given, ModelOptions(input_size=96, drop_path_rate=0.0), "crop", 5,
                                       has_teacher=False)
    assert architecture.model_args == {"img_size": 96, "drop_path_rate": 0.0}
    assert (seen.input_size, seen.fit, seen.crop_pct) == (96, "crop", 0.9)
    published = source("lsnet_s", small)
    assert adapt_network(published, ModelOptions(model="lsnet_s_artist"), None, 5, has_teacher=False)[0] == (
        Architecture(name="lsnet_s_artist", num_classes=5, model_args={"img_size": 64}))
    assert adapt_network(source("lsnet_s_distill", small), ModelOptions(), None, 5, has_teacher=False)[0].name == (
        "lsnet_s")


def test_a_file_that_says_nothing_is_known_by_its_widths(small) -> None:
    architecture, seen = adapt_network(source(None, small), ModelOptions(), None, 3, has_teacher=False)
    assert (architecture.name, architecture.model_args, seen.input_size) == ("lsnet_s_artist", {"img_size": 64}, 64)


@pytest.mark.parametrize(("names", "classes", "line"), [
    (["a", "b", "c"], ["a", "b", "c"], "the artists are the same"),
    (None, ["a", "b", "c"], "their order was not checked"),
    (["a", "b", "c"], ["b", "x", "y"], "except for 1 of 3 artists"),
    (None, ["a", "b"], "except for 0 of 2 artists"),
])
def test_the_head_of_known_artists_is_kept(small, names, classes, line) -> None:
    given = source("lsnet_s_artist", small, names)
    network = adapt_network(given, ModelOptions(), None, len(classes), has_teacher=False)[0].create()
    before = network.head.l.weight.detach().clone()
    assert line in load_pretrained(network, given, classes)
    if names is None and len(classes) == 3:
        names = classes
    for row, name in enumerate(classes):
        known = names.index(name) if names and name in names else None
        assert torch.equal(network.head.l.weight[row], before[row] if known is None else small["head.l.weight"][known])


def test_a_head_of_another_size_than_the_data_set_is_refused() -> None:
    with pytest.raises(UserError, match="4 classes for"):
        choose_architecture(ModelOptions(), 4, source("lsnet_t_artist", {"head.l.weight": torch.zeros(3, 384)}))
