"""The commands of the manual's pages about a trained network, run as they stand, on small pictures, in one process."""

from __future__ import annotations

import importlib
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from tests.flag_tables import SCRIPTS
from tests.test_readme import PAGES, commands, document_of

RUN = ("features", "search", "unknown-artists", "maps")  # in this order: galleries are built, then calibrated
NOT_RUN = {  # page: why, and which tests run such commands
    "detection": "trains for minutes: tests/scripts/test_train_dense.py, test_predict_dense.py",
    "export-and-serving": "serves until it is ended: tests/serving, tests/tools/test_export_model.py",
    "files": "has no commands of its own: tests/search/test_gallery.py reads its examples",
    "flags": "has no commands",
    "multi-gpu": "needs several processes: tests/scripts/test_distributed_training.py, test_launchers.py",
    "other-programs": "exports a network that was trained at 224 px: tests/export, tests/tools/test_export_model.py",
    "own-pictures": "trains for hours or downloads weights: tests/scripts, test_two_commands.py, test_pretrained.py",
    "plain-lsnet": "needs ImageNet: tests/scripts/test_main.py, test_main_robustness.py, test_shell_scripts.py",
    "python": "has no commands: tests/inference/test_api.py",
    "scale": "needs several processes or machines: tests/scripts/test_shards.py, test_head_parallel.py",
    "several-hands": "trains for 120 epochs: tests/scripts/test_multilabel_workflow.py, test_multilabel_demo.py",
    "troubleshooting": "installs",
}
LACKING = {"my_multilabel/model_best.pth": "several-hands trains it", "tools/bench_class_maps.py": "takes minutes"}


def test_every_page_is_run_or_says_why_not() -> None:
    assert sorted([*RUN, *NOT_RUN]) == [page.removesuffix(".md") for page in PAGES]


@pytest.mark.exhaustive
def test_documented_commands_run(data_set: Path, trained: Path, tmp_path: Path,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    newcomer = next((data_set / "val").iterdir())
    for source, name in ((data_set, "my_dataset"), (trained, "my_run"), (data_set / "val", "more_pictures"),
                         (data_set / "train", "my_pictures"), (newcomer, "my_pictures/New_Artist"),
                         (newcomer, "new_artists/New_Artist")):
        shutil.copytree(source, tmp_path / name)
    (tmp_path / "refs").mkdir()
    for number, name in enumerate(("query", "refs/vector1", "refs/vector2")):
        np.save(tmp_path / name, np.eye(3, dtype=np.float32)[number])
    monkeypatch.chdir(tmp_path)
    for page in RUN:
        for script, words, command in commands(document_of(f"docs/{page}.md"), {script: [] for script in SCRIPTS}):
            if any(word in command for word in LACKING) or ("--index" in words and not find_spec("faiss")):
                continue
            code = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main(words)
            assert code == 0, f"{page}: {command}"
    assert (tmp_path / "my_results" / "batch" / "contact_sheet.png").is_file()
    assert (tmp_path / "my_gallery" / "calibration.json").is_file()
