"""Networks by name: their architecture from flags or from the tensors of a file, strict loading, and their features."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import timm
import torch
from msgspec import Meta
from timm.models import get_pretrained_cfg_value, is_model, list_models, model_entrypoint

from model.lsnet import LSNet, checkpoint_filter_fn  # the package `model` registers the LSNet presets with timm
from model.lsnet_artist import PRESETS
from model.style_network import NAME as STYLE_NETWORK
from model.style_network import StyleNetwork, statistics, style_stages, style_widths
from runtime.options import LARGEST_DIM, LARGEST_SIDE, FeatureKind
from utils import UserError

DENSE_NETWORK = "dense_network"  # timm's name of the networks of detection/, once that is imported
# Prefixes of keys from DistributedDataParallel, torch.compile and Lightning.
WRAPPERS = ("module.", "_orig_mod.", "model.")
# How a constructor of timm refuses its arguments; a RuntimeError also tells that memory does not suffice.
REFUSALS = (AssertionError, KeyError, MemoryError, RuntimeError, TypeError, ValueError)
State = dict[str, torch.Tensor]
StyleHead = Literal["style", "both"]
DenseTask = Literal["boxes", "instances", "semantic"]
Side = Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]  # px
Count = Annotated[int, Meta(ge=0, le=10_000_000)]  # of classes
Probability = Annotated[float, Meta(ge=0, lt=1)]
# No tuple: msgspec 0.22 crashes over a union of a bounded number and a tuple of fixed length.
Pair = Annotated[list[Side], Meta(min_length=2, max_length=2)]


class ModelArgs(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The arguments that a file may give to a network's constructor; those of models have the meaning timm gives them.

    None names a file, an address or a class, and none makes a network larger than the weights beside it.
    """

    num_classes: Count | None = None
    in_chans: Literal[3] | None = None
    img_size: Side | Pair | None = None
    feature_dim: Annotated[int, Meta(ge=1, le=LARGEST_DIM)] | None = None
    distillation: bool | None = None
    global_pool: bool | Literal["", "avg", "avgmax", "catavgmax", "fast", "map", "max", "token"] | None = None
    drop_rate: Probability | None = None
    drop_path_rate: Probability | None = None
    drop_block_rate: Probability | None = None
    proj_drop_rate: Probability | None = None
    attn_drop_rate: Probability | None = None
    pos_drop_rate: Probability | None = None
    patch_drop_rate: Probability | None = None
    dynamic_img_size: bool | None = None
    dynamic_img_pad: bool | None = None
    strict_img_size: bool | None = None
    always_partition: bool | None = None
    window_size: Side | Pair | None = None
    output_stride: Literal[8, 16, 32] | None = None
    style_head: StyleHead | None = None
    class_token: bool | None = None
    no_embed_class: bool | None = None
    reg_tokens: Annotated[int, Meta(ge=0, le=64)] | None = None
    qkv_bias: bool | None = None
    init_values: Annotated[float, Meta(ge=0, le=1)] | None = None
    dense_task: DenseTask | None = None
    channels: Annotated[int, Meta(ge=8, le=1024, multiple_of=8)] | None = None
    rois: Annotated[int, Meta(ge=4, le=4096)] | None = None
    anchor_scale: Annotated[float, Meta(ge=0.1, le=10)] | None = None
    crop: Side | None = None


DENSE_HEADS: dict[str, tuple[str, int, int]] = {  # key whose rows are classes, rows of each, rows of no class
    "boxes": ("head.classification_head.cls_logits.weight", 9, 0),
    "instances": ("roi_heads.box_predictor.cls_score.weight", 1, 1),
    "semantic": ("head.conv_seg.weight", 1, 0)}


def check_model_args(arguments: Any) -> dict[str, Any]:
    """The arguments of a file that are set, checked against `ModelArgs`; a square `img_size` as one number.

    Raises:
        ValueError: one is unknown, of another type or out of range.
    """
    found = msgspec.to_builtins(msgspec.convert(arguments, ModelArgs))
    size = found.get("img_size")
    if isinstance(size, list):
        if size[0] != size[1]:
            raise ValueError(f"img_size {size[0]} x {size[1]}, which is no square")
        found["img_size"] = size[0]
    return found


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What `timm.create_model` needs to build a network.

    Attributes:
        name: a preset of `model/` or any timm model.
        num_classes: outputs of the head.
        model_args: further arguments, plain Python; `style_head`, if it is among them, makes it the backbone of a
            `StyleNetwork` whose head reads features of that kind, `dense_task` that of a network of `detection/`.
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
        name, arguments = self.in_timm()
        try:
            return timm.create_model(name, num_classes=self.num_classes, **arguments)
        except REFUSALS as error:
            raise UserError(f"{self.name} with {self.model_args} ({error})", "arguments that this model takes",
                            "leave the flag away, or choose a preset that has it") from error

    def in_timm(self) -> tuple[str, dict[str, Any]]:
        """Name and arguments for `timm.create_model`."""
        arguments = dict(self.model_args)
        if "dense_task" in arguments:
            return DENSE_NETWORK, {"backbone": self.name, **arguments}
        kind = arguments.pop("style_head", None)
        return (self.name, arguments) if kind is None else (
            STYLE_NETWORK, {"backbone": self.name, "kind": kind, **arguments})

    @property
    def pretrained_cfg(self) -> dict[str, Any]:
        """What timm knows of the model's input and head."""
        cfg = timm.get_pretrained_cfg(self.name)
        head = {"classifier": "head.l"} if "style_head" in self.model_args else {}
        return {**(cfg.to_dict() if cfg else {}), **head}


def check_input_size(network: torch.nn.Module, name: str, size: int) -> None:
    """Raise a `UserError` if the new `network`, a model `name` on the CPU, takes no images of `size` x `size` px.

    It is not asked at the size that its weights are published for, which it takes.
    """
    cfg = timm.get_pretrained_cfg(name)
    if cfg and cfg.input_size[-1] == size:
        return
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, 3, size, size))
    except REFUSALS as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"an input of {size} px for {name} ({reason})", "a size that this network takes",
                        "change --input-size (for speed.py and flops.py --resolution), or leave it away") from error
    finally:
        network.train(training)


def out_of_timm(name: Any, arguments: Any) -> tuple[Any, Any]:
    """Name and `model_args` of the `Architecture` that `in_timm` gives these; both may be of any type."""
    if name == DENSE_NETWORK and isinstance(arguments, dict):
        return arguments.get("backbone"), {key: value for key, value in arguments.items() if key != "backbone"}
    if name != STYLE_NETWORK or not isinstance(arguments, dict):
        return name, arguments
    rest = {key: value for key, value in arguments.items() if key not in ("backbone", "kind")}
    return arguments.get("backbone"), {**rest, "style_head": arguments.get("kind", "both")}


def check_name(name: str) -> None:
    """Raise a `UserError` that suggests similar names unless `name` is a preset of `model/` or a timm model."""
    try:
        known = is_model(name) and timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # timm knows the model, but not the weights after the dot
        known = False
    if not known:
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
                      drop_path_rate: float = 0.0, style_head: StyleHead | None = None) -> Architecture:
    """The architecture for the values of the model flags.

    Args:
        name: model name.
        num_classes: outputs of the head.
        input_size: side of the input, px, of models with a fixed one; None takes the preset's own.
        feature_dim: length of the feature vector (artist models and style heads); None: no projection.
        drop_path_rate: stochastic depth, in [0, 1).
        style_head: the kind of features of a head that reads style features; None for one that does not.

    Raises:
        UserError: no such model, or one that has no projection layer.
    """
    check_name(name)
    arguments: dict[str, Any] = {}
    if style_head is not None:
        arguments["style_head"] = style_head
    if feature_dim is not None:
        if style_head is None and not is_artist_model(name):
            raise UserError(f"--feature-dim with {name}", "a model with a projection layer",
                            f"use one of {', '.join(list_models('lsnet_*_artist*'))}, add --head style, or leave the "
                            "flag away")
        arguments["feature_dim"] = feature_dim
    if input_size is not None and takes_input_size(name):
        arguments["img_size"] = input_size
    if drop_path_rate:
        arguments["drop_path_rate"] = drop_path_rate
    return Architecture(name=name, num_classes=num_classes, model_args=arguments)


def guess_preset(state: State) -> str | None:
    """The artist preset whose widths the tensors have; None if there is none."""
    widths = tuple(len(table) if (table := state.get(f"blocks{stage}.{layer}.c.weight")) is not None and table.ndim
                   else 0 for stage, layer in ((2, 1), (3, 1), (4, 1)))
    return next((name for name, preset in PRESETS.items() if preset.embed_dim[1:] == widths), None)


def infer_architecture(name: str, state: State) -> Architecture:
    """The architecture that tensors have: head, projection and input size from their shapes."""
    head = head_weight(name, state)
    if head is None:
        return Architecture(name=name, num_classes=0)
    arguments: dict[str, Any] = {}
    projection = state.get("projection.0.l.weight")
    if is_artist_model(name) and projection is not None and projection.ndim:
        arguments["feature_dim"] = len(projection)
    if "head_dist.l.weight" in state and is_lsnet(name) and not name.endswith("_distill"):
        arguments["distillation"] = True
    tables = [value for key, value in state.items() if key.endswith("attention_biases") and value.ndim == 2]
    if tables and is_lsnet(name):
        grid = round(tables[0].shape[1] ** 0.5)
        # 4 x 4 is published for 224 px and 7 x 7 for 448; any other grid n stands for 64 n px.
        arguments["img_size"] = {4: 224, 7: 448}.get(grid, 64 * grid)
    return Architecture(name=name, num_classes=len(head), model_args=arguments)


def head_weight(name: str, state: State) -> torch.Tensor | None:
    """The weights of the classifier among those of model `name`, (classes, …); None if there is none."""
    if has_style_head(state):
        return head if (head := state.get("head.l.weight")) is not None and head.ndim else None
    classifier = get_pretrained_cfg_value(name, "classifier") or ""
    head = state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
    return head if head is not None and head.ndim else None


def dense_sizes(task: DenseTask, state: State) -> tuple[int, int]:
    """Classes and width of the pyramid that the tensors of a network for a dense task have; 0 where there are none."""
    key, each, others = DENSE_HEADS[task]
    rows, widths = (len(found) if (found := state.get(name)) is not None and found.ndim else 0
                    for name in (key, "backbone.neck.lateral_convs.0.conv.weight"))
    return (rows - others) // each, widths


def has_style_head(state: Mapping[str, Any]) -> bool:
    """Whether the weights are those of a `StyleNetwork`."""
    return all(key.startswith(("backbone.", "projection.", "head.")) for key in state) and any(
        key.startswith("backbone.") for key in state)


def strip_wrappers(state: Mapping[str, Any]) -> dict[str, Any]:
    """The same weights without the prefixes of `WRAPPERS`, in any order."""
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
        UserError: a key is missing, unexpected or of another shape, or a weight is not finite.
    """
    try:
        state = checkpoint_filter_fn(state, network) if isinstance(network, LSNet | StyleNetwork) else dict(state)
    except (IndexError, RuntimeError) as error:
        raise UserError(f"{source}, whose attention biases are no table of distances",
                        f"the weights of this {type(network).__name__}", "choose another file") from error
    own = network.state_dict()
    _check_finite(state, own, source)
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


def _check_finite(state: State, own: State, source: object) -> None:
    """Raise a `UserError` if `state` of the file `source` holds NaN or infinity where a new network, `own`, does not.

    Some networks hold infinite limits.
    """
    for key, value in state.items():
        if not value.float().isfinite().all() and (key not in own or own[key].isfinite().all()):
            raise UserError(f"{source}, whose {key} holds numbers that are not finite", "the weights of a network that "
                            "learned", "take an earlier checkpoint, or train again with a lower --lr")


def classifier_names(network: torch.nn.Module) -> tuple[str, ...]:
    """Names of the modules whose rows are the classes, such as `head.l`."""
    cfg: Any = network.pretrained_cfg
    names = cfg["classifier"] or ()
    return (names,) if isinstance(names, str) else tuple(names)


class Maps(NamedTuple):
    """What the end of a network reads of pictures.

    Attributes:
        last: the output of `forward_features`, of any layout.
        stages: those of `style_stages`, (B, C, H, W) each; none where no style features are asked for.
    """

    last: torch.Tensor
    stages: list[torch.Tensor]


def features_and_logits(network: Any, images: torch.Tensor,
                        *kinds: FeatureKind) -> tuple[torch.Tensor, torch.Tensor]:
    """Features (B, D) of `kinds`, side by side, and logits (B, classes) of one pass through `network`, any timm model.

    Pooled ones are what the classifier reads, or would read without the style features of a `StyleNetwork` that has no
    projection; `both` are style features and the backbone's pooled ones. Style features need `forward_intermediates`.
    """
    return answer_maps(network, read_maps(network, images, *kinds), *kinds)


def read_maps(network: Any, images: torch.Tensor, *kinds: FeatureKind) -> Maps:
    """All that `answer_maps` needs of `images` (B, 3, S, S) for features of these `kinds`."""
    if {*kinds} <= {"pooled"} and not isinstance(network, StyleNetwork):
        return Maps(network.forward_features(images), [])
    backbone = network.backbone if isinstance(network, StyleNetwork) else network
    return Maps(*backbone.forward_intermediates(images, indices=style_stages(backbone)))


def answer_maps(network: Any, maps: Maps, *kinds: FeatureKind) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and logits, as of `features_and_logits`, from the `maps` that `read_maps` gave for these `kinds`."""
    if not maps.stages:
        return network.forward_head(maps.last, pre_logits=True), network.forward_head(maps.last)
    has_style_head = isinstance(network, StyleNetwork)
    backbone = network.backbone if has_style_head else network
    style = torch.cat([statistics(stage) for stage in maps.stages], 1)
    pooled = backbone.forward_head(maps.last, pre_logits=True)
    features = {"pooled": pooled, "style": style, "both": torch.cat([style, pooled], 1)}
    read = features[network.kind] if has_style_head else maps.last
    if has_style_head and not network.reads_raw:
        features["pooled"] = network.forward_head(read, pre_logits=True)
    return torch.cat([features[kind] for kind in kinds or ("pooled",)], 1), network.forward_head(read)


def read_features(network: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the classifier reads, (B, D), and logits (B, classes) of one pass in evaluation."""
    maps = network.forward_features(images)
    return network.forward_head(maps, pre_logits=True), network.forward_head(maps)


def feature_blocks(network: Any, kind: FeatureKind) -> list[int]:
    """Widths of the groups of numbers in features of `kind`: those of each stage's statistics, and the pooled ones.

    Raises:
        UserError: style features of a network without `forward_intermediates`.
    """
    backbone = network.backbone if isinstance(network, StyleNetwork) else network
    if kind == "pooled":
        return [backbone.head_hidden_size if isinstance(network, StyleNetwork) and network.reads_raw
                else network.head_hidden_size]
    return style_widths(backbone) + ([backbone.head_hidden_size] if kind == "both" else [])


def richest_kind(network: Any) -> FeatureKind:
    """The most features that `network` has: `both`, or `pooled` where it gives no outputs of its stages."""
    backbone = network.backbone if isinstance(network, StyleNetwork) else network
    return "both" if hasattr(backbone, "forward_intermediates") else "pooled"


class WithFeatures(torch.nn.Module):
    """A network that returns its features beside its outputs."""

    def __init__(self, network: Any) -> None:
        """Wrap `network`, any timm model."""
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Images (B, 3, S, S) -> outputs as of `network` (in training those of both heads, if it has two), features."""
        if not self.network.training:
            features, logits = read_features(self.network, images)
            return logits, features
        # In training a second pass through the head would draw another dropout.
        features = self.network.forward_head(self.network.forward_features(images), pre_logits=True)
        heads = self.network.get_classifier()
        return tuple(head(features) for head in heads) if isinstance(heads, tuple) else heads(features), features
