"""Which parts of a network learn in an epoch."""

from __future__ import annotations

import torch

from runtime.networks import classifier_names

NORMS = torch.nn.modules.batchnorm._BatchNorm  # timm's norms with an activation are of this class, too


def set_training_mode(network: torch.nn.Module, *, frozen: bool, still: str = "nothing") -> None:
    """Let the whole of `network` learn; with `frozen` its classifier alone.

    A frozen part keeps its weights and its running statistics, and drops nothing.

    Args:
        network: any model.
        frozen: whether all but the classifier stays as it is.
        still: what learns in evaluation mode: `nothing`; `norms`, which then keep their running statistics; or
            `everything`, which then drops nothing, either.
    """
    network.train(still != "everything")
    for part in network.modules() if still == "norms" else ():
        if isinstance(part, NORMS):
            part.eval()
    heads = tuple(f"{name}." for name in classifier_names(network)) if frozen else ("",)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(heads))
    for name, part in network.named_modules() if frozen else ():
        if not any(f"{name}.".startswith(head) or head.startswith(f"{name}.") for head in heads) and name:
            part.eval()
