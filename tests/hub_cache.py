"""A cache of the Hugging Face hub in its own layout, filled from files: it stands in for downloads, offline."""

from __future__ import annotations

import shutil
from pathlib import Path

import huggingface_hub
import pytest
import timm

REVISION = "0" * 40


def fill_hub_cache(cache: Path, model: str, weights: Path, name: str = "model.safetensors") -> dict[str, str]:
    """Put the file `weights` of timm's `model` into the folder `cache`; the environment in which a process finds it."""
    cfg = timm.get_pretrained_cfg(model)
    assert cfg is not None
    assert cfg.hf_hub_id is not None
    repository = cache / f"models--{cfg.hf_hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(REVISION)
    shutil.copyfile(weights, snapshot / name)
    return {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)}


def use_hub_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let this process, which read its environment at import, use `cache` and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
