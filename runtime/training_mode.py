"""Which parts of a network learn in an epoch."""

from __future__ import annotations

import torch

from runtime.networks import classifier_names


def set_training_mode(network: torch.nn.Module, *, frozen: bool) -> None:
    """Let the whole of `network` learn; with `frozen` its classifier alone.

    A frozen part keeps its weights and its running statistics, and drops nothing.
    """
    network.train()
    heads = tuple(f"{name}." for name in classifier_names(network)) if frozen else ("",)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(heads))
    for name, part in network.named_modules() if frozen else ():
        if not any(f"{name}.".startswith(head) or head.startswith(f"{name}.") for head in heads) and name:
            part.eval()
