"""A network as the loaders of the published LSNet artist models build it: an artist preset at its own input size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from data.transforms import Preprocessing
from export.source import Source
from inference.predictor import Predictor
from model.lsnet_artist import PRESETS
from runtime.checkpoint import describe_network
from runtime.networks import Architecture, load_weights
from runtime.placement import Placement
from utils import UserError

BUILT = {"feature_dim", "img_size", "drop_rate", "drop_path_rate"}  # arguments that loaders give, or ignore


@dataclass(frozen=True, kw_only=True, eq=False)
class Published:
    """What the folder holds.

    Attributes:
        network: as loaders build it, with the weights.
        preprocessing: at its input size.
        config: of config.json.
        is_resampled: whether its position biases are not those of training.
        run: see `Source.run`.
    """

    network: Any
    preprocessing: Preprocessing
    config: dict[str, Any]
    is_resampled: bool
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


def make_published(source: Source) -> Published:
    """The network of `source` at the input size of its preset.

    Raises:
        UserError: it is none that loaders of the published models build.
    """
    own = source.architecture
    extra = sorted({name for name, value in own.model_args.items() if value not in (None, False)} - BUILT)
    reason = ("a style head" if "style_head" in own.model_args else f"the argument {extra[0]}" if extra else
              "no artist preset" if own.name not in PRESETS else "")
    if reason:
        raise UserError(f"{source.checkpoint.path}, {own.name} with {reason}" if own.name in PRESETS else
                        f"{source.checkpoint.path}, a {own.name}", f"one of {', '.join(PRESETS)}, which the loaders of "
                        "published models build, without a style head", "take --format onnx")
    size = PRESETS[own.name].img_size
    trained: Any = source.predictor.network
    width = trained.head_hidden_size
    architecture = Architecture(name=own.name, num_classes=own.num_classes,
                                model_args={"feature_dim": width, "img_size": size})
    network: Any = architecture.create()
    state = source.checkpoint.evaluated
    load_weights(network, state, source.checkpoint.path)
    loaded = network.state_dict()
    is_resampled = any(state[key].shape != loaded[key].shape for key in loaded)
    preprocessing = replace(source.predictor.preprocessing, input_size=size)
    predictor = Predictor(network, source.classes, preprocessing, Placement.resolve("cpu", amp="off"))
    config = describe_network(architecture, width, source.classes, preprocessing, task=source.checkpoint.task,
                              feature_kind=None)
    return Published(network=network.eval(), preprocessing=preprocessing, config=config, is_resampled=is_resampled,
                     run=replace(source, predictor=predictor).run)
