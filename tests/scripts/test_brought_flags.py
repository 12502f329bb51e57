"""Flags that users of other programs bring along: taken where they say what is so, refused where they do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import inference_artist
import main
import predict_artist_multilabel
import prepare_dataset
import train_artist_style
from inference.predictor import Predictor
from runtime.networks import feature_blocks
from tests.conftest import ROOT
from tests.pictures import smooth_picture

OLD = ROOT / "tests" / "old_outputs"
RUN, LABELS = OLD / "run" / "model_best.pth", OLD / "multilabel_run" / "best_checkpoint.pth"


def infer(*flags: object, output: Path) -> int:
    return inference_artist.main(["--checkpoint", str(RUN), "--input", str(OLD / "artists"), "--output", str(output),
                                  "--no-calibration", "--device", "cpu", *map(str, flags)])


def test_inference_checks_what_is_said_of_the_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor.from_checkpoint(RUN, device="cpu")
    found = {"--num-classes": len(predictor.classes or ()),
             "--feature-dim": feature_blocks(predictor.network, "pooled")[0],
             "--input-size": predictor.preprocessing.input_size}
    assert infer(*[word for pair in found.items() for word in pair], output=tmp_path / "right") in (0, 3)
    for name, value in found.items():
        capsys.readouterr()
        assert infer(name, value + 1, output=tmp_path / "wrong") == 2
        assert f"found {name} {value + 1} for {RUN}; expected {value}" in capsys.readouterr().err
        assert not (tmp_path / "wrong").exists()
    assert predict_artist_multilabel.main(["--checkpoint", str(LABELS), "--inputs", str(OLD / "mixtures" / "pictures"),
                                           "--output", str(tmp_path / "labels.json"), "--num-classes", "99"]) == 2
    assert "--num-classes 99" in capsys.readouterr().err


def test_all_confidences_have_their_labels_beside_them(tmp_path: Path) -> None:
    picture = next((OLD / "mixtures" / "pictures").glob("*.[jp][pn]g"))
    assert predict_artist_multilabel.main(["--checkpoint", str(LABELS), "--inputs", str(picture), "--output",
                                           str(tmp_path / "out.json"), "--debug-full", "--device", "cpu"]) == 0
    record, = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    by_name = dict(zip(record["raw_labels"], record["raw_confidence"], strict=True))
    assert len(by_name) == len(record["raw_labels"])
    assert {label["label"]: label["confidence"] for label in record["labels"]}.items() <= by_name.items()


def test_preparing_copies_when_it_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw" / "anna").mkdir(parents=True)
    for number in range(3):
        smooth_picture(np.random.default_rng(number), (40, 30)).save(tmp_path / "raw" / "anna" / f"{number}.png")
    common = ["--source-dir", str(tmp_path / "raw"), "--output-dir", str(tmp_path / "out"), "--min-images", "1",
              "--workers", "0", "--copy"]
    for link in ("--symlink", "--hardlink"):
        assert prepare_dataset.main([*common, link]) == 2
        assert f"{link} with --copy" in capsys.readouterr().err
    assert prepare_dataset.main(common) == 0
    copies = list((tmp_path / "out").rglob("*.png"))
    assert len(copies) == 3
    assert not any(copy.is_symlink() for copy in copies)


def test_the_schedule_may_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert train_artist_style.build_parser().parse_args(["--data-path", "x", "--sched", "cosine"]).sched == "cosine"
    assert train_artist_style.main(["--data-path", "x", "--sched", "step"]) == 2
    assert "--sched 'step'; expected one of cosine" in capsys.readouterr().err


def test_main_evaluates_without_the_models_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data-path", str(OLD / "dataset"), "--device", "cpu", "-j", "0", "--output-dir", str(tmp_path)]
    lines = []
    for named in ([], ["--model", Predictor.from_checkpoint(RUN, device="cpu").network.pretrained_cfg["architecture"]]):
        assert main.main(["--eval", "--resume", str(RUN), *common, "--adversarial", "fgsm", *named]) == 0
        lines.append(next(line for line in capsys.readouterr().out.splitlines() if line.startswith("* top-1")))
        assert json.loads((tmp_path / "robustness.json").read_text())["model"]
    assert lines[0] == lines[1]
    for without in ([], ["--resume", "auto"]):
        assert main.main([*common, *without]) == 2
        assert "found no --model" in capsys.readouterr().err
