"""ONNX files in 8-bit integers, and OpenVINO's form of ONNX files."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from runtime.export_folder import INPUT
from utils import UserError

PERCENTILE = 99.99  # of activations, %, that the range of int8 holds; the rest is cut off, see BENCHMARKS.md


def quantise(path: Path, batches: Iterator[np.ndarray]) -> None:
    """Let the ONNX file `path` compute in int8 what takes nearly all of its time, see `_nodes`.

    Args:
        path: is replaced.
        batches: pixels as the network takes them, by whose activations the ranges are chosen.

    Raises:
        UserError: there is none.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    pictures = (pixels[None] for batch in batches for pixels in batch)  # onnxruntime wants batches of one size
    if (first := next(pictures, None)) is None:
        raise UserError("no training picture that can be read, to calibrate int8 on", "at least one",
                        "check --data-path")
    pending = itertools.chain([first], pictures)

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
        with redirect_stdout(io.StringIO()):
            quantize_static(
                str(prepared), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                nodes_to_quantize=_nodes(prepared), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile, extra_options={"CalibPercentile": PERCENTILE})
    finally:
        log.setLevel(level)
        prepared.unlink(missing_ok=True)


def _nodes(path: Path) -> list[str]:
    """Names of the convolutions over channels of whole maps, and of the products with a matrix of weights.

    Depthwise convolutions, squeeze-and-excitation, whose maps have one pixel, and attention stay float32, since they
    take little time; so does the convolution that reads the picture, since it may lose much.
    """
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    shapes = {value.name: value.type.tensor_type.shape.dim for value in graph.value_info}
    sides = {name: [side.dim_value for side in shape[2:]] for name, shape in shapes.items()}
    found = [node for node in graph.node if node.op_type in ("Conv", "MatMul") and node.input[1] in weights]
    # A depthwise convolution has one channel of input per group, that of the picture has three.
    return [node.name for node in found if node.op_type == "MatMul"
            or (weights[node.input[1]][1] > 3 and sides.get(node.output[0]) != [1, 1])]


def write_openvino(onnx: Path, path: Path, *, half: bool) -> None:
    """Write the network of the ONNX file as OpenVINO's .xml, and .bin beside it, with weights in float16 if `half`."""
    import openvino

    # Not convert_model, which tells OpenVINO's makers that it was called.
    openvino.save_model(openvino.Core().read_model(onnx), path, compress_to_fp16=half)
