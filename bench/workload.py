"""The work that a benchmark times: inference or training steps of one network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from bench.formulations import FORMULATIONS, replace_ls_convolutions
from bench.networks import create_network
from runtime.folding import fold
from runtime.options import Workload
from runtime.placement import Placement, inductor_or_eager
from utils import UserError

PLAIN = "plain-"  # before a formulation: the whole network in PyTorch's own memory format (NCHW)
Step = Callable[[], None]


def prepare(name: str, workload: Workload, placement: Placement) -> tuple[nn.Module, Step]:
    """A network, and a function that runs it on one batch.

    Args:
        name: a preset or a timm model; a preset may have `:` and a formulation of SKA behind it. `@` and a mode (a
            precision or `compile`) replace those of `workload`, as in `lsnet_t:plain-unfold@bfloat16@compile`.
        workload: what the network does.
        placement: where.

    Raises:
        UserError: no such model, formulation or mode, or norms that do not fold.
    """
    name, *modes = name.split("@")
    for mode in modes:
        workload = _with_mode(workload, mode)
    preset, colon, formulation = name.partition(":")
    network = create_network(preset, workload.task, None, (workload.resolution, workload.resolution))
    if colon and not replace_ls_convolutions(network, formulation.removeprefix(PLAIN)):
        raise UserError(f"the unknown model {name}", f"a preset of LSNet before the colon, behind it one of "
                        f"{', '.join(FORMULATIONS)}", "correct --model")
    if workload.task != "classes":
        return network, _prepare_dense(network, workload, placement, plain=formulation.startswith(PLAIN))
    is_plain = formulation.startswith(PLAIN)
    if is_plain:
        network.get_submodule("patch_embed").register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())
        placement = dataclasses.replace(placement, memory_format=torch.contiguous_format)
    images = torch.randn(workload.pictures, 3, workload.resolution, workload.resolution)
    dtype = getattr(torch, workload.dtype)
    if workload.train:
        placement = dataclasses.replace(placement, amp=None if dtype == torch.float32 else dtype)
        network = placement.move_network(network.train())
        return network, _training(network, placement.move_images(images), placement, workload.compile)
    if workload.fuse:  # a plain network as timm alone folds it
        network = reparameterize_model(network.eval()) if is_plain else fold(network, images[:1])
    network = placement.move_network(network.eval()).to(dtype)
    run = _compile(network) if workload.compile else network
    return network, _inference(run, placement.move_images(images).to(dtype))


def _prepare_dense(network: Any, workload: Workload, placement: Placement, *, plain: bool) -> Step:
    """The step of a detector or segmenter; its weights stay in float32, and lower precisions are autocast's."""
    if workload.train or workload.compile or plain:
        raise UserError(f"--task {workload.task} with --train, compilation or {PLAIN}…", "inference as it is",
                        "leave one of them away")
    if workload.fuse:
        network.backbone.fold()
    dtype = getattr(torch, workload.dtype)
    placement = dataclasses.replace(placement, amp=None if dtype == torch.float32 else dtype)
    network = placement.move_network(network)
    images = placement.move_images(torch.rand(workload.pictures, 3, workload.resolution, workload.resolution))

    def step() -> None:
        with torch.inference_mode(), placement.autocast():
            network(images)

    return step


def _with_mode(workload: Workload, mode: str) -> Workload:
    if mode == "compile":
        return dataclasses.replace(workload, compile=True)
    if mode in ("float32", "bfloat16", "float16"):
        return dataclasses.replace(workload, dtype=mode)
    raise UserError(f"the mode @{mode}", "one of @float32, @bfloat16, @float16, @compile", "correct --model")


def _compile(network: nn.Module) -> Callable[..., Any]:
    # No graph breaks: a network that is partly eager is not comparable.
    return torch.compile(network, fullgraph=True, backend=inductor_or_eager)


def _inference(run: Callable[..., Any], images_BCHW: Tensor) -> Step:
    def step() -> None:
        with torch.inference_mode():
            run(images_BCHW)

    return step


def _training(network: nn.Module, images_BCHW: Tensor, placement: Placement, compiled: bool) -> Step:
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)  # as in the trainers
    run = _compile(network) if compiled else network

    def step() -> None:
        with placement.autocast():
            outputs = run(images_BCHW)
            heads = outputs if isinstance(outputs, tuple) else [outputs]
            losses = [logits.float().square().mean() for logits in heads]
        torch.autograd.backward(losses)
        optimizer.step()
        optimizer.zero_grad()

    return step
