"""--sort-into and --undo-sort as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import inference_artist
from data.csv_files import read_table
from tests.conftest import Completed


def infer(*arguments: object) -> int:
    return inference_artist.main(["--workers", "0", *map(str, arguments)])


def test_a_folder_is_sorted_by_its_answers_and_the_sorting_undone(
        trained: Path, data_set: Path, tmp_path: Path, run_script: Callable[..., Completed]) -> None:
    folder, output = tmp_path / "sorted", tmp_path / "results"
    done = run_script("inference_artist.py", "--checkpoint", trained / "model_best.pth", "--input", data_set / "val",
                      "--output", output, "--sort-into", folder, "--workers", 0)
    assert done.returncode == 0, done.stderr
    assert f"12 pictures sorted into {folder}\n" in done.stdout
    records = json.loads((output / "batch_results.json").read_text(encoding="utf-8"))
    rows = [row for _, row in read_table(folder / "sorted.csv", ["file", "source", "artist"])]
    assert {source: artist for _, source, artist in rows} == {
        str(data_set / "val" / name): record["classification"][0]["class_name"] for name, record in records.items()}
    assert all((folder / file).samefile(source) and file.startswith(f"{artist}/") for file, source, artist in rows)
    undone = run_script("inference_artist.py", "--undo-sort", folder / "sorted.csv")
    assert (undone.returncode, undone.stdout) == (0, f"12 pictures removed from {folder}\n"), undone.stderr
    assert not folder.exists()


@pytest.mark.parametrize(("more", "told"), [
    (["--mode", "cluster"], "--mode classify, both or search"), (["--shard", "1/2"], "whole folder"),
    (["--dry-run"], "--dry-run without --sort-into"), (["--output", "{sorted}"], "the folder for the results")])
def test_what_cannot_be_sorted_is_refused(more: list[str], told: str, data_set: Path, tmp_path: Path,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    flags = [text.format(sorted=tmp_path / "sorted") for text in more]
    if "--dry-run" not in flags:
        flags += ["--sort-into", str(tmp_path / "sorted")]
    assert infer("--checkpoint", "x.pth", "--input", data_set / "val", *flags) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "sorted").exists()
    assert infer("--checkpoint", "x.pth") == 2
    assert "--input is missing" in capsys.readouterr().err
