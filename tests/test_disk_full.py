"""A disk without room ends a command in one line; what was whole before still is, and the next run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import forked

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits of file sizes are POSIX")
SMALL = ["--model", "test_efficientnet", "--input-size", "32", "--num-workers", "0", "--batch-size", "8"]


def run(script: str, *arguments: object, cwd: Path, limit: int | None = None) -> tuple[int, str]:
    done = forked.run(script, *arguments, cwd=cwd, env={forked.FILE_LIMIT: str(limit)} if limit else None)
    return done.returncode, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and "tensorboard" not in path.parts}


def is_one_line(script: str, answer: tuple[int, str]) -> bool:
    code, error = answer
    return code == 1 and error.startswith(f"{script}: stopped, because the disk is full") and error.count("\n") == 1


def test_training_keeps_its_last_checkpoint_and_goes_on(data_set: Path, tmp_path: Path) -> None:
    flags = ["--data-path", data_set, "--output-dir", tmp_path / "run", *SMALL, "--resume", "auto", "--epochs"]
    assert run("train_artist_style.py", *flags, 1, cwd=tmp_path)[0] == 0
    before = contents(tmp_path / "run")
    assert is_one_line("train_artist_style.py", run("train_artist_style.py", *flags, 2, cwd=tmp_path, limit=500_000))
    after = contents(tmp_path / "run")
    for name in ("checkpoint.pth", "model_best.pth", "best_checkpoint.pth", "model.safetensors", "config.json"):
        assert after[name] == before[name]
    assert not [name for name in after if name.endswith(".partial")]
    assert run("train_artist_style.py", *flags, 2, cwd=tmp_path)[0] == 0


@pytest.mark.parametrize("script", [
    "prepare_dataset.py", "inference_artist.py", pytest.param("tools/build_gallery.py", marks=pytest.mark.exhaustive),
    pytest.param("tools/extract_cluster_features.py", marks=pytest.mark.exhaustive)])
def test_nothing_is_half_written(data_set: Path, trained: Path, tmp_path: Path, script: str) -> None:
    train, output = data_set / "train", tmp_path / "out"
    network = ["--checkpoint", trained / "model_best.pth", "--num-workers", 0]
    flags: dict[str, list[object]] = {
        "prepare_dataset.py": ["--source-dir", train, "--output-dir", output, "--min-images", 4, "--overwrite"],
        "inference_artist.py": ["--mode", "both", "--input", train, "--output", output, *network],
        "tools/build_gallery.py": ["--images-dir", train, "--gallery", output, "--overwrite", *network],
        "tools/extract_cluster_features.py": ["--images-dir", train, "--output-dir", output, "--num-clusters", 2,
                                              *network]}
    assert is_one_line(Path(script).name, run(script, *flags[script], cwd=tmp_path, limit=1500))
    assert not output.exists() or not list(output.glob("*.json"))
    assert run(script, *flags[script], cwd=tmp_path)[0] == 0
    before = contents(output)
    assert is_one_line(Path(script).name, run(script, *flags[script], cwd=tmp_path, limit=1500))
    assert {name: content for name, content in contents(output).items() if name in before} == before
