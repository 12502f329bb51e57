"""A command ends with the next one to type, whose paths exist, until there is none."""

from __future__ import annotations

import importlib
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import drawing.clusters
import drawing.plots
from runtime.next_step import CHECKPOINT, PICTURES, interpreter
from tests.conftest import ROOT
from tests.pictures import write_annotated_set
from tests.test_readme import SCRIPTS

QUIET = {"train_artist_style.py", "train_artist_multilabel.py", "train_distillation.py", "train_detection.py",
         "train_segmentation.py", "main.py",  # by their trainer
         "predict_detection.py", "predict_segmentation.py", "tools/make_detection_set.py",  # their own tests
         "tools/export_model.py",  # tests/tools/test_export_model.py, which is skipped without its packages
         "tools/push_to_hub.py",  # tests/tools/test_push_to_hub.py
         "serve_artist.py",  # runs until it is stopped
         "quickstart.py", "speed.py", "flops.py", "tools/bench_inference.py",
         "tools/bench_class_maps.py"}  # its own test asks it


@pytest.fixture
def place(tmp_path: Path, data_set: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, whose name needs quotes: with the pictures `data`, the run `run` and nothing that draws."""
    for module, name in ((drawing.clusters, "cluster_sheet"), (drawing.clusters, "cluster_map"),
                         (drawing.plots, "reliability_plot")):
        monkeypatch.setattr(module, name, lambda *arguments, **more: None)
    monkeypatch.setattr(drawing.plots, "training_curves", lambda records, path: Path(path).touch())
    folder = tmp_path / "my place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, source in (("data", data_set), ("run", trained)):
        shutil.copytree(source, folder / name)
    write_annotated_set(folder / "mixed", train=12, val=4)
    return folder


NETWORK = "--checkpoint run/model_best.pth --device cpu --num-workers 0"
STEPS = [  # script, flags, the script to call next; in this order, because one reads what another wrote
    ("tools/make_demo_dataset.py", "--output-dir demo --artists 2 --images-per-artist 2 --size 16",
     "train_artist_style.py"),
    ("tools/make_demo_dataset.py", "--output-dir blends --artists 2 --images-per-artist 2 --size 16 --blend",
     "tools/split_multilabel_dataset.py"),
    ("prepare_dataset.py", "--source-dir data/train --output-dir 'my data' --min-images 4 --workers 0",
     "train_artist_style.py"),
    ("tools/generate_multilabel_csv.py", "--input-dir mixed/pictures --output-csv all.csv",
     "tools/split_multilabel_dataset.py"),
    ("tools/split_multilabel_dataset.py", "--input-dir mixed/pictures --train-csv t.csv --val-csv v.csv --workers 0",
     "train_artist_multilabel.py"),
    ("tools/audit_dataset.py", f"--images-dir data/train --output-dir audit {NETWORK}", "prepare_dataset.py"),
    ("tools/corrupt_dataset.py", "--input-dir data/val --output-dir bad --kinds jpeg --workers 0",
     "train_artist_style.py"),
    ("train_artist_style.py", "--data-path bad/jpeg/1 --resume run/model_best.pth --eval --num-workers 0",
     "inference_artist.py"),
    ("inference_artist.py", f"--input data/val/artist_0/val_0.png --output single {NETWORK}", "inference_artist.py"),
    ("inference_artist.py", f"--input data/val --output named {NETWORK}", "tools/build_gallery.py"),
    ("inference_artist.py", f"--input data/val/artist_1 --output one {NETWORK}", "tools/extract_cluster_features.py"),
    ("inference_artist.py", f"--input data/val --output named --sort-into sorted {NETWORK}", "tools/make_fix_list.py"),
    ("tools/make_fix_list.py", "--sorted-dir sorted --source-dir data/val --output-csv fixes.csv",
     "prepare_dataset.py"),
    ("inference_artist.py", f"--input data/val --output parts --mode both --shard 1/1 {NETWORK}",
     "tools/merge_shards.py"),
    ("tools/merge_shards.py", "--input parts --output merged", "tools/extract_cluster_features.py"),
    ("tools/build_gallery.py", f"--images-dir data/train --gallery 'my gallery' {NETWORK}", "inference_artist.py"),
    ("inference_artist.py", f"--input data/val --output found --mode search --gallery 'my gallery' {NETWORK}",
     "tools/evaluate_retrieval.py"),
    ("tools/evaluate_retrieval.py", f"--gallery 'my gallery' --images-dir data/val {NETWORK}",
     "tools/build_gallery.py"),
    ("inference_artist.py", f"--input data/val/artist_1 --output own --mode search --gallery 'my gallery' {NETWORK}",
     "tools/build_gallery.py"),
    ("tools/build_gallery.py", "--gallery 'my gallery' --remove artist_0", "tools/build_gallery.py"),
    ("tools/build_gallery.py", "--gallery 'my gallery' --list", "tools/build_gallery.py"),
    ("tools/build_gallery.py", "--gallery 'my gallery' --export vectors", "tools/compare_vectors.py"),
    ("tools/extract_cluster_features.py", "--features merged --output-dir groups --num-clusters 2",
     "tools/compare_vectors.py"),
    ("tools/compare_vectors.py", "--query-vector merged --reference-vectors merged", "tools/build_gallery.py"),
    ("tools/evaluate_retrieval.py", "--features merged", "tools/build_gallery.py"),
    ("tools/calibrate.py", f"--data-path data {NETWORK}", "inference_artist.py"),
    ("tools/plot_log.py", "run/metrics.jsonl", "inference_artist.py"),
    ("tools/report.py", "run", "inference_artist.py"),
    ("train_artist_style.py", "--data-path data --eval --resume run/model_best.pth --num-workers 0",
     "tools/calibrate.py"),
]
PATHS = ("sorted_dir", "fix_list",
         "data_path", "input", "input_dir", "source_dir", "images_dir", "checkpoint", "features", "train_ann",
         "val_ann", "query_vector")


def module(script: str) -> Any:
    return importlib.import_module(script.removesuffix(".py").replace("/", "."))


def test_commands_end_with_the_next_one(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for script, flags, following in STEPS:
        assert module(script).main(shlex.split(flags)) == 0, capsys.readouterr().err
        last = capsys.readouterr().out.splitlines()[-1]
        start, python, path, *words = shlex.split(last)
        assert (start, python, path) == ("next:", interpreter(), str(ROOT / following)), script
        read = vars(module(following).build_parser().parse_args(words))
        missing = [path for name in PATHS for path in np.atleast_1d(read.get(name))
                   if path not in (None, Path(PICTURES), Path(CHECKPOINT)) and not path.exists()]
        assert not missing, (script, words)


def test_no_command_is_forgotten() -> None:
    assert set(SCRIPTS) - {script for script, *_ in STEPS} <= QUIET | {"predict_artist_multilabel.py"}
