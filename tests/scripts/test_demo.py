"""The demo's training, with the demo's own commands: the network learns the manner where colour says little."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

import quickstart
from data.images import decode_image
from tests.conftest import ROOT
from tests.pictures import list_images


def mean_colours(folder: Path) -> tuple[np.ndarray, list[str]]:
    """Mean colour of each picture below `folder`, (N, 3), and its artist."""
    pictures = list_images(folder)
    colours = [np.asarray(decode_image(picture)).mean((0, 1)) for picture in pictures]
    return np.stack(colours), [picture.parent.name for picture in pictures]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_demo_learns_the_manner_where_colour_says_little(tmp_path: Path, capsys) -> None:
    for command in quickstart.DEMO.splitlines()[:3]:
        words = [word.format(demo=tmp_path, picture="") for word in command.split()]
        subprocess.run([sys.executable, *words], cwd=ROOT, env={"OMP_WAIT_POLICY": "passive", **os.environ}, check=True,
                       capture_output=True, timeout=900)
    records = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    top1 = max(record["val_top1"] for record in records)
    judge = NearestCentroid().fit(*mean_colours(tmp_path / "dataset" / "train"))
    colour = 100 * judge.score(*mean_colours(tmp_path / "dataset" / "val"))
    with capsys.disabled():
        print(f"\ndemo, validation top-1: network {top1:.1f} %, nearest mean colour {colour:.1f} %")
    assert top1 >= 90
    assert colour <= 50
