"""From a network to an ONNX file: pixels in, probabilities out.

Letters: B batch, S side of the input in px, D and E features.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.transforms import Preprocessing
from runtime.export_folder import FEATURES, INPUT, LOGITS, PROBABILITIES, SCORE_FEATURES
from runtime.networks import features_and_logits
from runtime.options import FeatureKind
from utils import UserError, atomic_path


@dataclass(frozen=True, kw_only=True)
class Form:
    """What an exported network takes and answers.

    Attributes:
        is_tagger: whether the input is as WD-14 taggers take it, BGR in float32 from 0 to 255, and not RGB in uint8.
        kinds: of the features: those of the checkpoint, and others where the score of its calibration reads them.
        width: of the first features.
        sigmoid: whether each class has a probability of its own.
        temperature: logits are divided by it for the probabilities.
        leading: probabilities of 0 before those of the classes.
        half: whether the network computes in float16.
    """

    is_tagger: bool = False
    kinds: Sequence[FeatureKind]
    width: int
    sigmoid: bool
    temperature: float = 1.0
    leading: int = 0
    half: bool = False

    @property
    def outputs(self) -> list[str]:
        """Names of what the network returns."""
        return [PROBABILITIES, LOGITS, FEATURES, SCORE_FEATURES][:2 + len(self.kinds)]


class PixelNetwork(nn.Module):
    """A network with all that happens between pixels and probabilities: (B, S, S, 3) -> the outputs of `Form`."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, form: Form) -> None:
        """Wrap `network`, which is in evaluation mode and is changed where `form` asks for float16."""
        super().__init__()
        self.network, self.form = network.half() if form.half else network, form
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -mean / deviation)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Probabilities and logits (B, classes), and features (B, D), of each kind, float32."""
        planes = pixels.permute(0, 3, 1, 2)  # before they become floats: a byte moves faster
        images = planes[:, [2, 1, 0]] if self.form.is_tagger else planes.float()
        images = images * self.scale + self.shift
        images = images.half() if self.form.half else images
        features, logits = (each.float() for each in features_and_logits(self.network, images, *self.form.kinds))
        scaled = logits / self.form.temperature if self.form.temperature != 1 else logits
        probabilities = scaled.sigmoid() if self.form.sigmoid else scaled.softmax(1)
        if self.form.leading:
            probabilities = nn.functional.pad(probabilities, [self.form.leading, 0])
        parts = [features[:, :self.form.width], features[:, self.form.width:]]
        return probabilities, logits, *parts[:len(self.form.kinds)]


def write_onnx(network: PixelNetwork, size: int, path: Path) -> None:
    """Write `network`, whose images have `size` px, as an ONNX file with a batch of any size.

    Raises:
        UserError: it has an operator that ONNX has not.
    """
    pixels = torch.zeros(2, size, size, 3, dtype=torch.float32 if network.form.is_tagger else torch.uint8)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                network.eval(), (pixels,), dynamo=True, verbose=False, input_names=[INPUT],
                output_names=network.form.outputs, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()
        raise UserError(f"{type(network.network).__name__}, which does not export ({reason[0][:300]})",
                        "a network of operators that ONNX has", "take another network") from error
    _pool_globally(program.model)
    with atomic_path(path) as partial:
        program.save(partial)


def _pool_globally(model: Any) -> None:
    """Turn means over the picture into ONNX's global pooling, which ONNX Runtime computes as convolutions leave it.

    Other means make it copy their input into another order, and the result back.
    """
    from onnxscript.optimizer import remove_unused_nodes
    for node in model.graph:
        axes = node.inputs[1].const_value if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
        keeps = node.attributes.get("keepdims")
        if axes is not None and sorted(axes.numpy().tolist()) in ([2, 3], [-2, -1]) and (not keeps or keeps.value == 1):
            node.op_type = "GlobalAveragePool"
            node.attributes.clear()
            node.resize_inputs(1)
    remove_unused_nodes(model)  # the axes, of which ONNX Runtime would warn
