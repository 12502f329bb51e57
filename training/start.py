"""From flags, and a checkpoint if there is one, to the network, its preprocessing and the loading of batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from data.loaders import Loading
from data.names import nfc
from data.transforms import Preprocessing
from model.style_network import StyleNetwork
from runtime.checkpoint import Checkpoint, NetworkSpec, create_pretrained
from runtime.networks import (
    Architecture,
    State,
    classifier_names,
    guess_preset,
    has_style_head,
    is_lsnet,
    load_weights,
    make_architecture,
)
from runtime.options import DataOptions, ModelOptions, RunOptions, TrainerOptions
from runtime.placement import Placement
from runtime.processes import rank, world_size
from training.recipe import FEW_PICTURES, Start
from utils import UserError, counted, seed_everything

DEFAULT_MODEL = "lsnet_t_artist"
# Flags that may differ in a resumed run: they change nothing, or are compared with the network itself.
FREE_FLAGS = ("resume", "accept_changed_data", "output_dir", "data_path", "device", "num_workers", "pin_mem",
              "log_every", "save_steps", "eval", "dist_eval", "model", "input_size", "feature_dim", "class_csv",
              "pretrained", "finetune_from", "head_init", "recipe")


def choose_architecture(options: ModelOptions, num_classes: int, checkpoint: Checkpoint | None) -> Architecture:
    """The architecture that the flags ask for, or the checkpoint's, which the flags must not contradict.

    Raises:
        UserError: unknown model, contradictory projection flags, or a flag that contradicts the checkpoint.
    """
    if checkpoint is None:
        architecture = make_architecture(options.model or DEFAULT_MODEL, num_classes, input_size=options.input_size,
                                         feature_dim=options.feature_dim, drop_path_rate=options.drop_path_rate or 0.0,
                                         style_head="both" if options.head == "style" else None)
    else:
        architecture = checkpoint.resolve(options.model).architecture
        if (outputs := architecture.num_classes) != num_classes:
            raise UserError(f"{num_classes} classes for {checkpoint.path}, which tells {outputs} apart",
                            "the classes it was trained with", "use the data set that belongs to this checkpoint")
        has_style = "style" if "style_head" in architecture.model_args else "linear"
        for name, value, saved in (("feature_dim", options.feature_dim, architecture.model_args.get("feature_dim")),
                                   ("drop_path_rate", options.drop_path_rate,
                                    architecture.model_args.get("drop_path_rate", 0.0)),
                                   ("head", options.head, has_style)):
            if value is not None and value != saved:
                raise UserError(f"{name} {value} on the command line", f"{saved}, as in {checkpoint.path}",
                                "repeat the flags of the first start, or leave this one away")
    _check_projection(options, architecture)
    return architecture


def check_beginning(model: ModelOptions, run: RunOptions, recipe: str | None) -> None:
    """Raise a `UserError` if the flags say twice where the weights come from, or ask for --recipe with --pretrained."""
    if recipe and model.pretrained:
        raise UserError(f"--recipe {recipe} with --pretrained", "training from scratch, or --finetune-from",
                        "leave one of the two away: with weights, flags that are not given have a recipe of their own")
    if not model.pretrained:
        return
    others = [f"--finetune-from {run.finetune_from}"] if run.finetune_from else []
    others += [f"--resume {run.resume}"] if run.resume not in (None, "auto") else []
    others += ["--eval"] if run.eval else []
    if others:
        raise UserError(f"--pretrained with {others[0]}", "one or the other", "leave one of the two away")


def _check_projection(options: ModelOptions, architecture: Architecture) -> None:
    width = architecture.model_args.get("feature_dim")
    if options.use_projection and width is None:
        raise UserError("--use-projection without --feature-dim", "the length of the projected features",
                        "add --feature-dim, for example --feature-dim 2048")
    if options.use_projection is False and width is not None:
        raise UserError(f"--no-projection with --feature-dim {width}", "one or the other",
                        "leave one of the two away")


def choose_preprocessing(options: ModelOptions, fit: str | None, architecture: Architecture,
                         checkpoint: Checkpoint | None) -> Preprocessing:
    """The preprocessing for evaluation: the checkpoint's, or the architecture's at the input size and `fit` of flags.

    Raises:
        UserError: a flag contradicts the checkpoint.
    """
    if checkpoint is None:
        size = options.input_size or architecture.model_args.get("img_size")
        return Preprocessing.from_pretrained_cfg(architecture.pretrained_cfg, input_size=size, fit=fit or "crop")
    saved = checkpoint.resolve(options.model).preprocessing
    if checkpoint.saved.preprocessing is None:
        return _override(saved, options.input_size, fit)
    for flag, value, kept in (("--input-size", options.input_size, saved.input_size), ("--fit", fit, saved.fit)):
        if value is not None and value != kept:
            raise UserError(f"{flag} {value}", f"{kept}, as in {checkpoint.path}",
                            "repeat the flags of the first start, or leave this one away")
    return saved


def _override(saved: Preprocessing, input_size: int | None, fit: Any) -> Preprocessing:
    return replace(saved, input_size=input_size or saved.input_size, fit=fit or saved.fit)


def adapt_network(source: Checkpoint, options: ModelOptions, fit: str | None, num_classes: int, *,
                  has_teacher: bool) -> tuple[Architecture, Preprocessing]:
    """The network and preprocessing for training that starts from the weights of `source`: its own, but for the flags.

    A file that does not name its architecture is taken for the artist preset of its widths. Another model than the
    file's, such as lsnet_t_artist for lsnet_t, takes its input size and preprocessing.

    Raises:
        UserError: unknown model, or projection flags that contradict one another.
    """
    spec = _resolve_source(source, options.model)
    name = options.model or spec.architecture.name
    if not has_teacher:  # the second head has nobody to compare itself with
        name = name.removesuffix("_distill") if options.model is None else name
    preprocessing = _override(spec.preprocessing, options.input_size, fit)
    kept = spec.architecture.model_args if name == spec.architecture.name else {}
    style_head: Any = {"style": "both", "linear": None}.get(options.head or "", kept.get("style_head"))
    wanted = make_architecture(name, num_classes, input_size=preprocessing.input_size, feature_dim=options.feature_dim,
                               drop_path_rate=options.drop_path_rate or 0.0, style_head=style_head)
    dropped = {"distillation", "style_head", *(("feature_dim",) if style_head != kept.get("style_head") else ())}
    arguments = {key: value for key, value in kept.items() if key not in dropped} | wanted.model_args
    if options.drop_path_rate is not None:
        arguments["drop_path_rate"] = options.drop_path_rate
    architecture = replace(wanted, model_args=arguments)
    _check_projection(options, architecture)
    return architecture, preprocessing


def describe_start(options: TrainerOptions, source: Checkpoint | None, classes: list[str]) -> Start | None:
    """What a run of these classes begins with: the weights of `source`, published ones, or None for nothing.

    Raises:
        UserError: --head-init probe without weights, on whose features a probe could be fitted.
    """
    model, head_init = options.model, options.run.head_init
    if source is None and not model.pretrained:
        if head_init == "probe":
            raise UserError("--head-init probe without weights to begin with", "--pretrained or --finetune-from",
                            "add one of them, or leave the flag away")
        return None
    is_style = source is not None and has_style_head(source.evaluated)
    spec = _resolve_source(source, model.model) if source else None
    is_known = spec is not None and _knows(spec, classes)
    is_asked = model.head or model.feature_dim or model.use_projection or options.distillation.kind != "none"
    is_bare = not is_asked and not is_style and not is_known and (spec is None or spec.classes is None)
    keeps_head = is_known and model.head in (None, "style" if is_style else "linear")
    return Start(keeps_head=keeps_head, is_bare=is_bare, head_init=head_init)


def _resolve_source(source: Checkpoint, model: str | None) -> NetworkSpec:
    """The network of --finetune-from; a file that does not name it is taken for --model, or for a preset."""
    return source.resolve(None if source.saved.architecture else model or guess_preset(source.model) or DEFAULT_MODEL)


def _knows(spec: NetworkSpec, classes: list[str]) -> bool:
    """Whether the head of `spec` is that of `classes`; of one that nobody names, whether it has as many."""
    if spec.classes is None:
        return spec.architecture.num_classes == len(classes)
    return [nfc(name) for name in spec.classes] == classes


def add_distillation_head(architecture: Architecture, kind: str) -> Architecture:
    """The architecture of a student: an LSNet with a teacher gets a second head, which is compared with the teacher.

    Raises:
        UserError: the architecture has such a head, but there is no teacher.
    """
    has_head = architecture.name.endswith("_distill") or bool(architecture.model_args.get("distillation"))
    if kind == "none" and has_head:
        raise UserError(f"{architecture.name} with a distillation head, but no teacher", "a teacher to learn from",
                        "add --teacher-model and --teacher-path, or take a model without that head")
    if kind == "none" or has_head or not is_lsnet(architecture.name) or "style_head" in architecture.model_args:
        return architecture
    return replace(architecture, model_args={**architecture.model_args, "distillation": True})


def changed_flags(checkpoint: Checkpoint, options: dict[str, Any]) -> list[str]:
    """A line that names the flags whose values differ from those the checkpoint's run was begun with."""
    def as_list(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    begun = checkpoint.saved.options or {}
    changed = [f"--{name.replace('_', '-')} {begun[name]} is now {value}" for name, value in options.items()
               if name in begun and name not in FREE_FLAGS and as_list(begun[name]) != as_list(value)]
    return [f"other flags than {checkpoint.path} was begun with: {', '.join(changed)}; only with those of the start it "
            "goes on exactly"] if changed else []


def choose_loading(options: DataOptions, count: int, accumulation: int, placement: Placement) -> Loading:
    """Batch size and workers for `count` training images; a batch is never larger than the dataset allows.

    Raises:
        UserError: batches of fewer than two images, over which batch normalisation has no variance.
    """
    batch_size = min(options.batch_size, count // (accumulation * world_size()))
    if batch_size < 2:
        raise UserError(f"{counted(count, 'training picture')} for --batch-size {options.batch_size}, "
                        f"--accumulation-steps {accumulation} and {counted(world_size(), 'process')}",
                        "at least 2 pictures in a batch",
                        "add pictures, raise --batch-size or lower --accumulation-steps")
    return Loading(batch_size=batch_size, num_workers=placement.choose_workers(options.num_workers), rank=rank(),
                   world_size=world_size(), pin_memory=options.pin_mem and placement.device.type == "cuda")


def create_network(architecture: Architecture, options: RunOptions, *, pretrained: bool = False) -> torch.nn.Module:
    """A network with the first weights that --seed gives, or all but its head `pretrained`, the same on every rank.

    Raises:
        UserError: the weights cannot be had; --grad-checkpointing for a model that does not support it.
    """
    seed_everything(options.seed)
    network: Any = create_pretrained(architecture) if pretrained else architecture.create()
    if options.grad_checkpointing:
        try:
            network.set_grad_checkpointing()
        except (AssertionError, AttributeError) as error:
            raise UserError(f"--grad-checkpointing with {architecture.name}", "a model that can",
                            "leave the flag away or choose another model") from error
    return network


def describe_beginning(name: str, pictures: int, *, pretrained: bool, probe: bool, small: bool) -> list[str]:
    """A line for the log that says what the network begins with, where that matters; `small`: with --recipe small."""
    if pretrained:
        return [f"beginning with the published weights of {name}; the head is new"]
    if probe:
        return ["the features are random: the network is untrained (add --pretrained or --finetune-from)"]
    if pictures < FEW_PICTURES:
        return [f"training from scratch on {counted(pictures, 'picture')}: with fewer than {FEW_PICTURES:,}, "
                "--pretrained is usually better" + ("" if small else "; without it, add --recipe small")]
    return []


def load_pretrained(network: Any, source: Checkpoint, classes: list[str]) -> str:
    """Start `network`, of these classes, from the weights of `source`; a line for the log.

    The classifier keeps its rows for artists known to both runs; the rows of new artists are reset. Where nobody names
    the artists of `source`, a classifier of equal size is kept whole.

    Raises:
        UserError: the file holds another backbone.
    """
    own, backbone = source.evaluated, getattr(network, "backbone", network)
    name = None if source.saved.architecture else backbone.pretrained_cfg["architecture"]
    spec = source.resolve(name)
    if has_style_head(own) != isinstance(network, StyleNetwork):
        load_backbone(backbone, own, source.path)
        return f"finetuning from {source.path}; the classifier is reset: it reads other features"
    state = _match_heads(network, own)
    known = {nfc(name): row for row, name in enumerate(spec.classes or [])}
    if _knows(spec, classes):
        load_weights(network, state, source.path)
        return f"finetuning from {source.path}, head included: " + (
            f"it has {len(classes)} artists, too, but does not name them; their order was not checked (--class-csv)"
            if spec.classes is None else "the artists are the same")
    load_weights(network, state, source.path, keep_head=False)
    rows = [(row, known[name]) for row, name in enumerate(classes) if name in known]
    parameters = dict(network.named_parameters())
    for key in [f"{name}.{leaf}" for name in classifier_names(network) for leaf in ("weight", "bias")]:
        if key in state and key in parameters and rows:
            with torch.no_grad():
                parameters[key][[new for new, _ in rows]] = state[key][[old for _, old in rows]]
    return (f"finetuning from {source.path}; the classifier is reset, except for {len(rows)} of {len(classes)} "
            "artists that it knows")


def load_backbone(network: Any, state: State, source: object) -> None:
    """Load all but head and projection from the weights of a network, with a style head or without.

    Raises:
        UserError: `state` is of another backbone.
    """
    if has_style_head(state):
        state = {key.removeprefix("backbone."): value for key, value in state.items() if key.startswith("backbone.")}
    own = network.state_dict()
    head = tuple(f"{name}." for name in (*classifier_names(network), "head.bn", "head_dist", "projection"))
    state = {key: value for key, value in state.items() if not key.startswith(head)}
    load_weights(network, state | {key: value for key, value in own.items() if key.startswith(head)}, source)


def _match_heads(network: torch.nn.Module, state: State) -> State:
    """`state` with a distillation head if `network` has one, else without; a missing one is a copy of the head."""
    if not hasattr(network, "head_dist"):
        return {key: value for key, value in state.items() if not key.startswith("head_dist.")}
    copies = {f"head_dist.{key.removeprefix('head.')}": value for key, value in state.items()
              if key.startswith("head.")}
    return {**copies, **state}
