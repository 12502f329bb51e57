"""Exported networks at work: ONNX Runtime or OpenVINO on the CPU, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtime.export_folder import NETWORKS, PACKAGES, Backend, check_packages
from utils import UserError

BATCH = 8  # images at a time: with 32 the maps between layers leave the caches (lsnet_t at 224 px: 8 % more time)


class ExportedNetwork:
    """A network in a file that tools/export_model.py wrote; it may run in several threads at a time.

    Attributes:
        outputs: names of what `run` returns.
    """

    def __init__(self, path: Path, backend: Backend, *, threads: int = 0) -> None:
        """Load the network in the file `path`; it computes in so many threads, 0 for as many as there are cores.

        Raises:
            UserError: the package of `backend` is not installed, or the file is no network that it can run.
        """
        check_packages(*PACKAGES[backend])
        self._infer, self.outputs = _LOADERS[backend](path, threads)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """The outputs, by name and in float32, of B images in the form that the network takes, (B, S, S, 3)."""
        parts = [self._infer(images[start:start + BATCH]) for start in range(0, len(images) or 1, BATCH)]
        return dict(zip(self.outputs, map(np.concatenate, zip(*parts, strict=True)), strict=True))


def _load_onnx(path: Path, threads: int) -> tuple[Any, list[str]]:
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors  # pyrefly: ignore[missing-module-attribute]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # it warns of what it optimises
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except (errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf,
            errors.NotImplemented) as error:
        raise _refuse(path, error) from error
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images}), [output.name for output in session.get_outputs()]


def _load_openvino(path: Path, threads: int) -> tuple[Any, list[str]]:
    import openvino

    # Its own choice is bfloat16 where the processor computes in it, whose answers differ in the third digit.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    try:
        network = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise _refuse(path, error) from error

    def infer(images: np.ndarray) -> list[np.ndarray]:
        request = network.create_infer_request()  # one for each call: a request belongs to one thread
        return [*request.infer([images], share_inputs=True).to_tuple()]

    return infer, [output.any_name for output in network.outputs]


_LOADERS = {"onnx": _load_onnx, "openvino": _load_openvino}


def _refuse(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}, which is damaged or no network ({str(error)[:300]})",
                     f"the {' or '.join(NETWORKS.values())} of tools/export_model.py", "export it again")
