"""Pictures by one to three generated artists each, learned with the documented commands, with and without the shares.

The table: python -m pytest -m exhaustive -s tests/scripts/test_multilabel_demo.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.multilabel_table import table

COMMANDS = """tools/make_demo_dataset.py --blend --images-per-artist 200 --size 96 --output-dir {demo}/blends
tools/split_multilabel_dataset.py --input-dir {demo}/blends --train-csv {demo}/train.csv --val-csv {demo}/val.csv --relative-paths
train_artist_multilabel.py --data-path {demo}/blends --train-ann {demo}/train.csv --val-ann {demo}/val.csv --input-size 64 --epochs 60 --eval-every 5 --fit squash --scale 0.7 1 --num-workers 0 --output-dir {demo}/both
train_artist_multilabel.py --data-path {demo}/blends --train-ann {demo}/train.csv --val-ann {demo}/val.csv --input-size 64 --epochs 60 --eval-every 5 --fit squash --scale 0.7 1 --num-workers 0 --output-dir {demo}/presence_alone --ratio-weight 0"""  # noqa: E501


@pytest.mark.slow
@pytest.mark.exhaustive
def test_half_of_what_is_missing_is_learned_and_the_ratio_term_teaches_the_shares(tmp_path: Path, capsys) -> None:
    for command in COMMANDS.splitlines():
        subprocess.run([sys.executable, *command.format(demo=tmp_path).split()], cwd=ROOT, check=True, timeout=3600,
                       env={"OMP_WAIT_POLICY": "passive", **os.environ}, capture_output=True)
    with capsys.disabled():
        print()
        figures = table(tmp_path / "blends", tmp_path / "train.csv", tmp_path / "val.csv",
                        [tmp_path / "both", tmp_path / "presence_alone"])
    nothing, both, alone = figures.values()
    assert 100 - both["macro_map"] <= (100 - nothing["macro_map"]) / 2
    assert both["share_error"] <= nothing["share_error"] / 2
    assert alone["share_error"] > both["share_error"]
