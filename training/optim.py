"""What learns and how: frozen parts, learning rate, optimiser, schedule, clipping, moving average of the weights."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import model_parameters
from timm.optim import create_optimizer_v2, list_optimizers
from timm.scheduler import CosineLRScheduler, MultiStepLRScheduler, PolyLRScheduler
from timm.scheduler.scheduler import Scheduler
from timm.utils import ModelEmaV3
from timm.utils.agc import adaptive_clip_grad

from model.layers import NormLinear
from runtime.class_parallel import gradient_norm
from runtime.networks import classifier_names
from runtime.options import OptimizerOptions
from utils import UserError

STEPS, POWER = (8 / 12, 11 / 12), 0.9  # shares of the run after which the rate is a tenth; of a polynomial
REFERENCE = 512  # images per update for which --lr is meant
NORMS = torch.nn.modules.batchnorm._BatchNorm  # timm's norms with an activation are of this class, too


def set_training_mode(network: torch.nn.Module, *, frozen: bool, freeze_bn: bool = False,
                      train_mode: bool = True) -> None:
    """Let the whole `network` learn, or with `frozen` only its classifier.

    A frozen part keeps its weights and running statistics, and has no dropout.

    Args:
        network: any model.
        frozen: freeze all but the classifier.
        freeze_bn: batch norms use and keep their running statistics, while their weights learn; but for the norm of a
            classifier, which stays: it scales each block of features by so little that steps of its weights are large.
        train_mode: the rest is in training mode; else it has no dropout, and batch norms are frozen, too.
    """
    network.train(train_mode)
    for part in network.modules() if freeze_bn else ():
        if isinstance(part, NORMS):
            part.eval()
    heads = tuple(f"{name}." for name in classifier_names(network)) if frozen else ("",)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(heads))
    for part in network.modules() if freeze_bn else ():
        if isinstance(part, NormLinear):
            part.bn.requires_grad_(False)
    for name, part in network.named_modules() if frozen else ():
        if not any(f"{name}.".startswith(head) or head.startswith(f"{name}.") for head in heads) and name:
            part.eval()


def scale_lr(options: OptimizerOptions, per_update: int) -> float:
    """The learning rate for `per_update` images per update.

    `auto` scales linearly above 512 and not below: the linear rule is too slow for the small batches of one GPU.
    """
    ratio = per_update / REFERENCE
    return options.lr * {"linear": ratio, "sqrt": ratio**0.5, "none": 1.0, "auto": max(1.0, ratio)}[options.lr_scaling]


def make_optimizer(network: torch.nn.Module, options: OptimizerOptions, lr: float) -> torch.optim.Optimizer:
    """Timm's optimiser of that name, without weight decay on norms, biases and the network's `no_weight_decay`.

    With `--layer-decay` below 1, timm's groups by depth scale the rate of each layer.

    **Source:** Clark et al., "ELECTRA", ICLR 2020, arXiv 2003.10555, for rates that decay by layer.

    Raises:
        UserError: timm knows no such optimiser, or this machine cannot run it.
    """
    known = [str(name) for name in list_optimizers(exclude_filters=["adahessian"])]  # that one needs second derivatives
    if options.opt not in known:
        close = difflib.get_close_matches(options.opt, known) or ["adamw", "sgd", "lamb"]
        raise UserError(f"--opt {options.opt}", f"for example {', '.join(close)}", "choose a timm optimiser")
    # One pass over each tensor instead of eight: a fifth of a training step on the CPU.
    fused: dict[str, Any] = {"fused": True} if options.opt in ("adam", "adamw") else {}
    try:
        return create_optimizer_v2(network, opt=options.opt, lr=lr, weight_decay=options.weight_decay,
                                   layer_decay=options.layer_decay if options.layer_decay < 1 else None, **fused)
    except (AssertionError, ImportError) as error:
        raise UserError(f"--opt {options.opt} ({error})", "an optimiser that this machine can run",
                        "choose another, such as adamw") from error


def make_schedule(optimizer: torch.optim.Optimizer, options: OptimizerOptions, lr: float,
                  updates_per_epoch: int) -> Scheduler:
    """Linear warm-up to `lr`, then a cosine to `min_lr`, stepped per update; or a polynomial, or two steps.

    The warm-up takes at most a tenth of the run. `--warmup-lr` and `--min-lr` never exceed `lr` itself.
    """
    total = options.epochs * updates_per_epoch
    warmup = min(options.warmup_epochs * updates_per_epoch, total // 10)
    shared: dict[str, Any] = {"warmup_t": warmup, "warmup_lr_init": min(options.warmup_lr, lr), "warmup_prefix": True,
                              "t_in_epochs": False}
    schedule: str = options.sched
    if schedule == "step":
        ends = [round(share * total) - warmup + 1 for share in STEPS]
        return MultiStepLRScheduler(optimizer, decay_t=ends, decay_rate=0.1, **shared)
    length = max(2, total - warmup)  # of one update timm would say that the cosine has no effect
    shared |= {"t_initial": length, "lr_min": min(options.min_lr, lr)}
    if schedule == "poly":
        return PolyLRScheduler(optimizer, power=POWER, **shared)
    return CosineLRScheduler(optimizer, **shared)


def make_ema(network: torch.nn.Module, options: OptimizerOptions) -> ModelEmaV3 | None:
    """The moving average of weights and buffers, or None. Its decay warms up, which helps short runs."""
    return ModelEmaV3(network, decay=options.model_ema_decay, use_warmup=True) if options.model_ema else None


@dataclass(frozen=True)
class Clipping:
    """Clips gradients; `mode` and `limit` as --clip-mode and --clip-grad."""

    network: torch.nn.Module
    mode: str
    limit: float

    def __call__(self) -> torch.Tensor:
        """Clip in place; the norm before clipping, (), float."""
        norm = gradient_norm(self.network)
        if self.limit and self.mode == "norm":
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.limit, norm)
        elif self.limit and self.mode == "value":
            torch.nn.utils.clip_grad_value_(self.network.parameters(), self.limit)
        elif self.limit:
            adaptive_clip_grad(model_parameters(self.network, exclude_head=True), self.limit, norm_type=2.0)
        return norm
