"""What the artist trainer does with artists of few pictures, or of none that can be read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import train_artist_multilabel
from data.loaders import sampling_weights
from data.multilabel.annotations import Annotation, write_annotations
from runtime.options import LongTailOptions
from tests.conftest import MODEL
from tests.pictures import write_data_set
from train_artist_style import main
from training.artist import logit_adjustment

FAST = ["--model", MODEL, "--input-size", "32", "--epochs", "1", "--batch-size", "8", "--num-workers", "0"]


@pytest.mark.parametrize(("lost", "expected"), [
    (0, [0, math.log(0.75), math.log(0.25)]), (2, [math.log(0.75), math.log(0.25), 0])])
@pytest.mark.parametrize("sampler", ["shuffle", "sqrt"])
def test_an_artist_without_pictures_is_left_out_of_the_prior(lost: int, expected: list[float], sampler: str) -> None:
    present = [number for number in range(3) if number != lost]
    targets = np.array([present[0]] * (3 if sampler == "shuffle" else 9) + [present[1]])
    weights = sampling_weights(sampler, targets)
    adjustment = logit_adjustment(LongTailOptions(logit_adjustment=2, sampler=sampler), targets, weights, 3)
    assert adjustment is not None
    assert adjustment.tolist() == pytest.approx([2 * each for each in expected])


def damage(folder: Path) -> None:
    for picture in folder.iterdir():
        picture.write_bytes(b"bad")


@pytest.mark.parametrize("flags", ["--sampler sqrt --logit-adjustment 1", "--sampler balanced"])
def test_artists_that_lost_all_pictures_are_named_and_the_rest_is_learnt(tmp_path: Path, flags: str,
                                                                        capsys: pytest.CaptureFixture) -> None:
    data = write_data_set(tmp_path / "data", artists=4, val=1)
    damage(data / "train" / "artist_0")
    damage(data / "train" / "artist_3")
    damage(data / "val" / "artist_1")
    (data / "val" / "artist_2" / "val_0.png").unlink()
    assert main([*FAST, "--data-path", str(data), "--output-dir", str(tmp_path / "out"), *flags.split()]) == 0
    told = capsys.readouterr().out
    assert "not learned, for want of pictures to train on: artist_0, artist_3\n" in told
    assert "not measured, for want of pictures to validate on: artist_1, artist_2\n" in told


def test_a_probe_that_cannot_be_fitted_leaves_the_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data, out = write_data_set(tmp_path / "data", artists=3, val=1), tmp_path / "out"
    flags = ["--model", MODEL, "--input-size", "32", "--num-workers", "0", "--linear-probe", "--data-path", str(data),
             "--output-dir", str(out)]
    assert main(flags) == 0
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    damage(data / "train" / "artist_2")
    assert main(flags) == 2
    assert "fewer than two readable training pictures of artist_2;" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_one_artist_is_refused_before_and_after_the_scan(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_data_set(tmp_path / "data", artists=2)
    for command, more in ((main, []), (train_artist_multilabel.main, [
            "--train-ann", str(annotate(data, "train")), "--val-ann", str(annotate(data, "val"))])):
        damage(data / "train" / "artist_1")
        assert command([*FAST, "--data-path", str(data), "--output-dir", str(tmp_path / "out"), *more]) == 2
        assert "one class (artist_0) with readable pictures" in capsys.readouterr().err
    one = annotate(data, "train", "artist_0")
    assert train_artist_multilabel.main([*FAST, "--data-path", str(data), "--output-dir", str(tmp_path / "out"),
                                         "--train-ann", str(one), "--val-ann", str(one)]) == 2
    assert "one class (artist_0) with readable pictures" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_without_pictures_to_validate_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = write_data_set(tmp_path / "data", train=3, val=1)
    assert train_artist_multilabel.main([
        *FAST, "--data-path", str(data), "--output-dir", str(tmp_path / "out"), "--train-ann",
        str(annotate(data, "train")), "--val-ann", str(annotate(data, "val", "artist_0"))]) == 0
    assert "not measured, for want of pictures to validate on: artist_1, artist_2\n" in capsys.readouterr().out


def annotate(data: Path, side: str, artist: str = "*") -> Path:
    """The pictures of `side`, of one artist or of all, as annotations beside the folders."""
    path = data / f"{side}.csv"
    write_annotations(path, [Annotation(picture.relative_to(data).as_posix(), {picture.parent.name: 1.0})
                             for picture in sorted((data / side).glob(f"{artist}/*.png"))])
    return path
