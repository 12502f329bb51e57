"""ONNX files in 8-bit integers, and OpenVINO's form of ONNX files."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.export_folder import INPUT
from utils import UserError

QUANTISED = ["Conv", "Gemm", "MatMul"]  # nearly all of the time; the rest stays float32


def quantise(path: Path, batches: Iterator[np.ndarray]) -> None:
    """Let the ONNX file `path` compute its convolutions and matrix products in int8.

    Args:
        path: is replaced.
        batches: pixels as the network takes them, by whose activations the ranges are chosen.

    Raises:
        UserError: there is none.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if (first := next(batches, None)) is None:
        raise UserError("no training picture that can be read, to calibrate int8 on", "at least one",
                        "check --data-path")
    pending = itertools.chain([first], batches)

    class Reader(CalibrationDataReader):
        def get_next(self) -> dict[str, Any] | None:  # pyrefly: ignore[bad-override]
            pixels = next(pending, None)
            return None if pixels is None else {INPUT: pixels}

    prepared = path.with_name("prepared.onnx")
    log = logging.getLogger()
    level = log.level
    log.setLevel(logging.ERROR)  # it advises to do what is done here
    try:
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        op_types_to_quantize=QUANTISED, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    finally:
        log.setLevel(level)
        prepared.unlink(missing_ok=True)


def write_openvino(onnx: Path, path: Path, *, half: bool) -> None:
    """Write the network of the ONNX file as OpenVINO's .xml, and .bin beside it, with weights in float16 if `half`."""
    import openvino

    openvino.save_model(openvino.convert_model(str(onnx)), str(path), compress_to_fp16=half)
