"""The commands and the Python of the manual's pages, run as they stand in one process, on small pictures."""

from __future__ import annotations

import importlib
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

import inference_artist
import model  # noqa: F401  (registers the presets)
from tests.detection.sets import write_ade20k, write_coco
from tests.flag_tables import SCRIPTS
from tests.hub_cache import fill_hub_cache, use_hub_cache
from tests.pictures import write_annotated_set
from tests.small_runs import write_run
from tests.test_readme import PAGES, commands, document_of
from tools import build_gallery

NO_COMMANDS = {"files": "tests/search/test_gallery.py reads its examples", "flags": "made from the parsers"}
SMALL = {  # what a script is given in addition, so that minutes become seconds; the last value of a flag counts
    "flops.py": "--resolution 64", "main.py": "--epochs 1 --batch-size 8 --input-size 32",
    "prepare_dataset.py": "--overwrite --min-images 4", "speed.py": "--rounds 1 --seconds 0.01 --resolution 64",
    "tools/make_demo_dataset.py": "--images-per-artist 20 --size 48 --overwrite",
    "tools/make_detection_set.py": "--train 8 --val 4 --size 96",
    "tools/split_multilabel_dataset.py": "--min-label-count 1",
    "train_artist_multilabel.py": "--epochs 1 --batch-size 8 --input-size 32",
    "train_artist_style.py": "--epochs 1 --batch-size 8 --input-size 32",
    "train_detection.py": "--epochs 1 --input-size 64 --channels 16",
    "train_distillation.py": "--epochs 1 --batch-size 8 --input-size 32 --teacher-views 1",
    "train_segmentation.py": "--epochs 1 --input-size 64 --channels 16"}
PROBE = "--input-size 32"  # in place of that with --linear-probe, which refuses flags of the training loop
MADE = {"../README": ("my_run",), "own-pictures": ("my_pictures", "my_dataset", "my_run"), "search": ("my_gallery",),
        "several-hands": ("my_mixtures",), "troubleshooting": ("my_dataset",)}  # by the page itself
NOT_RUN = {  # part of a command or of Python: why it is not run here, and which tests run such commands
    "torchrun": "needs several processes: tests/scripts/test_distributed_training.py, test_head_parallel.py",
    "serve_artist.py": "serves until it is ended: tests/serving",
    "--ray": "needs Ray: tests/inference/test_ray_workers.py",
    "standardisation.npy": "needs a gallery of style features: tests/search/test_gallery.py",
    "milvus:": "needs a server: tests/search/milvus_cases.py",
    "hf_hub:": "downloads: tests/scripts/test_hub_names.py",
    "bench_class_maps": "needs four artists: tests/tools/test_bench_class_maps.py",
    "--inc-path": "needs ImageNet's classes: tests/scripts/test_main_robustness.py",
    "--input my_crops": "a detector of one epoch finds nothing to crop: tests/scripts/test_predict_dense.py",
    "--undo-sort": "removes what the next commands need: tests/inference/test_sorting.py",
    "--add more_pictures": "needs the gallery of another page: tests/tools/test_build_gallery.py",
    "--format published": "needs an artist preset trained at 224 px: tests/tools/test_export_model.py"}
PIECES = {"--index": "faiss", "--format wd-tagger": "onnxscript", "export_model": "onnxscript",
          "train_detection": "faster_coco_eval", "predict_detection": "faster_coco_eval"}  # part of a command: package


def told(page: str) -> list[tuple[str, list[str], str]]:
    """Script, arguments and text of the commands of a page, in order."""
    return list(commands(document_of(f"docs/{page}.md"), {script: [] for script in SCRIPTS}))


def is_run(command: str) -> bool:
    return not any(part in command for part in NOT_RUN) and all(
        find_spec(package) for part, package in PIECES.items() if part in command)


def test_what_is_not_run_is_in_the_manual() -> None:
    every = [command for page in PAGES for _, _, command in told(page.removesuffix(".md"))]
    every += [text for page in PAGES for mark, text in document_of(f"docs/{page}").blocks if mark == "python"]
    assert [part for part in NOT_RUN if not any(part in command for command in every)] == []
    assert all(f"{page}.md" in PAGES and not told(page) for page in NO_COMMANDS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: lsnet_t.pth, and in hub/ those of the networks that the pages download."""
    weights = tmp_path_factory.mktemp("weights")
    network = timm.create_model("lsnet_t", num_classes=3, img_size=32)
    torch.save({"model": network.state_dict()}, weights / "lsnet_t.pth")
    for name in ("tf_efficientnet_lite0", "lsnet_t"):
        torch.save(timm.create_model(name).state_dict(), weights / "random.pth")
        fill_hub_cache(weights / "hub", name, weights / "random.pth", "pytorch_model.bin")
    return weights


@pytest.fixture(scope="module")
def shelf(data_set: Path, trained: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that pages take for granted."""
    shelf = tmp_path_factory.mktemp("shelf")
    newcomer = next((data_set / "val").iterdir())
    for source, *names in ((data_set, "my_dataset", "imagenet", "more_artists"), (trained, "my_run"),
                           (data_set / "val", "more_pictures", "new_pictures"), (data_set / "train", "my_pictures"),
                           (newcomer, "my_pictures/New_Artist", "new_artists/New_Artist")):
        for name in names:
            shutil.copytree(source, shelf / name)
    for name in ("picture.jpg", "another.png"):
        Image.open(next(newcomer.iterdir())).save(shelf / name)
    write_run(shelf / "my_multilabel", "multilabel")
    write_annotated_set(shelf / "set")
    for name in ("my_mixtures", "new_mixtures"):
        shutil.copytree(shelf / "set" / "pictures", shelf / name)
    annotations = write_coco(shelf, "pages", 6)
    for name in ("train.json", "val.json"):
        shutil.copy(annotations, shelf / name)
    write_ade20k(shelf / "my_regions", train=4, val=2)
    (shelf / "refs").mkdir()
    for number, name in enumerate(("query", "refs/vector1", "refs/vector2")):
        np.save(shelf / name, np.eye(3, dtype=np.float32)[number])
    (shelf / "lsnet_t.pth").symlink_to(weights / "lsnet_t.pth")
    run = ("--checkpoint", f"{shelf}/my_run/model_best.pth")
    assert build_gallery.main([*run, "--images-dir", f"{shelf}/my_dataset/train", "--gallery",
                               f"{shelf}/my_gallery"]) == 0
    assert inference_artist.main([*run, "--mode", "both", "--input", f"{shelf}/my_dataset/val", "--output",
                                  f"{shelf}/my_results/batch"]) == 0
    return shelf


@pytest.mark.exhaustive
@pytest.mark.parametrize("page", ["../README", *(page for page in (name.removesuffix(".md") for name in PAGES)
                                                 if page not in NO_COMMANDS)])
def test_documented_commands_run(page: str, shelf: Path, weights: Path, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "here"
    shutil.copytree(shelf, folder, symlinks=True)
    for name in MADE.get(page, ()):
        shutil.rmtree(folder / name)
    use_hub_cache(monkeypatch, weights / "hub")
    monkeypatch.chdir(folder)
    for script, words, command in told(page):
        if is_run(command):
            more = PROBE if "--linear-probe" in words else SMALL.get(script, "")
            code = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main([*words, *more.split()])
            assert code == 0, command
    for mark, text in document_of(f"docs/{page}.md").blocks:
        packages = re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)
        if mark == "python" and is_run(text) and all(map(find_spec, packages)):
            exec(text, {})  # noqa: S102  (the manual's own)
