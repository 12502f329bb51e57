"""Commands that begin with published weights: training, linear probe, galleries, clusters and retrieval."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import inference_artist
import train_artist_multilabel
import train_artist_style
from runtime.checkpoint import read_checkpoint
from tests.conftest import MODEL
from tests.hub_cache import fill_hub_cache, use_hub_cache
from tests.pictures import write_annotated_set
from tools import build_gallery, evaluate_retrieval, extract_cluster_features

NETWORK = ["--model", MODEL, "--pretrained"]
FAST = ["--num-workers", "0", "--batch-size", "8", "--input-size", "32"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights in timm's layout."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "bare.safetensors"
    network = timm.create_model(MODEL)
    network(torch.randn(8, 3, 64, 64))  # running statistics that are not those of a new network
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def hub(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds `weights` as those of MODEL."""
    fill_hub_cache(tmp_path / "hub", MODEL, weights)
    use_hub_cache(monkeypatch, tmp_path / "hub")
    return tmp_path / "hub"


def train(data_set: Path, output: Path, *more: object) -> int:
    return train_artist_style.main(["--data-path", str(data_set), "--output-dir", str(output), *FAST,
                                    *map(str, more)])


@pytest.mark.parametrize("head", ["linear", "style"])
def test_training_begins_with_the_published_weights(hub: Path, weights: Path, data_set: Path, tmp_path: Path, capsys,
                                                    head: str) -> None:
    assert train(data_set, tmp_path / "run", *NETWORK, "--epochs", 1, "--lr", 1e-12, "--warmup-epochs", 0, "--min-lr",
                 1e-12, "--weight-decay", 0, "--head", head) == 0
    assert f"beginning with the published weights of {MODEL}; the head is new" in capsys.readouterr().out
    state = read_checkpoint(tmp_path / "run" / "best_checkpoint.pth").model
    prefix = "backbone." if head == "style" else ""
    published = load_file(weights)
    torch.testing.assert_close(state[f"{prefix}conv_stem.weight"], published["conv_stem.weight"])
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["pretrained_cfg"]["mean"] == list(timm.get_pretrained_cfg(MODEL).mean)
    loaded = timm.create_model(f"local-dir:{tmp_path / 'run'}", pretrained=True).eval()
    torch.testing.assert_close(loaded.state_dict()["head.l.weight" if head == "style" else "classifier.weight"],
                               state["head.l.weight" if head == "style" else "classifier.weight"])
    assert train_artist_style.main(["--eval", "--resume", str(tmp_path / "run"), "--data-path", str(data_set),
                                    "--num-workers", "0"]) == 0


def test_a_resumed_run_goes_on_with_its_own_weights(hub: Path, data_set: Path, tmp_path: Path, capsys) -> None:
    for epochs in (1, 2):
        assert train(data_set, tmp_path / "run", *NETWORK, "--epochs", epochs, "--resume", "auto") == 0
    assert "resumed" in capsys.readouterr().out


def test_a_probe_is_a_checkpoint_that_every_command_takes(hub: Path, weights: Path, data_set: Path, tmp_path: Path,
                                                          capsys) -> None:
    run = tmp_path / "run"
    assert train(data_set, run, *NETWORK, "--linear-probe", "--probe-views", 1) == 0
    said = capsys.readouterr().out
    assert "linear probe on" in said
    assert {path.name for path in run.iterdir()} >= {"checkpoint.pth", "model_best.pth", "best_checkpoint.pth",
                                                     "config.json", "model.safetensors", "class_mapping.csv"}
    state, published = read_checkpoint(run / "model_best.pth").model, load_file(weights)
    assert all(torch.equal(state[f"backbone.{key}"], value) for key, value in published.items()
               if not key.startswith("classifier"))
    val = str(data_set / "val")
    assert inference_artist.main(["--checkpoint", str(run), "--mode", "both", "--input", val, "--output",
                                  str(tmp_path / "both")]) == 0
    records = json.loads((tmp_path / "both" / "batch_results.json").read_text())
    right = np.mean([record["classification"][0]["class_name"] == name.split("/")[0]
                     for name, record in records.items()])
    assert f"* top-1 {100 * right:.3f}" in said
    space = json.loads((tmp_path / "both" / "features.json").read_text())
    assert space["feature_kind"] == "both"
    assert {record["feature_kind"] for record in records.values()} == {"both"}
    assert np.load(tmp_path / "both" / "features.npy").shape == (12, sum(space["blocks"]))
    assert train(data_set, tmp_path / "more", "--finetune-from", run, "--epochs", 1) == 0  # keeps the style head
    assert "head included" in capsys.readouterr().out
    assert train(data_set, tmp_path / "again", "--finetune-from", run, "--linear-probe", "--feature-kind",
                 "pooled") == 0
    assert "linear probe on 256 numbers (pooled features)" in capsys.readouterr().out


def test_a_probe_of_several_labels(hub: Path, tmp_path: Path, capsys) -> None:
    annotated = write_annotated_set(tmp_path / "set")
    assert train_artist_multilabel.main([
        "--data-path", str(annotated / "pictures"), "--train-ann", str(annotated / "train.csv"), "--val-ann",
        str(annotated / "val.csv"), "--output-dir", str(tmp_path / "run"), *FAST, *NETWORK, "--linear-probe"]) == 0
    said = capsys.readouterr().out
    assert "and 3 augmented views of each, C = " in said  # few pictures
    assert "* mAP" in said
    assert (tmp_path / "run" / "thresholds.csv").is_file()


def test_a_folder_is_sorted_and_searched_without_training(hub: Path, weights: Path, data_set: Path, tmp_path: Path,
                                                          capsys) -> None:
    train_side, val = str(data_set / "train"), str(data_set / "val")
    assert build_gallery.main(["--images-dir", train_side, "--gallery", str(tmp_path / "g"), *NETWORK]) == 0
    assert {path.name for path in (tmp_path / "g").iterdir()} >= {"features.json", "standardisation.npy"}
    bare = ["--checkpoint", str(weights), "--model", MODEL]
    assert inference_artist.main(["--mode", "search", "--input", val, "--output", str(tmp_path / "s"), "--gallery",
                                  str(tmp_path / "g"), *bare]) == 0  # the same weights, from a file
    assert build_gallery.main(["--add", val, "--gallery", str(tmp_path / "g"), *NETWORK]) == 0
    assert extract_cluster_features.main(["--images-dir", val, "--num-clusters", "3", "--output-dir",
                                          str(tmp_path / "c"), "--pca", "5", *NETWORK]) == 0
    assert np.load(tmp_path / "c" / "standardisation.npy").shape[0] == 6
    assert evaluate_retrieval.main(["--images-dir", val, "--gallery", str(tmp_path / "g"), *NETWORK]) == 0
    assert "gallery, by mean" in capsys.readouterr().out
    assert inference_artist.main(["--mode", "search", "--input", val, "--output", str(tmp_path / "x"), "--gallery",
                                  str(tmp_path / "g"), "--feature-kind", "pooled", *bare]) == 2
    assert "both, which it holds" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("more", "told"), [
    (["--finetune-from", "x.pth"], "--pretrained with --finetune-from"), (["--resume", "x.pth"], "with --resume"),
    (["--eval"], "--pretrained with --eval"), (["--model", "lsnet_l_artist"], "nobody published weights"),
    (["--recipe", "small"], "--recipe small with --pretrained"),
    (["--linear-probe", "--epochs", "3"], "--epochs with --linear-probe"),
    (["--linear-probe", "--mixup", "0.1"], "--mixup with --linear-probe"),
    (["--linear-probe", "--sampler", "sqrt"], "--sampler with --linear-probe"),
    (["--linear-probe", "--head", "style"], "--head with --linear-probe"),
    (["--probe-views", "2"], "without --linear-probe"),
    (["--linear-probe", "--probe-views", "0", "--color-jitter", "0.1"], "--color-jitter with --linear-probe"),
    (["--model", "test_resnet"], "cannot be downloaded"),
])
def test_flags_that_contradict_each_other_are_refused(hub: Path, data_set: Path, tmp_path: Path, capsys,
                                                      more: list[str], told: str) -> None:
    assert train(data_set, tmp_path / "run", *NETWORK, *more) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("more", "told"), [
    (["--mode", "classify", *NETWORK], "knows no artists"), (["--mode", "cluster", "--pretrained"], "without --model"),
    (["--mode", "cluster"], "no --checkpoint"), (["--mode", "cluster", *NETWORK, "--checkpoint", "x"], "one of them")])
def test_inference_needs_one_network(data_set: Path, tmp_path: Path, capsys, more: list[str], told: str) -> None:
    assert inference_artist.main(["--input", str(data_set / "val"), "--output", str(tmp_path / "r"), *more]) == 2
    assert told in capsys.readouterr().err


def test_published_weights_of_lsnet_make_the_artist_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    plain = timm.create_model("lsnet_t").eval()
    torch.save({"model": plain.state_dict()}, tmp_path / "published.pth")
    images = torch.randn(2, 3, 224, 224)
    expected = plain.forward_head(plain.forward_features(images), pre_logits=True)
    found = timm.create_model("lsnet_t_artist", pretrained=True, num_classes=7, pretrained_cfg_overlay={
        "file": str(tmp_path / "published.pth")}).eval()
    torch.testing.assert_close(found.forward_head(found.forward_features(images), pre_logits=True), expected,
                               rtol=0, atol=1e-6)
    assert found(images).shape == (2, 7)
    fill_hub_cache(tmp_path / "hub", "lsnet_t_artist", tmp_path / "published.pth", "pytorch_model.bin")
    use_hub_cache(monkeypatch, tmp_path / "hub")
    projected = timm.create_model("lsnet_t_artist", pretrained=True, num_classes=7, feature_dim=16).eval()
    torch.testing.assert_close(projected.forward_features(images), plain.forward_features(images), rtol=0, atol=1e-6)
    assert projected.forward_head(projected.forward_features(images), pre_logits=True).shape == (2, 16)
