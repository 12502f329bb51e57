"""NaN and infinity: every command that takes a network refuses one without sound answers, in one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import inference_artist
import main
import predict_artist_multilabel
import train_artist_multilabel
import train_artist_style
from data.multilabel.annotations import Annotation, write_annotations
from runtime.checkpoint import read_checkpoint, save_checkpoint
from tests.conftest import MODEL
from tools import build_gallery, calibrate, evaluate_retrieval, extract_cluster_features

COMMANDS = {
    "classify": (inference_artist, "--checkpoint {net} --input {data}/val --output {out} --workers 0"),
    "features": (inference_artist, "--checkpoint {net} --input {data}/val --output {out} --workers 0 --mode cluster"),
    "one picture": (inference_artist, "--checkpoint {net} --input {data}/val/artist_0/val_0.png --output {out} "
                                      "--workers 0"),
    "labels": (predict_artist_multilabel, "--checkpoint {labels} --inputs {data}/val --recursive --output {out}/o.json "
                                          "--workers 0"),
    "calibrate": (calibrate, "--checkpoint {net} --data-path {data} --workers 0"),
    "gallery": (build_gallery, "--checkpoint {net} --images-dir {data}/val --gallery {out} --workers 0"),
    "clusters": (extract_cluster_features, "--checkpoint {net} --images-dir {data}/val --output-dir {out} --workers 0"),
    "retrieval": (evaluate_retrieval, "--checkpoint {net} --images-dir {data}/val --output {out}/r.json --workers 0"),
    "eval": (train_artist_style, "--eval --resume {net} --data-path {data} --output-dir {out} -j 0"),
    "eval main": (main, "--eval --resume {net} --data-path {data} --output-dir {out} -j 0 --adversarial fgsm "
                        f"--model {MODEL}"),
    "eval labels": (train_artist_multilabel, "--eval --resume {labels} --data-path {data} --output-dir {out} -j 0 "
                                             "--val-ann {table}"),
}
TRAINING = {
    "finetune": "--finetune-from {net}", "resume": "--resume {latest}",
    "teacher": "--teacher-path {net} --distillation-type hard",
}


@pytest.fixture(scope="module")
def places(trained: Path, data_set: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    """For a NaN in the head, and for a stem whose numbers overflow: the files of the network, by name."""
    folder = tmp_path_factory.mktemp("not_finite")
    table = folder / "val.csv"
    write_annotations(table, [Annotation(path.relative_to(data_set).as_posix(), {path.parent.name: 1.0})
                              for path in sorted((data_set / "val").rglob("*.png"))])
    found = {}
    for kind, key, value in (("nan", "classifier.bias", float("nan")), ("overflow", "conv_stem.weight", 3e38)):
        found[kind] = {"data": data_set, "table": table}
        for name, source in (("net", "model_best.pth"), ("labels", "model_best.pth"), ("latest", "checkpoint.pth")):
            checkpoint = read_checkpoint(trained / source)
            checkpoint.evaluated[key][:] = checkpoint.model[key][:] = value
            config = {**checkpoint.config, **({"task": "multilabel"} if name == "labels" else {})}
            found[kind][name] = folder / kind / name / source
            found[kind][name].parent.mkdir(parents=True)
            save_checkpoint(found[kind][name], {**checkpoint.content, "model": checkpoint.model, "config": config})
    return found


def check_refusal(capsys: pytest.CaptureFixture, code: int, out: Path, expected: str) -> None:
    told = capsys.readouterr().err
    assert code == 2, told
    assert told.count("\n") == 1, told
    assert re.search(expected, told), told
    assert not [path for path in out.rglob("*") if path.is_file() and ".unfinished" not in path.parts]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["nan", "overflow"])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_commands_that_use_a_network(places: dict[str, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture,
                                     kind: str, name: str) -> None:
    module, flags = COMMANDS[name]
    code = module.main([word.format(**places[kind], out=tmp_path / "out") for word in flags.split(" ")])
    file = r"model_best\.pth, whose "
    expected = file + r"classifier\.bias holds numbers that are not finite" if kind == "nan" else (
        "answers are not finite .*loss nan" if name.startswith("eval") else file + "answers are all not finite")
    check_refusal(capsys, code, tmp_path / "out", expected)
    assert not list(places[kind]["net"].parent.glob("calibration*"))


@pytest.mark.parametrize("name", TRAINING)
def test_training_does_not_begin_with_such_weights(places: dict[str, dict[str, Path]], tmp_path: Path,
                                                   capsys: pytest.CaptureFixture, name: str) -> None:
    flags = f"--model {MODEL} --data-path {{data}} --output-dir {{out}} --epochs 3 -j 0 {TRAINING[name]}".split(" ")
    code = train_artist_style.main([word.format(**places["nan"], out=tmp_path / "out") for word in flags])
    check_refusal(capsys, code, tmp_path / "out", r"\.pth, whose classifier\.bias holds numbers that are not finite")


def test_a_picture_without_a_finite_answer_is_listed(trained: Path, data_set: Path, tmp_path: Path, monkeypatch,
                                                     capsys: pytest.CaptureFixture) -> None:
    from inference.predictor import Predictor
    run = Predictor.run

    def spoil(self: Predictor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features, logits = run(self, pixels)
        return features, torch.cat([logits[:1], logits[1:2] * torch.nan, logits[2:]])

    monkeypatch.setattr(Predictor, "run", spoil)
    assert inference_artist.main(["--checkpoint", str(trained / "model_best.pth"), "--input",
                                  str(data_set / "val" / "artist_0"), "--output", str(tmp_path), "--workers", "0"]) == 3
    assert "val_1.png (the network's answer is not finite, or huge)" in capsys.readouterr().err
    text = (tmp_path / "batch_results.json").read_text()
    assert '"val_1.png": {\n    "error": "the network' in text
    assert text.count("classification") == 3
