"""Output folders of small networks that were never trained: their answers mean nothing, but are always the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from runtime.checkpoint import publish_best
from runtime.networks import Architecture
from tests.model.golden import fill

CLASSES = ["artist_0", "artist_1", "artist_2"]
PREPROCESSING = {"input_size": 32, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.2] * 3,
                 "fit": "crop"}


def write_run(folder: Path, task: str = "classification") -> Path:
    """Write the files of a best checkpoint for `task`, with class names, to `folder`, and return it."""
    architecture = Architecture(name="test_efficientnet", num_classes=len(CLASSES))
    network: Any = fill(architecture.create()).float()
    with torch.no_grad():
        for weights in network.classifier.parameters():
            weights.normal_(generator=torch.Generator().manual_seed(0))
    folder.mkdir(parents=True, exist_ok=True)
    publish_best(folder, {
        "classes": CLASSES, "epoch": 0, "best_metric": 50.0, "model": network.state_dict(), "config": {
            "architecture": architecture.name, "num_classes": len(CLASSES), "model_args": {}, "task": task,
            "preprocessing": PREPROCESSING}}, network, architecture)
    return folder
