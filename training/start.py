"""How a run starts: from flags and, where there is one, a checkpoint to the network and its preprocessing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from data.loaders import Loading
from data.transforms import Preprocessing
from runtime.checkpoint import Checkpoint, read_checkpoint
from runtime.networks import Architecture, State, classifier_names, describe, is_lsnet, load_weights
from runtime.options import DataOptions, ModelOptions, RunOptions
from runtime.placement import Placement
from runtime.processes import rank, world_size
from utils import UserError, seed_everything

DEFAULT_MODEL = "lsnet_t_artist"
ANY_TIME = ("resume", "output_dir", "data_path", "device", "num_workers", "pin_mem", "log_every", "save_steps", "eval",
            "dist_eval", "model", "input_size", "feature_dim")  # change nothing, or are compared with the network


def choose_architecture(options: ModelOptions, num_classes: int, checkpoint: Checkpoint | None) -> Architecture:
    """What the flags ask for, or what the checkpoint holds where they agree with it.

    Raises:
        UserError: unknown model, contradictory projection flags, or a flag that contradicts the checkpoint.
    """
    if checkpoint is None:
        architecture = describe(options.model or DEFAULT_MODEL, num_classes, input_size=options.input_size,
                                feature_dim=options.feature_dim, drop_path_rate=options.drop_path_rate or 0.0)
    else:
        architecture = checkpoint.architecture(options.model)
        for name, asked, default in (("feature_dim", options.feature_dim, None),
                                     ("drop_path_rate", options.drop_path_rate, 0.0)):
            saved = architecture.model_args.get(name, default)
            if asked is not None and asked != saved:
                raise UserError(f"{name} {asked} on the command line", f"{saved}, as in {checkpoint.path}",
                                "repeat the flags of the first start, or leave this one away")
    _check_projection(options, architecture)
    return architecture


def changed_flags(checkpoint: Checkpoint, options: dict[str, Any]) -> list[str]:
    """A line that names the flags, out of all `options`, by which a run goes on differently than it was begun."""
    def plain(value: Any) -> Any:
        return list(value) if isinstance(value, tuple) else value

    begun = checkpoint.config.get("options", {})
    changed = [f"--{name.replace('_', '-')} {begun[name]} is now {value}" for name, value in options.items()
               if name in begun and name not in ANY_TIME and plain(begun[name]) != plain(value)]
    return [f"other flags than {checkpoint.path} was begun with: {', '.join(changed)}; only with those of the start it "
            "goes on exactly"] if changed else []


def with_distillation_head(architecture: Architecture, kind: str) -> Architecture:
    """The student's architecture: an LSNet that is taught answers its teacher with a head of its own.

    Raises:
        UserError: such a head without a teacher.
    """
    has_head = architecture.name.endswith("_distill") or bool(architecture.model_args.get("distillation"))
    if kind == "none" and has_head:
        raise UserError(f"{architecture.name} with a distillation head, but no teacher", "a teacher to learn from",
                        "add --teacher-model and --teacher-path, or take a model without that head")
    if kind == "none" or has_head or not is_lsnet(architecture.name):
        return architecture
    return replace(architecture, model_args={**architecture.model_args, "distillation": True})


def _check_projection(options: ModelOptions, architecture: Architecture) -> None:
    width = architecture.model_args.get("feature_dim")
    if options.use_projection and width is None:
        raise UserError("--use-projection without --feature-dim", "the length of the projected features",
                        "add --feature-dim, for example --feature-dim 2048")
    if options.use_projection is False and width is not None:
        raise UserError(f"--no-projection with --feature-dim {width}", "one or the other",
                        "leave one of the two away")


def choose_preprocessing(model: ModelOptions, fit: str | None, checkpoint: Checkpoint | None) -> Preprocessing:
    """The evaluation transform: the checkpoint's, or the preset's at the size and `fit` the flags ask for.

    Raises:
        UserError: unknown model, or a flag that contradicts the checkpoint.
    """
    if checkpoint is not None and "preprocessing" in checkpoint.config:
        saved = Preprocessing.from_dict(checkpoint.config["preprocessing"])
        for flag, asked, kept in (("--input-size", model.input_size, saved.input_size), ("--fit", fit, saved.fit)):
            if asked is not None and asked != kept:
                raise UserError(f"{flag} {asked}", f"{kept}, as in {checkpoint.path}",
                                "repeat the flags of the first start, or leave this one away")
        return saved
    architecture = choose_architecture(model, 1, checkpoint)
    size = model.input_size or architecture.model_args.get("img_size")
    saved = checkpoint.config.get("pretrained_cfg", {}) if checkpoint else {}  # in a folder of timm's hub layout
    return Preprocessing.from_pretrained_cfg(architecture.pretrained_cfg | saved, input_size=size, fit=fit or "crop")


def choose_loading(options: DataOptions, pictures: int, accumulation: int, place: Placement) -> Loading:
    """Batch size and workers; a batch larger than the data set becomes as large as the data set allows.

    Raises:
        UserError: batches of fewer than two pictures, over which batch normalisation has no spread.
    """
    batch_size = min(options.batch_size, pictures // (accumulation * world_size()))
    if batch_size < 2:
        raise UserError(f"{pictures} training picture(s) for --batch-size {options.batch_size}, --accumulation-steps "
                        f"{accumulation} and {world_size()} process(es)", "at least 2 pictures in a batch",
                        "add pictures, raise --batch-size or lower --accumulation-steps")
    return Loading(batch_size=batch_size, num_workers=place.workers(options.num_workers), rank=rank(),
                   world_size=world_size(), pin_memory=options.pin_mem and place.device.type == "cuda")


def create_network(architecture: Architecture, options: RunOptions) -> torch.nn.Module:
    """The network with the first weights that --seed gives, on every rank alike.

    Raises:
        UserError: --grad-checkpointing for a model that has none.
    """
    seed_everything(options.seed)
    network = architecture.create()
    if options.grad_checkpointing:
        try:
            network.set_grad_checkpointing()
        except (AssertionError, AttributeError) as error:
            raise UserError(f"--grad-checkpointing with {architecture.name}", "a model that can",
                            "leave the flag away or choose another model") from error
    return network


def _with_heads_of(network: torch.nn.Module, state: State) -> State:
    """`state` with a distillation head, begun as a copy of the head, exactly where `network` has one."""
    if not hasattr(network, "head_dist"):
        return {key: value for key, value in state.items() if not key.startswith("head_dist.")}
    heads = {f"head_dist.{key.removeprefix('head.')}": value for key, value in state.items() if key.startswith("head.")}
    return {**heads, **state}


def finetune(network: torch.nn.Module, path: str, classes: list[str]) -> str:
    """Start `network` from the weights of another run; a line to tell the user.

    The classifier's rows of artists known to both runs are kept; those of new artists start anew.

    Raises:
        UserError: the file cannot be read or holds another backbone.
    """
    checkpoint = read_checkpoint(path)
    state = _with_heads_of(network, checkpoint.evaluated)
    if checkpoint.classes == classes:
        load_weights(network, state, checkpoint.path)
        return f"finetuning from {path}, head included: the artists are the same"
    load_weights(network, state, checkpoint.path, keep_head=False)
    known = {name: row for row, name in enumerate(checkpoint.classes or [])}
    rows = [(row, known[name]) for row, name in enumerate(classes) if name in known]
    parameters: dict[str, Any] = dict(network.named_parameters())
    for key in [f"{name}.{leaf}" for name in classifier_names(network) for leaf in ("weight", "bias")]:
        if key in state and key in parameters and rows:
            with torch.no_grad():
                parameters[key][[new for new, _ in rows]] = state[key][[old for _, old in rows]]
    return f"finetuning from {path}; the head starts anew, but for {len(rows)} of {len(classes)} artists known to it"
