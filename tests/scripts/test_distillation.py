"""A student that learns from its teacher alone says what the teacher says, also of pictures that neither has seen.

The figures are printed: python -m pytest -m exhaustive -s tests/scripts/test_distillation.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import inference_artist
import train_artist_style
from tests.pictures import write_data_set

ARTISTS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data_set(tmp_path_factory.mktemp("distillation"), artists=ARTISTS, train=32, val=20, size=64)


def train(data: Path, output: Path, *flags: object) -> Path:
    assert train_artist_style.main(["--data-path", str(data), "--output-dir", str(output), "--batch-size", "8",
                                    "--num-workers", "0", "--log-every", "0", "--hflip", "0", "--scale", "0.7", "1",
                                    "--no-model-ema", *map(str, flags)]) == 0
    return output / "model_best.pth"


def answers(checkpoint: Path, data: Path, output: Path) -> list[str]:
    """What a network says first of each validation picture."""
    assert inference_artist.main(["--checkpoint", str(checkpoint), "--mode", "classify", "--input", str(data / "val"),
                                  "--output", str(output), "--num-workers", "0"]) == 0
    records = json.loads((output / "batch_results.json").read_text())
    return [record["classification"][0]["class_name"] for record in records.values()]


@pytest.fixture(scope="module")
def teacher(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(data, tmp_path_factory.mktemp("teacher"), "--model", "resnet10t", "--input-size", 96, "--epochs", 10)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["soft", "hard"])
def test_the_student_agrees_with_its_teacher(data: Path, teacher: Path, tmp_path: Path, capsys, kind: str) -> None:
    student = train(data, tmp_path / "student", "--model", "lsnet_t_artist", "--input-size", 64, "--epochs", 25,
                    "--teacher-path", teacher, "--distillation-type", kind, "--distillation-alpha", 1)
    taught, learnt = answers(teacher, data, tmp_path / "taught"), answers(student, data, tmp_path / "learnt")
    agreement = sum(a == b for a, b in zip(taught, learnt, strict=True)) / len(taught)
    majority = max(taught.count(name) for name in set(taught)) / len(taught)
    with capsys.disabled():
        print(f"\n{kind}: student and teacher agree on {agreement:.0%} of {len(taught)} pictures; the teacher's most "
              f"frequent answer is {majority:.0%}")
    assert agreement > majority + 0.25
