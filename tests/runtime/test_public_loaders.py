"""What loaders of other programs do with a run's files, in our own words: a run at 224 px is one that they can read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from data.class_mapping import read_class_mapping, write_class_mapping
from data.transforms import Preprocessing
from runtime.checkpoint import BEST_ALIAS, HUB_CONFIG, publish_best
from runtime.networks import Architecture, make_architecture

ARTISTS = ["anna", "bob", "齐白石"]
LOADERS_SIDE = 224


def publish(folder: Path, architecture: Architecture, side: int) -> torch.nn.Module:
    """The files of a run's best network, with random weights."""
    network = architecture.create()
    how = Preprocessing.from_pretrained_cfg(architecture.pretrained_cfg, input_size=side)
    content = {"model": network.state_dict(), "classes": ARTISTS, "config": {"preprocessing": how.as_dict()}}
    publish_best(folder, content, network, architecture)
    write_class_mapping(folder / "class_mapping.csv", ARTISTS)
    return network.eval()


def load_as_others_do(folder: Path) -> torch.nn.Module:
    """The preset that config.json names, with what the tensors tell, at 224 px, loaded strictly."""
    config = json.loads((folder / HUB_CONFIG).read_text(encoding="utf-8"))
    state = torch.load(folder / BEST_ALIAS, weights_only=True)["model"]
    classes, width = state["head.l.weight"].shape
    network = timm.create_model(config["model"], num_classes=classes, feature_dim=width, img_size=LOADERS_SIDE)
    network.load_state_dict(state, strict=True)
    return network.eval()


@pytest.mark.parametrize("feature_dim", [None, 96])
def test_a_run_at_224_px_is_read(tmp_path: Path, feature_dim: int | None) -> None:
    own = publish(tmp_path, make_architecture("lsnet_t_artist", len(ARTISTS), input_size=224, feature_dim=feature_dim),
                  224)
    found = load_as_others_do(tmp_path)
    assert read_class_mapping(tmp_path / "class_mapping.csv") == ARTISTS
    picture = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(found(picture), own(picture))


def test_position_tables_of_another_grid_are_why_a_run_at_64_px_is_not(tmp_path: Path) -> None:
    publish(tmp_path, make_architecture("lsnet_t_artist", len(ARTISTS), input_size=64), 64)
    with pytest.raises(RuntimeError, match=r"attention_biases.*\[4, 1\].*\[4, 16\]"):
        load_as_others_do(tmp_path)
