"""Figures of the published architecture, and the weights and pictures under which they were taken."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
DAMPED = ("pw2.bn", "proj.1.bn", "conv.bn", "conv1.bn", "mixer.bn")  # norms that end a residual branch


def cases() -> list[dict[str, Any]]:
    """Models with their outputs under `fill` for `pictures(input_size)`: the first eight of each row, and its norm."""
    return json.loads((HERE / "golden.json").read_text(encoding="utf-8"))["cases"]


def shapes(name: str, kwargs: dict[str, Any]) -> dict[str, list[int]]:
    """Every key of a published state dict with its shape."""
    tables = json.loads(gzip.decompress((HERE / "state_dict_keys.json.gz").read_bytes()))
    return tables[f"{name}|{json.dumps(kwargs, sort_keys=True)}"]


@torch.no_grad()
def fill(model: nn.Module) -> nn.Module:
    """Give `model`, in place, float64 values that follow from nothing but keys and shapes; it ends in eval mode."""
    model = model.double().eval()
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(_values(key, tensor))
    return model


def _values(key: str, tensor: Tensor) -> Tensor:
    random = np.random.RandomState(zlib.crc32(key.encode()) & (2**31 - 1))
    normal = torch.from_numpy(random.standard_normal(tuple(tensor.shape)))
    name = key.rpartition(".")[2]
    if name == "running_var":
        return 0.5 + normal.abs()
    if name in ("running_mean", "bias"):
        return 0.1 * normal
    if tensor.ndim == 1:
        return (0.46 if any(part in key for part in DAMPED) else 1.0) * (1.0 + 0.1 * normal)
    if name == "attention_biases":
        return 0.5 * normal
    return normal / max(1, tensor[0].numel()) ** 0.5


def pictures(size: int, batch: int = 2) -> Tensor:
    """(batch, 3, size, size) smooth waves in float64, another for each picture and channel."""
    y, x = np.mgrid[:size, :size] / size
    waves = [[np.sin(6 * (b + 1) * x + 2 * c) * np.cos(4 * (c + 1) * y + b) for c in range(3)] for b in range(batch)]
    return torch.from_numpy(np.array(waves))
