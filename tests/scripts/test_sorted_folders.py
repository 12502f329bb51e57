"""--sort-into, --undo-sort and --sidecars as a user gives them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import inference_artist
from data.csv_files import read_table
from data.multilabel.annotations import AnnotationRules, read_annotations
from tests.conftest import Completed
from tests.scripts.test_predict_artist_multilabel import write_run


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
    (["--mode", "cluster"], "--mode classify, both or search"), (["--shard", "1/2"], "without --shard"),
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


def test_sidecars_lie_with_the_results_or_beside_the_pictures(trained: Path, data_set: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(data_set / "val", tmp_path / "source"))
    flags = ["--checkpoint", trained / "model_best.pth", "--input", source, "--output", tmp_path / "results",
             "--sidecars", "txt"]
    assert infer(*flags) == 0
    assert not [*source.rglob("*.txt")]
    assert infer(*flags, "--beside") == 0
    records = json.loads((tmp_path / "results" / "batch_results.json").read_text(encoding="utf-8"))
    for name, record in records.items():
        text = record["classification"][0]["class_name"] + "\n"
        assert Path(tmp_path / "results" / "sidecars" / name).with_suffix(".txt").read_text(encoding="utf-8") == text
        assert (source / name).with_suffix(".txt").read_text(encoding="utf-8") == text
    single = source / "artist_0" / "val_0.png"
    assert infer("--checkpoint", trained / "model_best.pth", "--input", single, "--output", tmp_path / "one",
                 "--sidecars", "xmp") == 0
    assert (tmp_path / "one" / "sidecars" / "val_0.png.xmp").is_file()


def test_several_labels_are_tags_that_the_label_reader_gives_back_and_the_first_sorts(
        data_set: Path, tmp_path: Path, run_script: Callable[..., Completed]) -> None:
    run = write_run(tmp_path / "run", task="multilabel")
    source = Path(shutil.copytree(data_set / "val" / "artist_0", tmp_path / "source"))
    done = run_script("predict_artist_multilabel.py", "--checkpoint", run / "model_best.pth", "--inputs", source,
                      "--output", tmp_path / "labels.json", "--top-k", 2, "--workers", 0, "--sidecars", "txt",
                      "--beside", "--sort-into", tmp_path / "sorted")
    assert done.returncode == 0, done.stderr
    read = run_script("tools/generate_multilabel_csv.py", "--input-dir", source, "--output-csv", tmp_path / "all.csv",
                      "--relative-paths")
    assert read.returncode == 0, read.stderr
    annotations, _ = read_annotations(tmp_path / "all.csv", AnnotationRules(root=source))
    predicted = {Path(record["image"]).name: [label["label"] for label in record["labels"]]
                 for record in json.loads((tmp_path / "labels.json").read_text(encoding="utf-8"))}
    assert {row.path: [*row.labels] for row in annotations} == predicted
    rows = [row for _, row in read_table(tmp_path / "sorted" / "sorted.csv", ["source", "artist"])]
    assert {Path(path).name: artist for path, artist in rows} == {name: tags[0] for name, tags in predicted.items()}
