"""What a benchmark times: inference or training steps of one network, ready to be called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.models import reparameterize_model
from torch import Tensor, nn

from model.layers import LSConv
from model.ska import ska_products, ska_reference
from runtime.arguments import flag
from runtime.folding import folded
from runtime.networks import describe
from runtime.placement import Placement
from utils import UserError

CLASSES = 1000
FORMULATIONS = {"unfold": ska_reference, "shifted": ska_products}  # of SKA in plain operations, to compare with
PLAIN = "plain-"  # before them: the whole network with its tensors in planes (NCHW), as PyTorch has them unasked
DTYPES = ("float32", "bfloat16", "float16")
Step = Callable[[], Any]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is timed."""

    batch_size: int | None = flag(None, "pictures per batch (default: 32, for --latency 1)", at_least=1)
    resolution: int = flag(224, "side of the square input, px", at_least=32)
    device: str = flag("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: Literal["float32", "bfloat16", "float16"] = flag(
        "float32", "precision of weights and pictures; with --train that of autocast")
    channels_last: bool | None = flag(None, "keep channels innermost in memory (default: on the CPU)")
    compile: bool = flag(False, "compile the networks (torch.compile)")
    fuse: bool = flag(True, "fold batch norms and parallel branches first, as inference does; never with --train")
    train: bool = flag(False, "time forward, backward and an AdamW step instead of inference")
    latency: bool = flag(False, "time single batches, and report milliseconds")
    rounds: int = flag(20, "turns of each network", at_least=1)
    seconds: float = flag(0.5, "least duration of a turn, s", above=0)

    @property
    def pictures(self) -> int:
        """Pictures per batch."""
        return self.batch_size or (1 if self.latency else 32)


def prepare(name: str, workload: Workload, placement: Placement) -> tuple[nn.Module, Step]:
    """The network of that name, and a function that lets it work on a batch once.

    A name is a model's, with `:` and a formulation of SKA behind it, and with `@` and a mode of its own (a precision,
    `compile`), as in `lsnet_t:plain-unfold@bfloat16@compile`.

    Raises:
        UserError: no such model, formulation or mode, or its norms do not fold.
    """
    name, *modes = name.split("@")
    workload = _in_modes(workload, modes)
    preset, colon, formulation = name.partition(":")
    network = describe(preset, CLASSES, input_size=workload.resolution).create()
    if colon:
        _reformulate(network, name, formulation.removeprefix(PLAIN))
    if formulation.startswith(PLAIN):
        network.patch_embed.register_forward_pre_hook(lambda _, inputs: inputs[0].contiguous())
        placement = dataclasses.replace(placement, memory_format=torch.contiguous_format)
    images = torch.randn(workload.pictures, 3, workload.resolution, workload.resolution)
    if workload.train:
        amp = None if workload.dtype == "float32" else getattr(torch, workload.dtype)
        placement = dataclasses.replace(placement, amp=amp)
        network = placement.network(network.train())
        return network, _training(network, placement.images(images), placement, workload.compile)
    if workload.fuse:  # the plain network as timm folds it, with nothing of ours
        plain = formulation.startswith(PLAIN)
        network = reparameterize_model(network.eval()) if plain else folded(network, images[:1])
    network = placement.network(network.eval())
    network, images = (value.to(getattr(torch, workload.dtype)) for value in (network, placement.images(images)))
    return network, _inference(_compiled(network) if workload.compile else network, images)


def _in_modes(workload: Workload, modes: list[str]) -> Workload:
    """`workload` in the precision, and compiled or not, that a name asks for on its own."""
    for mode in modes:
        if mode not in (*DTYPES, "compile"):
            raise UserError(f"the mode @{mode}", f"one of @{', @'.join((*DTYPES, 'compile'))}", "correct --model")
        workload = dataclasses.replace(workload, **({"compile": True} if mode == "compile" else {"dtype": mode}))
    return workload


def _reformulate(network: nn.Module, name: str, formulation: str) -> None:
    layers = [module for module in network.modules() if isinstance(module, LSConv)]
    if not layers or formulation not in FORMULATIONS:
        raise UserError(f"the unknown model {name}", f"a preset of LSNet before the colon, behind it one of "
                        f"{', '.join(FORMULATIONS)}", "correct --model")
    for layer in layers:
        layer.aggregate = FORMULATIONS[formulation]
        layer.lkp.in_loops = lambda _: False


def _compiled(network: nn.Module) -> nn.Module:
    return torch.compile(network, fullgraph=True)  # whole or not at all: what falls back to eager is no measurement


def _inference(network: nn.Module, images_BCHW: Tensor) -> Step:
    def step() -> None:
        with torch.inference_mode():
            network(images_BCHW)

    return step


def _training(network: nn.Module, images_BCHW: Tensor, placement: Placement, compiled: bool) -> Step:
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)  # as the trainers have it
    run = _compiled(network) if compiled else network

    def step() -> None:
        with placement.autocast():
            logits = run(images_BCHW)
            loss = sum(answer.float().square().mean() for answer in (logits if isinstance(logits, tuple) else [logits]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step
