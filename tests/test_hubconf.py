"""Models through `torch.hub`, from a folder that is not the project's."""

from __future__ import annotations

from pathlib import Path

import hubconf
from model import lsnet, lsnet_artist
from tests import forked

ROOT = Path(hubconf.__file__).parent
LOAD = """
import sys, torch
network = torch.hub.load(sys.argv[1], "lsnet_t_artist", source="local", num_classes=3, feature_dim=7, img_size=64)
print(*network.eval()(torch.zeros(2, 3, 64, 64)).shape, network.pretrained_cfg["architecture"])
"""


def test_every_preset_is_an_entry_point() -> None:
    presets = lsnet.PRESETS | lsnet_artist.PRESETS
    entries = {name for name, value in vars(hubconf).items() if callable(value) and not name.startswith("_")}
    assert entries == set(presets)
    assert all(getattr(hubconf, name).__doc__ for name in presets)


def test_hub_loads_a_preset(tmp_path: Path) -> None:
    script = tmp_path / "load.py"
    script.write_text(LOAD)
    done = forked.run(script, ROOT, cwd=tmp_path)
    assert done.stdout.split() == ["2", "3", "lsnet_t_artist"]
