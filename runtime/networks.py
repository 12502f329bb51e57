"""Networks by name: which arguments a model takes, what a checkpoint says of them, and how to build it again."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from timm.models import is_model, list_models, model_entrypoint

import model as presets  # registers the LSNet presets with timm
from model.lsnet import LSNet, checkpoint_filter_fn
from utils import UserError

WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before every key
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
        """The network with fresh weights, on the CPU.

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
        """The description by timm of the model's input and head."""
        return timm.get_pretrained_cfg(self.name).to_dict()


def check_name(name: str) -> None:
    """Raise a `UserError` with the closest names unless timm, with our presets, can build `name`."""
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
    return model_entrypoint(name).__module__.startswith(presets.__name__ + ".")


def takes_input_size(name: str) -> bool:
    """Whether the network is built for one input size: LSNet's position biases, a ViT's position embedding."""
    return is_lsnet(name) or bool(timm.get_pretrained_cfg(name).fixed_input_size)


def describe(name: str, num_classes: int, *, input_size: int | None = None, feature_dim: int | None = None,
             drop_path_rate: float = 0.0) -> Architecture:
    """The architecture that the model flags ask for.

    Args:
        name: model name.
        num_classes: outputs of the head.
        input_size: side of the input, px, for models that are built for one; None takes the preset's own.
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


def architecture_of_tensors(name: str, state: State) -> Architecture:
    """Head, projection and grid as the shapes of an older file's tensors tell them."""
    check_name(name)
    classifier = timm.get_pretrained_cfg(name).classifier
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
    """The same weights without the prefixes of DistributedDataParallel and torch.compile, however nested."""
    result = dict(state)
    while prefix := next((wrapper for wrapper in WRAPPERS if result and all(key.startswith(wrapper) for key in result)),
                         None):
        result = {key.removeprefix(prefix): value for key, value in result.items()}
    return result


def load_weights(network: torch.nn.Module, state: State, source: object, *, keep_head: bool = True) -> None:
    """Load `state` strictly; position biases of another grid are re-sampled.

    Args:
        network: receives the weights.
        state: weights in the published key layout.
        source: the file, for messages.
        keep_head: when False, the classifier of `network` stays as it is, whatever the file holds.

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
    names = network.pretrained_cfg["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def features_and_logits(network: torch.nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One pass, both results: features (B, D) before the head, logits (B, classes)."""
    maps = network.forward_features(images)
    return network.forward_head(maps, pre_logits=True), network.forward_head(maps)


class WithFeatures(torch.nn.Module):
    """A network whose forward pass tells the features, too."""

    def __init__(self, network: torch.nn.Module) -> None:
        """Wrap `network`, any model with timm's classifier."""
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """What the network says of (B, 3, S, S) in training (logits, or those of both heads), and features (B, D)."""
        features = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
        heads = self.network.get_classifier()
        return tuple(head(features) for head in heads) if isinstance(heads, tuple) else heads(features), features
