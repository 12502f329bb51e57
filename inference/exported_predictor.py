"""The predictor of a network that tools/export_model.py wrote, and the choice between it and torch.

Letters: B batch, S side in px, D and E features.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data.class_mapping import first_difference, read_class_mapping
from inference.exported import ExportedNetwork
from inference.predictor import Predictor
from runtime.checkpoint import WEIGHT_FILES, download, is_hub_name
from runtime.export_folder import (
    FEATURES,
    LOGITS,
    NETWORKS,
    SCORE_FEATURES,
    Backend,
    ExportFolder,
    is_export_folder,
    read_export_folder,
)
from runtime.options import BackendOptions, FeatureOptions, TrainedOptions
from runtime.placement import Placement
from search.vectors import FeatureSpace
from utils import UserError

# What is downloaded of a folder on the hub: the first that is there.
FILES = {"onnx": ((NETWORKS["onnx"],),), "openvino": ((NETWORKS["openvino"], "model.bin"), (NETWORKS["onnx"],))}


class ExportedPredictor(Predictor):
    """A `Predictor` whose network runs in ONNX Runtime or OpenVINO, on the CPU; normalisation is part of it."""

    def __init__(self, folder: ExportFolder, backend: Backend) -> None:
        """Load the network of `folder`.

        Raises:
            UserError: `backend` is not installed, or cannot run that network.
        """
        if backend == "onnx" and folder.export.backend != "onnx":
            raise UserError(f"--backend onnx for {folder.path}, exported for {folder.export.backend}",
                            f"--backend {folder.export.backend}", "correct it, or export with --format onnx")
        export = folder.export
        self.exported = ExportedNetwork(folder.network, backend, threads=torch.get_num_threads())
        # Features of int8 differ too much from others to be compared with them.
        model = f"int8-{export.fingerprint}" if export.precision == "int8" else export.fingerprint
        self.space = FeatureSpace(model=model, feature_kind=export.feature_kind, blocks=export.feature_blocks)
        self.kinds, self.width = [export.feature_kind], sum(export.feature_blocks)
        self.scorer = None
        self.classes: Sequence[str] | None = folder.classes
        self.task: str | None = folder.task
        self.pretrained = False  # nobody calibrates an export
        self.preprocessing = folder.preprocessing
        self.placement, self.backend = Placement.resolve("cpu"), f"{backend} {export.precision}"
        self.fingerprint, self.source = export.fingerprint, folder.network

    @property
    def num_classes(self) -> int:
        """Outputs of the network."""
        return len(self.classes or ())

    @property
    def pooled_width(self) -> int | None:
        """Length of the pooled features; None where others were exported."""
        return None if self.space.feature_kind == "style" else self.space.blocks[-1]

    def add_features(self) -> FeatureSpace:
        """From now on add the features that a calibration reads; raises a `UserError` if they were not exported."""
        if SCORE_FEATURES not in self.exported.outputs:
            raise UserError(f"{self.source}, exported without the features that its calibration reads",
                            f"the output {SCORE_FEATURES}", "export the calibrated network again, or add "
                            "--no-calibration")
        self.kinds = [self.space.feature_kind, "both"]
        return FeatureSpace(model=self.space.model, feature_kind="both")

    def run(self, pixels_BHWC: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of all `kinds` (B, D) and logits (B, classes), float32, of one view of B pictures, (B, S, S, 3)."""
        found = self.exported.run(np.ascontiguousarray(pixels_BHWC.numpy()))
        features = [found[name] for name in (FEATURES, SCORE_FEATURES)[:len(self.kinds)]]
        return torch.from_numpy(np.concatenate(features, 1)), torch.from_numpy(found[LOGITS])


def open_predictor(options: TrainedOptions | FeatureOptions, chosen: BackendOptions, *, uses_features: bool = False,
                   gallery: FeatureSpace | None = None) -> Predictor:
    """The predictor of a command's flags, on the backend that they choose; see `Predictor.from_options`.

    Without --backend it is torch where there are weights for it, else what the folder was exported for.

    Raises:
        UserError: the flags do not fit the backend or the network; or see `Predictor.from_options`.
    """
    path, backend = options.checkpoint, chosen.backend
    if path and (named := named_backend(path)):
        path, backend = path.parent, backend or named
    if backend is None and path and is_export_alone(path):
        backend = read_export_folder(path).export.backend
    if backend is None or backend == "torch":
        return Predictor.from_options(options, uses_features=uses_features, gallery=gallery)
    check_flags(options, backend)
    folder = find_export(Path(path or ""), backend)
    if options.class_csv and (difference := first_difference(read_class_mapping(options.class_csv), folder.classes)):
        raise UserError(f"{options.class_csv}, which contradicts {folder.path}: {difference}",
                        "the classes it was trained with", "leave the flag away")
    kind = options.feature_kind if isinstance(options, FeatureOptions) and uses_features else None
    if kind not in (None, folder.export.feature_kind):
        raise UserError(f"--feature-kind {kind} for {folder.path}", f"{folder.export.feature_kind}, which was exported",
                        "leave the flag away, or name the checkpoint without --backend")
    return ExportedPredictor(folder, backend)


def named_backend(path: Path) -> Backend | None:
    """The backend of an exported network that is named by its file, not by its folder; None for anything else."""
    return next((backend for backend, name in NETWORKS.items() if path.name == name and path.is_file()), None)


def is_export_alone(path: Path) -> bool:
    """Whether `path` is a folder with an exported network in it, but without weights for torch."""
    return is_export_folder(path) and not any((path / name).is_file() for name in WEIGHT_FILES)


def check_flags(options: TrainedOptions | FeatureOptions, backend: Backend) -> None:
    """Raise a `UserError` for a flag that changes nothing, or cannot be, where the network runs in `backend`."""
    given: dict[str, Any] = {
        "--pretrained": isinstance(options, FeatureOptions) and options.pretrained, "--model": options.model,
        "--compile": options.compile, f"--amp {options.amp}": options.amp != "off",
        f"--device {options.device}": options.device not in ("auto", "cpu")}
    for name, is_given in given.items():
        if is_given:
            raise UserError(f"{name} for a network that runs in {backend}", "a network as it was exported, on the CPU",
                            f"leave {name.split()[0]} or --backend away")


def find_export(path: Path, backend: Backend) -> ExportFolder:
    """The exported network in the folder `path`, or in that of a name on the hub, which is then downloaded.

    Raises:
        UserError: there is none, or its folder cannot be read.
    """
    folder = download(path, *FILES[backend]) if is_hub_name(path) else path
    if not is_export_folder(folder):
        raise UserError(f"--backend {backend} for {path}, which holds no exported network",
                        f"a folder with {' or '.join(NETWORKS.values())}",
                        f"make it with tools/export_model.py --format {backend}, and name it as --checkpoint")
    return read_export_folder(folder)
