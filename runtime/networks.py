"""Networks by name: their architecture from flags or from the tensors of a file, strict loading, and their features."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg_value, is_model, list_models, model_entrypoint

from model.lsnet import LSNet, checkpoint_filter_fn  # the package `model` registers the LSNet presets with timm
from utils import UserError

WRAPPERS = ("module.", "_orig_mod.")  # prefixes of keys from DistributedDataParallel and torch.compile
State = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What `timm.create_model` needs to build a network.

    Attributes:
        name: a preset of `model/` or any timm model.
        num_classes: outputs of the head.
        model_args: further arguments, plain Python.
    """

    name: str
    num_classes: int
    model_args: dict[str, Any] = field(default_factory=dict)

    def create(self) -> torch.nn.Module:
        """A new network with random weights, on the CPU.

        Raises:
            UserError: timm knows no such model, or the model refuses one of `model_args`.
        """
        check_name(self.name)
        try:
            return timm.create_model(self.name, num_classes=self.num_classes, **self.model_args)
        except TypeError as error:
            raise UserError(f"{self.name} with {self.model_args} ({error})", "arguments that this model takes",
                            "leave the flag away, or choose a preset that has it") from error

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm knows of the model's input and head."""
        cfg = timm.get_pretrained_cfg(self.name)
        return cfg.to_dict() if cfg else {}


def check_name(name: str) -> None:
    """Raise a `UserError` that suggests similar names unless `name` is a preset of `model/` or a timm model."""
    if not is_model(name):
        ours, all_models = list_models("lsnet_*_artist"), list_models()
        close = dict.fromkeys([*difflib.get_close_matches(name, ours, n=2, cutoff=0.5),
                               *difflib.get_close_matches(name, all_models, cutoff=0.5)])
        raise UserError(f"the unknown model {name}", f"for example {', '.join(close or ours)}",
                        "choose a preset of model/lsnet_artist.py or a timm model")


def is_artist_model(name: str) -> bool:
    """Whether the preset takes `feature_dim`."""
    return model_entrypoint(name).__module__ == "model.lsnet_artist"


def is_lsnet(name: str) -> bool:
    """Whether the model is one of the presets of `model/`."""
    return model_entrypoint(name).__module__.startswith("model.")


def takes_input_size(name: str) -> bool:
    """Whether the network is built for one input size, as LSNet and ViT are with their position tables."""
    return is_lsnet(name) or bool(get_pretrained_cfg_value(name, "fixed_input_size"))


def make_architecture(name: str, num_classes: int, *, input_size: int | None = None, feature_dim: int | None = None,
                      drop_path_rate: float = 0.0) -> Architecture:
    """The architecture for the values of the model flags.

    Args:
        name: model name.
        num_classes: outputs of the head.
        input_size: side of the input, px, of models with a fixed one; None takes the preset's own.
        feature_dim: length of the feature vector (artist models); None takes the backbone's width.
        drop_path_rate: stochastic depth, in [0, 1).

    Raises:
        UserError: no such model, or one that has no projection layer.
    """
    check_name(name)
    arguments: dict[str, Any] = {}
    if feature_dim is not None:
        if not is_artist_model(name):
            raise UserError(f"--feature-dim with {name}", "a model with a projection layer",
                            f"use one of {', '.join(list_models('lsnet_*_artist*'))}, or leave the flag away")
        arguments["feature_dim"] = feature_dim
    if input_size is not None and takes_input_size(name):
        arguments["img_size"] = input_size
    if drop_path_rate:
        arguments["drop_path_rate"] = drop_path_rate
    return Architecture(name=name, num_classes=num_classes, model_args=arguments)


def infer_architecture(name: str, state: State) -> Architecture:
    """The architecture of an older file: head, projection and input size from the shapes of its tensors."""
    check_name(name)
    classifier = get_pretrained_cfg_value(name, "classifier") or ""
    head = state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
    if head is None:
        return Architecture(name=name, num_classes=0)
    arguments: dict[str, Any] = {}
    if is_artist_model(name) and "projection.0.l.weight" in state:
        arguments["feature_dim"] = state["projection.0.l.weight"].shape[0]
    if "head_dist.l.weight" in state and not name.endswith("_distill"):
        arguments["distillation"] = True
    tables = [value for key, value in state.items() if key.endswith("attention_biases")]
    if tables:
        grid = round(tables[0].shape[1] ** 0.5)
        # 4 x 4 is published for 224 px and 7 x 7 for 448; any other grid n stands for 64 n px.
        arguments["img_size"] = {4: 224, 7: 448}.get(grid, 64 * grid)
    return Architecture(name=name, num_classes=head.shape[0], model_args=arguments)


def strip_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same weights without the prefixes of DistributedDataParallel and torch.compile, in any order."""
    for prefix in WRAPPERS:
        if state and all(key.startswith(prefix) for key in state):
            return strip_wrappers({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state)


def load_weights(network: torch.nn.Module, state: State, source: object, *, keep_head: bool = True) -> None:
    """Load `state`, all of it and nothing else; position biases of another grid are re-sampled.

    Args:
        network: receives the weights.
        state: weights in the published key layout.
        source: the file, for messages.
        keep_head: False leaves the classifier of `network` as it is and ignores that of `state`.

    Raises:
        UserError: a key is missing, unexpected or of another shape.
    """
    state = checkpoint_filter_fn(state, network) if isinstance(network, LSNet) else dict(state)
    own = network.state_dict()
    if not keep_head:
        head = tuple(f"{name}." for name in classifier_names(network))
        state = {key: value for key, value in state.items() if not key.startswith(head)}
        state |= {key: value for key, value in own.items() if key.startswith(head)}
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    reshaped = [f"{key} of shape {tuple(state[key].shape)} for {tuple(own[key].shape)}"
                for key in own if key in state and state[key].shape != own[key].shape]
    for kind, keys in (("lacks", missing), ("has the unexpected", unexpected), ("has", reshaped)):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise UserError(f"{source}, which {kind} {keys[0]}{more}", f"the weights of this {type(network).__name__}",
                            "check --model, --feature-dim and the file (--finetune-from takes a file of other artists)")
    network.load_state_dict(state)


def classifier_names(network: torch.nn.Module) -> tuple[str, ...]:
    """Names of the modules whose rows are the classes, such as `head.l`."""
    cfg: Any = network.pretrained_cfg
    names = cfg["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def features_and_logits(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B, D) before the head and logits (B, classes) of one pass through `network`, any timm model."""
    maps = network.forward_features(images)
    return network.forward_head(maps, pre_logits=True), network.forward_head(maps)


class WithFeatures(torch.nn.Module):
    """A network that returns its features beside its outputs."""

    def __init__(self, network: Any) -> None:
        """Wrap `network`, any timm model."""
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Images (B, 3, S, S) -> outputs as of `network` (in training those of both heads, if it has two), features."""
        if not self.network.training:
            features, logits = features_and_logits(self.network, images)
            return logits, features
        # In training a second pass through the head would draw another dropout.
        features = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
        heads = self.network.get_classifier()
        return tuple(head(features) for head in heads) if isinstance(heads, tuple) else heads(features), features
