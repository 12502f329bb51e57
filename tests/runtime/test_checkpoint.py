"""Files of weights: what loads, what is refused and with which words, and what a training run leaves behind."""

from __future__ import annotations

import argparse
import errno
import json
import os
import pickle
import stat
import zipfile
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
import safetensors.torch
import timm
import torch

from runtime import checkpoint as module
from runtime.checkpoint import (
    BEST,
    BEST_ALIAS,
    HUB_CONFIG,
    WEIGHTS,
    check_classes,
    publish_best,
    read_checkpoint,
    save_checkpoint,
)
from runtime.networks import Architecture, load_weights
from utils import UserError

ARCHITECTURE = Architecture(name="lsnet_t_artist", num_classes=3, model_args={"img_size": 64, "feature_dim": 48})
CLASSES = ["Ada", "北斎", "c d"]
PREPROCESSING = {"input_size": 64, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.2] * 3,
                 "fit": "crop"}
CONTENT = {"classes": CLASSES, "epoch": 3, "best_metric": 50.0,
           "config": {"architecture": "lsnet_t_artist", "num_classes": 3, "model_args": ARCHITECTURE.model_args,
                      "preprocessing": PREPROCESSING}}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURE.create().eval()


@pytest.fixture(scope="module")
def target() -> torch.nn.Module:
    """A network into which nothing is loaded."""
    return ARCHITECTURE.create()


def write_head(path: Path, network: torch.nn.Module, **change: object) -> None:
    """Write a checkpoint whose weights are those of the head alone, as much as a description is checked against."""
    head = {key: tensor for key, tensor in network.state_dict().items() if key.startswith(("head.", "projection."))}
    save_checkpoint(path, {**CONTENT, "model": head, **change})


@pytest.mark.parametrize("content", [b"", b"id,artist\n0,Anna\n", b"{}", b"\xff\xd8\xff\xe0"])
def test_what_is_no_checkpoint_is_called_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match="no checkpoint"):
        read_checkpoint(tmp_path / "x.pth")


class RunsCode:
    """A pickle that asks for `os.system`."""

    def __reduce__(self):
        return os.system, ("echo this must never run > proof",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_wants_to_run_code_is_refused_by_name(tmp_path: Path, monkeypatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pth"
    torch.save({"model": {"w": torch.ones(1)}, "x": RunsCode()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"evil\.pth, which asks for .*(system|code)") as refused:
        read_checkpoint(path)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "proof").exists()


def test_a_plain_pickle_that_is_no_torch_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    path.write_bytes(pickle.dumps(RunsCode()))
    with pytest.raises(UserError, match=r"plain\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["cut.pth", "cut.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named_at_any_length(tmp_path: Path, network: torch.nn.Module, name: str,
                                                 share: float) -> None:
    path = tmp_path / name
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(network.state_dict(), path)
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    with pytest.raises(UserError, match=name) as refused:
        read_checkpoint(path)
    assert "\n" not in str(refused.value)


def test_files_without_weights_and_missing_files_are_named(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UserError, match="holds no weights"):
        read_checkpoint(tmp_path / "empty.pth")
    with pytest.raises(UserError, match="no file"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("wrap", [
    lambda state: state,
    lambda state: {"model": state},
    lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    lambda state: {"model": {f"_orig_mod.module.{key}": value for key, value in state.items()}, "epoch": 3,
                   "optimizer": {}, "args": argparse.Namespace(model="lsnet_t_artist", lr=0.1)},
])
def test_older_files_load_strictly(tmp_path: Path, network: torch.nn.Module, wrap) -> None:
    torch.save(wrap(network.state_dict()), tmp_path / "old.pth")
    checkpoint = read_checkpoint(tmp_path / "old.pth")
    architecture = checkpoint.resolve(None if checkpoint.config else "lsnet_t_artist").architecture
    assert (architecture.num_classes, architecture.model_args) == (3, {"feature_dim": 48, "img_size": 64})
    again = architecture.create().eval()
    load_weights(again, checkpoint.evaluated, checkpoint.path)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(images), network(images))


def test_the_architecture_must_be_said_for_files_that_do_not(tmp_path: Path, network: torch.nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    with pytest.raises(UserError, match="add --model"):
        read_checkpoint(tmp_path / "bare.pth").resolve()


def test_a_model_that_contradicts_the_file_is_refused(tmp_path: Path, network: torch.nn.Module) -> None:
    save_checkpoint(tmp_path / "a.pth", {**CONTENT, "model": network.state_dict()})
    with pytest.raises(UserError, match="holds lsnet_t_artist"):
        read_checkpoint(tmp_path / "a.pth").resolve("lsnet_s_artist")


def test_other_classes_are_refused_with_the_first_difference(tmp_path: Path, network: torch.nn.Module) -> None:
    save_checkpoint(tmp_path / "a.pth", {**CONTENT, "model": network.state_dict()})
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    check_classes(checkpoint, CLASSES, "x")
    with pytest.raises(UserError, match=r"class 1 .*'Bob'.*'北斎'"):
        check_classes(checkpoint, ["Ada", "Bob", "c d"], "class_mapping.csv")


@pytest.mark.parametrize("spoil", [
    lambda state: state.pop("head.l.weight"),
    lambda state: state.update(strange=torch.ones(1)),
    lambda state: state.update({"head.l.bias": torch.ones(5)}),
])
def test_a_key_too_few_too_many_or_of_another_shape_is_an_error(network: torch.nn.Module, target: torch.nn.Module,
                                                                spoil) -> None:
    state = dict(network.state_dict())
    spoil(state)
    with pytest.raises(UserError, match=r"file\.pth, which (lacks|has)"):
        load_weights(target, state, "file.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
@pytest.mark.parametrize(("name", "keep_head"), [("head.l.bias", True), ("head.l.bias", False),
                                                 ("patch_embed.0.bn.running_var", True)])
def test_weights_that_are_not_finite_are_refused(network: torch.nn.Module, target: torch.nn.Module, value: float,
                                                 name: str, keep_head: bool) -> None:
    state = {key: tensor.double() for key, tensor in network.state_dict().items()}
    state[name][1] = value
    with pytest.raises(UserError, match=rf"file\.pth, whose {name} holds numbers that are not finite"):
        load_weights(target, state, "file.pth", keep_head=keep_head)


def test_limits_that_a_network_has_from_its_maker_may_be_infinite() -> None:
    network = torch.nn.BatchNorm2d(2)
    network.register_buffer("limit", torch.tensor(torch.inf))
    load_weights(network, network.state_dict(), "file.pth")


def test_a_head_of_other_artists_is_left_out_only_when_asked(network: torch.nn.Module) -> None:
    other = Architecture(name="lsnet_t_artist", num_classes=7, model_args=ARCHITECTURE.model_args).create()
    head = other.head.l.weight.detach().clone()
    load_weights(other, dict(network.state_dict()), "file.pth", keep_head=False)
    assert torch.equal(other.head.l.weight, head)
    assert torch.equal(other.head.bn.running_mean, network.head.bn.running_mean)
    assert torch.equal(other.blocks4[0].c.weight, network.blocks4[0].c.weight)


@pytest.mark.parametrize("links", [True, False])
def test_the_best_model_lies_under_both_names_and_in_hub_layout(tmp_path: Path, network: torch.nn.Module, links: bool,
                                                                monkeypatch) -> None:
    if not links:
        def refuse(*paths):
            raise OSError("no hard links here")
        monkeypatch.setattr(module.os, "link", refuse)
    for epoch in (1, 2):
        publish_best(tmp_path, {**CONTENT, "epoch": epoch, "model": network.state_dict()}, network, ARCHITECTURE)
    best, alias = (read_checkpoint(tmp_path / name) for name in (BEST, BEST_ALIAS))
    assert best.content["epoch"] == alias.content["epoch"] == 2
    assert os.path.samefile(tmp_path / BEST, tmp_path / BEST_ALIAS) is links
    saved = safetensors.torch.load_file(tmp_path / WEIGHTS)
    assert saved.keys() == best.model.keys()
    assert all(torch.equal(saved[key], best.model[key]) for key in saved)
    config = json.loads((tmp_path / HUB_CONFIG).read_text(encoding="utf-8"))
    assert config["label_names"] == CLASSES
    assert config["num_features"] == 48
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(("owner", "name", "error"), [
    (torch, "save", RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0")),
    (safetensors.torch, "save_file", safetensors.SafetensorError("I/O error: No space left on device (os error 28)"))])
def test_writers_without_room_raise_the_systems_error(tmp_path: Path, network: torch.nn.Module, owner: object,
                                                      name: str, error: Exception,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(owner, name, write)
    with pytest.raises(OSError, match="No space left") as caught:
        publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.glob(".*"))
    error.args = ("another error",)
    with pytest.raises(type(error), match="another error"):
        publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_files_have_the_usual_mode(tmp_path: Path, network: torch.nn.Module) -> None:
    publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    (tmp_path / "usual").touch()
    usual = stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {usual}


def test_timm_loads_the_output_folder(tmp_path: Path, network: torch.nn.Module) -> None:
    publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(again(images), network(images))
    assert again.pretrained_cfg["mean"] == (0.5, 0.5, 0.5) or again.pretrained_cfg["mean"] == [0.5] * 3
    assert again.pretrained_cfg["label_names"] == CLASSES


def test_the_hub_folder_loads_here_too(tmp_path: Path, network: torch.nn.Module) -> None:
    publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.classes == CLASSES
    assert checkpoint.resolve().architecture == ARCHITECTURE
    (tmp_path / HUB_CONFIG).write_text("{")
    with pytest.raises(UserError, match=r"config\.json, which cannot be read"):
        read_checkpoint(tmp_path)


def test_a_model_on_the_hub_is_its_folder(tmp_path: Path, network: torch.nn.Module, monkeypatch) -> None:
    publish_best(tmp_path, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download",
                        lambda name, revision, allow_patterns: asked.append((name, revision)) or str(tmp_path))
    assert read_checkpoint("hf_hub:someone/lsnet@v2").classes == CLASSES
    assert asked == [("someone/lsnet", "v2")]


def test_a_folder_of_a_hub_with_pickled_weights_loads_safely(tmp_path: Path, network: torch.nn.Module,
                                                             monkeypatch) -> None:
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"architecture": "lsnet_t_artist", "num_classes": 3, "label_names": '
                                          '["a", "b", "c"], "pretrained_cfg": {"crop_pct": 0.5}}')
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download",
                        lambda repository, **how: asked.append(how["allow_patterns"][1]) or str(tmp_path))
    for source in (tmp_path, "hf_hub:someone/lsnet"):
        checkpoint = read_checkpoint(source)
        assert checkpoint.classes == ["a", "b", "c"]
        assert checkpoint.model.keys() == network.state_dict().keys()
        assert checkpoint.resolve("lsnet_t_artist").architecture.num_classes == 3
    assert asked == ["model.safetensors", "pytorch_model.bin"]


def test_a_model_that_cannot_be_downloaded_is_named(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="hf_hub:someone/nothing, which cannot be downloaded"):
        read_checkpoint("hf_hub:someone/nothing")
    with pytest.raises(UserError, match="hf_hub:a/b/c, which cannot be downloaded"):
        read_checkpoint("hf_hub:a/b/c")
    with pytest.raises(UserError, match="found hf-hub:a; expected hf_hub:OWNER/NAME"):
        read_checkpoint("hf-hub:a")


@pytest.mark.parametrize("prefix", ["hf_hub:", "hf-hub:"])
@pytest.mark.parametrize(("inside", "file"), [("", "model.safetensors"), ("/runs/t", "runs/t/model.safetensors"),
                                              ("/runs/best_checkpoint.pth", "runs/best_checkpoint.pth")])
def test_a_hub_repository_may_hold_the_weights_anywhere(tmp_path: Path, network: torch.nn.Module, monkeypatch,
                                                        prefix: str, inside: str, file: str) -> None:
    folder = (tmp_path / file).parent
    folder.mkdir(parents=True, exist_ok=True)
    publish_best(folder, {**CONTENT, "model": network.state_dict()}, network, ARCHITECTURE)
    asked = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, revision, allow_patterns: asked.append(
        (repository, revision, allow_patterns)) or str(tmp_path))
    assert read_checkpoint(f"{prefix}someone/nets@v2{inside}").classes == CLASSES
    (repository, revision, patterns), = asked
    assert (repository, revision) == ("someone/nets", "v2")
    assert file in patterns
    assert (folder / "config.json").relative_to(tmp_path).as_posix() in patterns


# ---- odd files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"P", b"PK", b"PK\3", b"\x80", b"\x80\2", b"\x80\2.", b"\x80\2\x95",
                                     b"\x80\2}u.", b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n)R.",
                                     b"\x80\2cbuiltins\nbytearray\n)R."])
def test_broken_pickles_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.pth, which is damaged") as refused:
        read_checkpoint(tmp_path / "x.pth")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("tensor", [
    torch.eye(3).to_sparse(), torch.empty(3, 48, device="meta"), torch.zeros(1).expand(10**9, 48),
    torch.zeros(3, 48, dtype=torch.complex64)], ids=["sparse", "meta", "a billion rows", "complex"])
@pytest.mark.parametrize("entry", ["model", "model_ema"])
def test_odd_tensors_are_named(tmp_path: Path, network: torch.nn.Module, tensor: torch.Tensor, entry: str) -> None:
    write_head(tmp_path / "x.pth", network, **{entry: {"head.l.weight": tensor}})
    with pytest.raises(UserError, match=r"x\.pth, whose head\.l\.weight is sparse"):
        read_checkpoint(tmp_path / "x.pth")


def test_a_file_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(1_000_000)}}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as plain, zipfile.ZipFile(tmp_path / "x.pth", "w") as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize("change", [
    {"config": [1]}, {"config": {"architecture": 3}}, {"config": {**CONTENT["config"], "preprocessing": {"mean": 1}}},
    {"config": {**CONTENT["config"], "preprocessing": {**PREPROCESSING, "std": [0.0, 1, 1]}}},
    {"config": {**CONTENT["config"], "preprocessing": {**PREPROCESSING, "interpolation": "/etc/passwd"}}},
    {"config": {**CONTENT["config"], "preprocessing": {**PREPROCESSING, "crop_pct": 1e-9}}},
    {"config": {**CONTENT["config"], "task": "os.system"}}, {"config": {**CONTENT["config"], "num_classes": 10**9}},
    {"config": {**CONTENT["config"], "options": {"epochs": torch.ones(2)}}}, {"classes": [1, 2, 3]},
    {"config": torch.ones(1)}, {"classes": ["one"]}])
def test_odd_descriptions_are_refused(tmp_path: Path, network: torch.nn.Module, change: dict) -> None:
    write_head(tmp_path / "sound.pth", network)
    assert read_checkpoint(tmp_path / "sound.pth").resolve().architecture == ARCHITECTURE
    write_head(tmp_path / "x.pth", network, **change)
    with pytest.raises(UserError, match=r"x\.pth") as refused:
        read_checkpoint(tmp_path / "x.pth").resolve()
    assert "\n" not in str(refused.value)


def test_numpy_scalars_are_numbers_and_paths_are_text(tmp_path: Path) -> None:
    values = {"a": np.float64(1.5), "b": np.int64(-3), "c": np.bool_(True), "d": np.dtype("f4"), "e": Path("x/y"),
              "f": np.float32(0.25), "g": np.str_("é"), "h": PureWindowsPath(r"C:\x")}
    torch.save({"model": {"w": torch.ones(1)}, **values}, tmp_path / "x.pth")
    content = read_checkpoint(tmp_path / "x.pth").content
    assert [content[key] for key in "abcdefgh"] == [1.5, -3, True, "f4", "x/y", 0.25, "é", "C:/x"]
    assert [type(content[key]) for key in "abe"] == [float, int, str]
    torch.save({"model": {"w": torch.ones(1)}, "x": np.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"asks for numpy\..*_reconstruct"):
        read_checkpoint(tmp_path / "x.pth")
