"""Folders that tools/export_model.py writes: which files they have, what their config.json says, and their reader.

The network is `model.onnx`, or `model.xml` with `model.bin`. Its input `pixels` is (B, S, S, 3) uint8, RGB; its outputs
are `probabilities` (B, classes), calibrated where there is a calibration, `logits` (B, classes) and `features` (B, D),
all float32. `score_features` (B, E) are there where the score of calibration.json reads features.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from data.side_files import read_json
from runtime.options import FeatureKind
from utils import UserError

if TYPE_CHECKING:
    from data.transforms import Preprocessing

FORMAT = "lsnet-export-1"
CONFIG, PREPROCESS = "config.json", "preprocess.json"
INPUT = "pixels"
PROBABILITIES, LOGITS, FEATURES = "probabilities", "logits", "features"
SCORE_FEATURES = "score_features"
Backend = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]
NETWORKS: dict[Backend, str] = {"onnx": "model.onnx", "openvino": "model.xml"}
PACKAGES: dict[Backend, tuple[str, ...]] = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}  # to run a network
ANOTHER = "name a checkpoint, or run tools/export_model.py again"


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """The entry `export` of config.json: what a program of this project must know of an exported network.

    Attributes:
        format: of the folder.
        backend: what runs the network.
        precision: of its numbers.
        fingerprint: of the checkpoint it was made from, see `Checkpoint.fingerprint`.
        feature_kind: of `features`.
        feature_blocks: widths of the groups of numbers in them, see `feature_blocks` in runtime/networks.py.
    """

    format: Literal["lsnet-export-1"] = FORMAT
    backend: Backend
    precision: Precision
    fingerprint: str
    feature_kind: FeatureKind
    feature_blocks: list[int]


class Config(msgspec.Struct, kw_only=True):
    """What must stand in config.json; other entries do not count."""

    export: Export
    label_names: list[str]
    task: Literal["classification", "multilabel"]
    preprocessing: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ExportFolder:
    """An exported network, as its folder describes it.

    Attributes:
        path: the folder.
        export: backend, precision and whose features they are.
        classes: names in the order of the logits.
        task: what the network answers, see `Checkpoint.task`.
        preprocessing: what it sees; mean and standard deviation are part of the network.
    """

    path: Path
    export: Export
    classes: list[str]
    task: Literal["classification", "multilabel"]
    preprocessing: Preprocessing

    @property
    def network(self) -> Path:
        """The file of the network."""
        return self.path / NETWORKS[self.export.backend]


def is_export_folder(path: Path) -> bool:
    """Whether `path` is a folder with an exported network in it."""
    return any((path / name).is_file() for name in NETWORKS.values())


def read_export_folder(path: Path) -> ExportFolder:
    """The exported network in the folder `path`; the file of the network itself is not opened.

    Raises:
        UserError: config.json is missing or no description of an exported network, or the network is missing.
    """
    from data.transforms import Preprocessing  # imports torch, which tools/export_model.py --help does without
    config = path / CONFIG
    found = read_json(config, Config, action=ANOTHER,
                      expected="what tools/export_model.py writes with --format onnx or openvino")
    try:
        preprocessing = Preprocessing.from_dict(found.preprocessing)
    except ValueError as error:
        raise UserError(f"{config}, whose preprocessing is not usable ({error})", "what tools/export_model.py wrote",
                        ANOTHER) from error
    folder = ExportFolder(path=path, export=found.export, classes=found.label_names, task=found.task,
                          preprocessing=preprocessing)
    if not folder.network.is_file():
        raise UserError(f"no file {folder.network}", f"the network that {config} describes", ANOTHER)
    return folder


def check_packages(*packages: str) -> None:
    """Raise a `UserError` that says what to install unless all of `packages` are there."""
    if missing := [name for name in packages if find_spec(name) is None]:
        raise UserError(f"no package {missing[0]}", "those of requirements-export.txt",
                        "run pip install -r requirements-export.txt")
