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


def fill_repository(cache: Path, repository: str, folder: Path) -> None:
    """Put the files of `folder` into `cache` as the hub's `repository`."""
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / REVISION
    for directory in (snapshot, place / "refs", place / "blobs"):
        directory.mkdir(parents=True)
    (place / "refs" / "main").write_text(REVISION)
    for number, file in enumerate(sorted(folder.iterdir())):  # files lie in blobs/, and snapshots have links to them
        shutil.copyfile(file, place / "blobs" / str(number))
        (snapshot / file.name).symlink_to(place / "blobs" / str(number))


def use_hub_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let this process, which read its environment at import, use `cache` and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
