"""The reader of exported networks: what it takes from config.json, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.export_folder import check_packages, is_export_folder, read_export_folder
from utils import UserError

CONFIG: dict[str, Any] = {
    "architecture": "lsnet_t_artist", "label_names": ["a", "b"], "task": "classification",
    "preprocessing": {"input_size": 64, "crop_pct": 0.875, "interpolation": "bicubic", "mean": [0.5] * 3,
                      "std": [0.2] * 3, "fit": "pad"},
    "export": {"format": "lsnet-export-1", "backend": "openvino", "precision": "fp16", "fingerprint": "ab",
               "feature_kind": "both", "feature_blocks": [3, 4]}}  # fmt: skip


def write(folder: Path, config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_folder_is_read_as_it_was_described(tmp_path: Path) -> None:
    assert not is_export_folder(tmp_path)
    (tmp_path / "model.xml").touch()
    found = read_export_folder(write(tmp_path, CONFIG))
    assert is_export_folder(tmp_path)
    assert (found.network, found.classes, found.task) == (tmp_path / "model.xml", ["a", "b"], "classification")
    assert found.preprocessing.as_dict() == CONFIG["preprocessing"]
    assert (found.export.precision, found.export.feature_kind, found.export.feature_blocks) == ("fp16", "both", [3, 4])


@pytest.mark.parametrize(("entry", "value", "complaint"), [
    ("export", None, "Expected `object`"), ("export", {**CONFIG["export"], "backend": "exe"}, "Invalid enum value"),
    ("export", {**CONFIG["export"], "format": "lsnet-export-9"}, "Invalid enum value"),
    ("label_names", [1], "Expected `str`"),
    ("preprocessing", {**CONFIG["preprocessing"], "input_size": 0}, "preprocessing is not usable"),
])  # fmt: skip
def test_what_is_no_description_is_refused(tmp_path: Path, entry: str, value: Any, complaint: str) -> None:
    (tmp_path / "model.xml").touch()
    with pytest.raises(UserError, match=complaint):
        read_export_folder(write(tmp_path, {**CONFIG, entry: value}))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json, which cannot be read"):
        read_export_folder(tmp_path)
    with pytest.raises(UserError, match=r"no file .*model\.xml"):
        read_export_folder(write(tmp_path, CONFIG))


def test_a_missing_package_is_named() -> None:
    check_packages("torch")
    with pytest.raises(UserError, match=r"no package onnx_of_nobody; .*requirements-export\.txt"):
        check_packages("torch", "onnx_of_nobody")
