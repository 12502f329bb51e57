"""Training with weights divided among processes: what cannot go with it, and whether the processes agree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace

import torch

from runtime.class_parallel import divide_classifier
from runtime.networks import Architecture
from runtime.options import ArtistOptions, ScaleOptions, TrainerOptions
from runtime.processes import gather, world_size
from training.pictures import Pictures
from utils import UserError

ELEMENTWISE = ("adamw", "adam", "nadam", "nadamw", "sgd", "momentum", "lion")  # others weigh whole tensors or rows

# Flags that may differ between ranks, besides those that are paths: what a machine has, and what is only told.
MAY_DIFFER = ("device", "num_workers", "resume", "finetune_from", "teacher_path", "log_every")


def check_scale(options: ArtistOptions, scale: ScaleOptions) -> None:
    """Raise a `UserError` if flags are given that a divided network cannot go with."""
    if scale == ScaleOptions():
        return
    if scale.head_sample_rate < 1 and not scale.head_parallel:
        raise UserError("--head-sample-rate without --head-parallel", "both, also on one process",
                        "add --head-parallel, or leave --head-sample-rate away")
    run, augmentation, asked = options.run, options.augmentation, "--fsdp" if scale.fsdp else "--head-parallel"
    refused = {
        "--head-parallel": scale.fsdp and scale.head_parallel,
        "--mixup or --cutmix": scale.head_parallel and bool(augmentation.mixup or augmentation.cutmix),
        "a teacher": options.distillation.kind != "none",
        "--contrastive-weight": bool(options.long_tail.contrastive_weight),
        "--linear-probe": options.probe.linear_probe,
        "--head-init probe": run.head_init == "probe",
        "--freeze-backbone": scale.fsdp and bool(run.freeze_backbone),
        f"--clip-mode {options.optimizing.clip_mode}": scale.fsdp and options.optimizing.clip_mode != "norm",
        "--compile": run.compile,
        "--amp fp16": run.amp == "fp16",
    }
    if found := next((name for name, is_given in refused.items() if is_given), None):
        raise UserError(f"{asked} with {found}", "one of the two", "leave one of the two away")
    if options.optimizing.opt not in ELEMENTWISE:
        raise UserError(f"{asked} with --opt {options.optimizing.opt}, which needs whole weights",
                        f"one of {', '.join(ELEMENTWISE)}", f"choose one of them, or leave {asked} away")


def without_probe(options: ArtistOptions) -> ArtistOptions:
    """`options` with --head-init none, where no flag says it: a probe is fitted on one process."""
    if options.scale == ScaleOptions() or "head_init" in options.given:
        return options
    return replace(options, run=replace(options.run, head_init="none"), given=options.given | {"head_init"})


def divides_head(scale: ScaleOptions) -> bool:
    """Whether the classifier is divided: with one process it is so only for updates that read part of it."""
    return scale.head_parallel and (world_size() > 1 or scale.head_sample_rate < 1)


def divides_all(scale: ScaleOptions) -> bool:
    """Whether all weights are."""
    return scale.fsdp and world_size() > 1


def scale_network(network: torch.nn.Module, scale: ScaleOptions) -> list[str]:
    """Divide the classifier of `network`, with its first weights, where `scale` says so; lines for the log.

    Raises:
        UserError: see `divide_classifier`.
    """
    if scale == ScaleOptions():
        return []
    if divides_all(scale):
        return [f"all weights are divided among {world_size()} processes, and whole in evaluations"]
    if not divides_head(scale):
        return ["one process: nothing is divided"]
    divided = divide_classifier(network)
    lines = [divided] if world_size() > 1 else []
    if scale.head_sample_rate < 1:
        lines.append(f"each update reads the artists of its pictures, and {100 * scale.head_sample_rate:g} % of the "
                     "others")
    return lines


def check_ranks(options: TrainerOptions, architecture: Architecture, classes: Sequence[str],
                pictures: Pictures, layouts: Sequence[str] = ()) -> None:
    """Raise a `UserError`, on every rank, unless all ranks have these; paths may differ.

    `layouts` are those of the images to train and to validate, see `LabelledImages`.
    """
    if world_size() == 1:
        return
    digests = (hashlib.blake2b(content, digest_size=8).hexdigest() for content in (
        "\0".join(classes).encode("utf-8", "surrogatepass"), pictures.train.tobytes() + pictures.val.tobytes()))
    groups = [group for field in fields(options) if is_dataclass(group := getattr(options, field.name))]
    flags = {f"--{field.name.replace('_', '-')}": getattr(group, field.name) for group in groups
             for field in fields(group) if "Path" not in str(field.type) and field.name not in MAY_DIFFER}
    check_agreement({**flags, "the model": architecture.name, "the number of classes": len(classes),
                     "the number of pictures to train": len(pictures.train),
                     "the number of pictures to validate": len(pictures.val),
                     "the digest of the shards": " ".join(layouts),
                     **dict(zip(("the digest of the classes' names", "the digest of the pictures' names"), digests,
                                strict=True))})


def check_agreement(said: dict[str, object]) -> None:
    """Raise a `UserError`, on every rank, that names the first entry of `said` in which ranks differ."""
    everywhere = gather(said)
    for number, other in enumerate(everywhere):
        for name, value in everywhere[0].items():
            if other[name] != value:
                raise UserError(f"processes that disagree: {name} is {value} on rank 0, but {other[name]} on rank "
                                f"{number}", "the same flags and the same data set everywhere",
                                "start all processes with the same command and the same pictures")
