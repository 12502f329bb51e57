"""Training that begins with published weights: defaults, a classifier from a probe, frozen norms, early stopping."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import train_artist_multilabel
import train_artist_style
from runtime.checkpoint import Checkpoint, read_checkpoint, save_checkpoint
from tests.conftest import MODEL
from tests.hub_cache import fill_hub_cache, use_hub_cache
from tests.pictures import write_annotated_set, write_data_set
from training.engine import Run

STILL = ["--lr", "1e-12", "--warmup-epochs", "0"]  # weights that hardly move


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of weights in timm's layout, with running statistics that are not those of a new network."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("weights") / "bare.safetensors"
    network = timm.create_model(MODEL)
    network(torch.randn(8, 3, 64, 64))
    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def pretrained(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Flags that begin with `weights` as those of MODEL."""
    fill_hub_cache(tmp_path / "hub", MODEL, weights)
    use_hub_cache(monkeypatch, tmp_path / "hub")
    return ["--model", MODEL, "--pretrained"]


def train(data_set: Path, output: Path, *flags: object) -> int:
    return train_artist_style.main(["--data-path", str(data_set), "--output-dir", str(output), "--num-workers", "0",
                                    *map(str, flags)])


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def options(output: Path) -> dict:
    return read_checkpoint(output / "checkpoint.pth").config["options"]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two artists, 4 pictures each to train and 2 to validate."""
    return write_data_set(tmp_path_factory.mktemp("few"), artists=2, train=4, val=2)


def test_what_is_chosen_is_printed_saved_and_kept_by_a_resume(pretrained: list[str], few: Path, tmp_path: Path,
                                                              capsys) -> None:
    assert train(few, tmp_path / "run", *pretrained, "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert "chosen for 8 pictures" in said
    assert "--batch-size 8 --lr 0.0001 --min-lr 1e-06 --layer-decay 1 --freeze-bn --head style --head-init probe " \
           "--probe-views 3 --scale 0.35 1.0 --color-jitter 0 --input-size 160" in said  # that of its pretrained_cfg
    begun = options(tmp_path / "run")
    assert (begun["batch_size"], begun["lr"], begun["freeze_bn"], begun["head_init"]) == (8, 1e-4, True, "probe")
    assert [record["epoch"] for record in records(tmp_path / "run")] == [0, 1]
    assert train(few, tmp_path / "run", "--resume", "auto", "--epochs", 2) == 0  # a resume needs no other flag
    said = capsys.readouterr().out
    assert "chosen for" not in said
    assert "was begun with: --epochs 1 is now 2; only" in said
    assert options(tmp_path / "run") == {**begun, "epochs": 2, "resume": "auto", "pretrained": False, "model": None}
    assert [record["epoch"] for record in records(tmp_path / "run")] == [0, 1, 2]
    assert train(few, tmp_path / "next", "--finetune-from", tmp_path / "run", "--epochs", 1) == 0
    said = capsys.readouterr().out
    assert "head included" in said
    assert "--head-init none --scale 0.35 1.0 --color-jitter 0 --input-size 160" in said
    assert options(tmp_path / "next")["freeze_bn"] is True


@pytest.mark.parametrize("head", ["linear", "style"])
def test_training_begins_where_the_probe_is(pretrained: list[str], weights: Path, data_set: Path, tmp_path: Path,
                                            head: str) -> None:
    kind = "both" if head == "style" else "pooled"
    small = ["--input-size", 32, "--batch-size", 8]
    assert train(data_set, tmp_path / "probe", *pretrained, *small, "--linear-probe", "--feature-kind", kind) == 0
    assert train(data_set, tmp_path / "tuned", *pretrained, *small, *STILL, "--head", head, "--epochs", 1) == 0
    [probe], tuned = records(tmp_path / "probe"), records(tmp_path / "tuned")
    for name in [name for name in probe if name != "epoch"]:
        assert tuned[0][name] == probe[name]
        assert tuned[1][name] == pytest.approx(probe[name], abs=1e-5)
    fitted, state = (read_checkpoint(tmp_path / run / "checkpoint.pth").evaluated for run in ("probe", "tuned"))
    for name, value in fitted.items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-7)
    prefix, published = "backbone." if head == "style" else "", load_file(weights)
    for name, value in published.items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(state[prefix + name], value)  # bit for bit


def test_several_labels_begin_with_a_probe(pretrained: list[str], tmp_path: Path, capsys) -> None:
    annotated = write_annotated_set(tmp_path / "set")
    flags = ["--data-path", str(annotated / "pictures"), "--train-ann", str(annotated / "train.csv"), "--val-ann",
             str(annotated / "val.csv"), "--num-workers", "0", "--input-size", "32", *pretrained]
    assert train_artist_multilabel.main([*flags, "--output-dir", str(tmp_path / "probe"), "--linear-probe"]) == 0
    assert train_artist_multilabel.main([*flags, "--output-dir", str(tmp_path / "run"), *STILL, "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "--freeze-bn --head style --head-init probe" in said
    [probe], tuned = records(tmp_path / "probe"), records(tmp_path / "run")
    assert tuned[0]["val_macro_map"] == probe["val_macro_map"]


@pytest.mark.parametrize(("flags", "told"), [
    (["--head-init", "probe"], "--head-init probe without weights"),
    (["--linear-probe", "--head-init", "none", "--pretrained"], "--head-init with --linear-probe"),
    (["--linear-probe", "--patience", "3", "--pretrained"], "--patience with --linear-probe"),
    (["--layer-decay", "0"], "above 0"), (["--patience", "-1"], "at least 0")])
def test_flags_without_their_sense_are_refused(data_set: Path, tmp_path: Path, capsys, flags: list[str],
                                               told: str) -> None:
    assert train(data_set, tmp_path / "run", "--model", MODEL, *flags) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


# ---- LSNet, early stopping -------------------------------------------------------------------------------------------


def test_lsnet_begins_with_a_file_in_the_published_layout(few: Path, tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    torch.save({"model": timm.create_model("lsnet_t").state_dict()}, tmp_path / "published.pth")
    assert train(few, tmp_path / "run", "--finetune-from", tmp_path / "published.pth", "--input-size", 32,
                 "--epochs", 1, "--layer-decay", 0.9, "--no-model-ema") == 0
    said = capsys.readouterr().out
    assert "--freeze-bn --head style --head-init probe" in said
    assert "lsnet_t_artist at 32 px" in said
    state, begun = (read_checkpoint(path).model for path in (tmp_path / "run" / "checkpoint.pth",
                                                             tmp_path / "published.pth"))
    kept = [name for name in begun if "running" in name and not name.startswith("head")]
    assert kept
    assert all(torch.equal(state[f"backbone.{name}"], begun[name]) for name in kept)
    assert not torch.equal(state["backbone.patch_embed.0.c.weight"], begun["patch_embed.0.c.weight"])


def early(data_set: Path, output: Path) -> int:
    return train(data_set, output, "--model", MODEL, "--input-size", 32, "--batch-size", 8, "--epochs", 12,
                 "--patience", 2, "--resume", "auto")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_early_stopping_interrupted_is_early_stopping_uninterrupted(data_set: Path, tmp_path: Path, capsys,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    assert early(data_set, tmp_path / "whole") == 0
    found = [record["val_top1"] for record in records(tmp_path / "whole")]
    best = found.index(max(found))
    assert len(found) == best + 3 < 12
    finish = Run._finish_epoch

    def interrupt(run: Run, *arguments: object) -> None:
        finish(run, *arguments)
        if run.state.position.epoch == best + 2:  # one evaluation before the end
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_finish_epoch", interrupt)
        assert early(data_set, tmp_path / "broken") == 128 + signal.SIGTERM
    assert early(data_set, tmp_path / "broken") == 0
    one, other = (read_checkpoint(tmp_path / name / "checkpoint.pth").content for name in ("whole", "broken"))
    assert [one[name] for name in ("epoch", "stale", "best_metric")] == [best + 3, 2, max(found)]
    assert [other[name] for name in ("epoch", "step", "stale", "best_metric")] == [best + 3, 0, 2, max(found)]
    for part in ("model", "model_ema"):
        assert all(torch.equal(other[part][name], value) for name, value in one[part].items())
    for number, moments in one["optimizer"]["state"].items():
        assert all(torch.equal(other["optimizer"]["state"][number][name], value) for name, value in moments.items())
    why = f"{best + 3} epochs, and no better top-1 in the last 2 evaluations; raise --patience to go on"
    assert f"ended early: {why}" in capsys.readouterr().out
    assert early(data_set, tmp_path / "broken") == 0
    assert f"has {why}" in capsys.readouterr().out


def test_a_checkpoint_from_before_early_stopping_goes_on(trained: Path, data_set: Path, tmp_path: Path) -> None:
    old: Checkpoint = read_checkpoint(trained / "checkpoint.pth")
    content = {name: value for name, value in old.content.items() if name != "stale"}
    (tmp_path / "run").mkdir()
    save_checkpoint(tmp_path / "run" / "checkpoint.pth", content)
    assert train(data_set, tmp_path / "run", "--input-size", 32, "--epochs", 3, "--patience", 1, "--resume",
                 "auto") == 0
    assert read_checkpoint(tmp_path / "run" / "checkpoint.pth").content["epoch"] == 3
