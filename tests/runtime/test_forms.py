"""Every form in which weights come: the same network, classes and preprocessing, whoever wrote the file."""

from __future__ import annotations

import argparse
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import save_for_hf

from data.class_mapping import write_class_mapping
from runtime.checkpoint import publish_best, read_checkpoint, save_checkpoint
from runtime.networks import Architecture, State, load_weights
from utils import UserError

CLASSES = ["Ada", "北斎", "c d"]
ARTIST = Architecture(name="lsnet_t_artist", num_classes=3, model_args={"img_size": 64, "feature_dim": 48})
DISTILLED = Architecture(name="lsnet_t", num_classes=3, model_args={"img_size": 64, "distillation": True})
OURS = {"input_size": 64, "crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.2] * 3,
        "fit": "pad"}


def ours(state: State, architecture: Architecture = ARTIST, **more: Any) -> dict[str, Any]:
    return {"model": state, "classes": CLASSES, "config": {
        "architecture": architecture.name, "num_classes": 3, "model_args": architecture.model_args,
        "preprocessing": OURS}, **more}


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def other(state: State) -> State:
    return {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}


FORMS: dict[str, tuple[Architecture, Callable[[State], Any]]] = {
    "official": (ARTIST, lambda state: {"model": state}),
    "bare": (ARTIST, lambda state: state),
    "training dict": (ARTIST, lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 299, "scaler": {},
                                             "best": np.float64(1.5), "dtype": np.dtype("f4"), "out": Path("a/b")}),
    "moving average beside": (ARTIST, lambda state: {"model": state, "model_ema": other(state)}),
    "moving average alone": (ARTIST, lambda state: {"model_ema": state}),
    "timm's training": (ARTIST, lambda state: {"state_dict": state, "arch": "lsnet_t_artist", "metric": 1.0}),
    "distributed": (ARTIST, lambda state: {"model": prefixed(state, "module.")}),
    "compiled": (ARTIST, lambda state: prefixed(state, "_orig_mod.module.")),
    "Lightning": (ARTIST, lambda state: {"state_dict": prefixed(state, "model."), "pytorch-lightning_version": "2"}),
    "two heads": (DISTILLED, lambda state: {"model": state, "args": argparse.Namespace(model="lsnet_t")}),
}


@functools.cache
def state_of(name: str) -> State:
    return (ARTIST if name == ARTIST.name else DISTILLED).create().state_dict()


def are_equal(found: State, expected: State) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("form", FORMS)
def test_other_programs_files(tmp_path: Path, form: str) -> None:
    architecture, wrap = FORMS[form]
    state = state_of(architecture.name)
    torch.save(wrap(state), tmp_path / "x.pth")
    write_class_mapping(tmp_path / "class_mapping.csv", CLASSES)
    checkpoint = read_checkpoint(tmp_path / "x.pth")
    spec = checkpoint.resolve(None if checkpoint.saved.architecture else architecture.name)
    assert (spec.architecture, spec.classes) == (architecture, CLASSES)
    assert spec.preprocessing.input_size == 64
    assert spec.preprocessing.crop_pct == 0.875
    assert are_equal(checkpoint.evaluated, state)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that trainers write."""
    folder, state = tmp_path_factory.mktemp("own"), state_of(ARTIST.name)
    save_checkpoint(folder / "x.pth", ours(state))
    save_checkpoint(folder / "average.pth", ours(other(state), model_ema=state))
    publish_best(folder, ours(state), argparse.Namespace(head_hidden_size=48), ARTIST)
    return folder


@pytest.mark.parametrize("name", ["x.pth", "average.pth", "model.safetensors", "."])
def test_own_files(own: Path, name: str) -> None:
    checkpoint = read_checkpoint(own / name)
    spec = checkpoint.resolve()
    assert (spec.architecture, spec.classes, spec.preprocessing.as_dict()) == (ARTIST, CLASSES, OURS)
    assert are_equal(checkpoint.evaluated, state_of(ARTIST.name))


@pytest.mark.parametrize(("name", "arguments", "cfg"), [
    ("test_resnet", {}, {"mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (3, 192, 192)}),
    ("lsnet_t", {"img_size": 96}, {}),
    ("test_vit", {"img_size": 96}, {"crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bilinear"}),
    ("lsnet_t_artist", {"img_size": 64, "feature_dim": 48}, {"crop_pct": 0.5}),
    ("test_resnet", {}, {"crop_mode": "squash", "crop_pct": 0.95}),
])
def test_folders_of_timm(tmp_path: Path, name: str, arguments: dict[str, Any], cfg: dict[str, Any]) -> None:
    network = timm.create_model(name, num_classes=3, pretrained_cfg_overlay={
        **cfg, "num_classes": 3, "label_names": CLASSES}, **arguments).eval()
    save_for_hf(network, str(tmp_path), safe_serialization=name != "test_vit")
    checkpoint = read_checkpoint(tmp_path)
    spec = checkpoint.resolve()
    again = spec.architecture.create().eval()
    load_weights(again, checkpoint.evaluated, checkpoint.path)
    theirs: Any = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    wanted, seen = resolve_model_data_config(theirs), spec.preprocessing
    assert spec.classes == CLASSES
    assert wanted["input_size"] == (3, seen.input_size, seen.input_size)
    assert (tuple(wanted["mean"]), tuple(wanted["std"]), wanted["crop_pct"]) == (seen.mean, seen.std, seen.crop_pct)
    assert wanted["interpolation"] == seen.interpolation
    assert seen.fit == {(1.0, "squash"): "squash", (0.95, "squash"): "squash_crop"}.get(
        (wanted["crop_pct"], wanted["crop_mode"]), "crop")
    images = torch.randn(1, *wanted["input_size"])
    torch.testing.assert_close(again(images), theirs(images))


def test_a_folder_of_timm_with_a_border_is_refused(tmp_path: Path) -> None:
    network = timm.create_model("test_resnet", num_classes=3, pretrained_cfg_overlay={"crop_mode": "border"})
    save_for_hf(network, str(tmp_path), safe_serialization=True)
    with pytest.raises(UserError, match="crop_mode border, which only timm has"):
        read_checkpoint(tmp_path).resolve()


def test_folders_of_equal_weights_that_see_otherwise_are_two_models(tmp_path: Path) -> None:
    network, prints = timm.create_model("test_resnet", num_classes=3), []
    for number, mean in enumerate(((0.485, 0.456, 0.406), (0.5,) * 3)):
        network.pretrained_cfg["mean"] = mean
        save_for_hf(network, str(tmp_path / str(number)), safe_serialization=True)
        prints.append(read_checkpoint(tmp_path / str(number)).fingerprint)
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    assert read_checkpoint(tmp_path / "bare.pth").fingerprint in prints
    assert len(set(prints)) == 2


def test_classes_of_a_nameless_file(tmp_path: Path) -> None:
    torch.save(state_of(ARTIST.name), tmp_path / "x.pth")
    write_class_mapping(tmp_path / "class_mapping.csv", ["only", "two"])  # of something else in this folder
    assert read_checkpoint(tmp_path / "x.pth").resolve("lsnet_t_artist").classes is None
    write_class_mapping(tmp_path / "given.csv", CLASSES)
    assert read_checkpoint(tmp_path / "x.pth", tmp_path / "given.csv").resolve("lsnet_t_artist").classes == CLASSES
    with pytest.raises(UserError, match="2 classes for"):
        read_checkpoint(tmp_path / "x.pth", tmp_path / "class_mapping.csv").resolve("lsnet_t_artist")


# ---- what a file may not want ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "value"), [
    ("checkpoint_path", "/etc/passwd"), ("pretrained", True), ("pretrained_cfg", {"url": "https://localhost/x"}),
    ("pretrained_cfg_overlay", {"file": "x"}), ("cache_dir", "/tmp"), ("features_only", True), ("scriptable", True),
    ("act_layer", "relu"), ("embed_dim", [1, 2, 3, 4]), ("in_chans", 10**9), ("img_size", 10**6), ("img_size", "64"),
    ("img_size", [64, 128]), ("drop_path_rate", float("nan")), ("feature_dim", 10**9), ("feature_dim", 64),
    ("num_classes", 10**9), ("num_classes", 4), ("global_pool", "os.system"), ("distillation", "yes"),
])
@pytest.mark.parametrize("form", ["file", "folder"])
def test_arguments_of_a_file_are_refused_by_name(tmp_path: Path, name: str, value: Any, form: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("a network was built"))
    spoilt = Architecture(name="lsnet_t_artist", num_classes=3, model_args={**ARTIST.model_args, name: value})
    state = {"head.l.weight": torch.zeros(3, 48)}
    if form == "file":
        save_checkpoint(tmp_path / "x.pth", ours(state, spoilt))
    else:
        safetensors.torch.save_file(state, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(
            {"architecture": spoilt.name, "model_args": spoilt.model_args, "num_classes": 3}))
    with pytest.raises(UserError, match="4 classes" if value == 4 else f"{name}|not finite") as refused:
        read_checkpoint(tmp_path / ("x.pth" if form == "file" else ".")).resolve()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp", "/tmp/x", "resnet18.no_such_weights", "",
                                  "x" * 10_000, "os.system"])
def test_an_architecture_is_a_name_of_the_registry(tmp_path: Path, name: str) -> None:
    state = {"head.l.weight": torch.zeros(3, 48)}
    save_checkpoint(tmp_path / "x.pth", ours(state, Architecture(name=name, num_classes=3)))
    with pytest.raises(UserError, match=r"unknown model|architecture"):
        read_checkpoint(tmp_path / "x.pth").resolve()
