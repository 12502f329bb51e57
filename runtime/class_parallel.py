"""A classifier whose rows, the classes, are divided among the ranks: its layer, loss, answers and stored form.

Shapes: N pictures of all ranks, B of one rank, C classes of all ranks, R of one rank, S of these that an update reads,
D features, K answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from runtime.networks import classifier_names
from runtime.processes import gather, rank, world_size
from utils import UserError

MAX, SUM = torch.distributed.ReduceOp.MAX, torch.distributed.ReduceOp.SUM


@dataclass(frozen=True)
class Division:
    """How `rows` are divided among `parts` ranks: consecutively, and as evenly as can be."""

    rows: int
    parts: int

    def part(self, number: int) -> slice:
        """The rows of rank `number`."""
        return slice(self.rows * number // self.parts, self.rows * (number + 1) // self.parts)

    def own(self, whole: Tensor) -> Tensor:
        """A copy of this rank's rows of `whole`, (rows, …)."""
        return whole[self.part(rank())].clone()

    def whole(self, own: Tensor) -> Tensor:
        """All rows, on the CPU, from every rank's `own`; complete on the first rank only. All ranks must call it."""
        if self.parts == 1:
            return own.detach().cpu()
        most = -(-self.rows // self.parts)
        padded = F.pad(own.detach().cpu(), (0, 0) * (own.ndim - 1) + (0, most - len(own)))
        found = [torch.empty_like(padded) for _ in range(self.parts)] if rank() == 0 else None
        torch.distributed.gather(padded.contiguous(), found)
        if found is None:
            return own
        sizes = (part.stop - part.start for part in map(self.part, range(self.parts)))
        return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])


class HeadInput:
    """What a divided classifier answers in evaluation: what it read; the meter asks all ranks, see `rank_answers`."""

    def __init__(self, features: Tensor) -> None:
        """Of `features` (B, D)."""
        self.features = features


class Sample(NamedTuple):
    """Which of a rank's rows an update reads; see `runtime/class_sampling.py`.

    Attributes:
        rows: their numbers among the rank's rows, (S,) int64, ascending.
        weights: how many classes each stands for, (S,): 1 if it is a label of the update.
        classes: the sum of the weights of all ranks, about C.
    """

    rows: Tensor
    weights: Tensor
    classes: float


class SampledLogits(NamedTuple):
    """Logits of the rows that an update reads, (N, S), and which these are."""

    logits: Tensor
    sample: Sample


class DividedLinear(nn.Module):
    """One rank's rows of a linear classifier.

    In training it reads the pictures of all ranks: (B, D) -> (N, R), in the order of ranks. In evaluation the ranks
    need not be in step, so it returns a `HeadInput`.

    Attributes:
        sample: which rows it holds at the moment; None for all.
    """

    sample: Sample | None = None

    def __init__(self, whole: nn.Linear) -> None:
        """Keep this rank's rows of `whole`."""
        super().__init__()
        self.division = Division(whole.out_features, world_size())
        self.weight = nn.Parameter(self.division.own(whole.weight.detach()))
        self.bias = None if whole.bias is None else nn.Parameter(self.division.own(whole.bias.detach()))

    def forward(self, features: Tensor) -> Tensor | SampledLogits | HeadInput:
        """See above."""
        if not self.training:
            return HeadInput(features)
        everywhere = features if world_size() == 1 else _GatherFeatures.apply(features)
        logits = F.linear(everywhere, self.weight, self.bias)
        return SampledLogits(logits, self.sample) if self.sample else logits


def divide_classifier(network: nn.Module) -> str:
    """Let each rank keep its rows of the classifier of `network`, in place; a line for the log.

    Raises:
        UserError: the classifier is not one linear layer, or has fewer rows than there are ranks.
    """
    names = classifier_names(network)
    found = network.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(found, nn.Linear):
        raise UserError(f"--head-parallel with {type(network).__name__}, whose classifier is not one linear layer",
                        "a network with one", "leave --head-parallel away, or take another --model")
    if found.out_features < world_size():
        raise UserError(f"--head-parallel with {found.out_features} classes on {world_size()} processes, of which one "
                        "would have none", "at least one class per process",
                        "start fewer processes, or leave --head-parallel away")
    head = DividedLinear(found)
    network.set_submodule(names[0], head)
    return (f"the classifier's {found.out_features:,} rows are divided among {world_size()} processes, "
            f"{len(head.weight):,} on the first")


def divided_classifier(network: nn.Module) -> DividedLinear | None:
    """The divided classifier of `network`; None where it is whole."""
    return next((part for part in network.modules() if isinstance(part, DividedLinear)), None)


def divided_names(network: nn.Module) -> list[str]:
    """Names of the parameters that are divided."""
    return [f"{name}.{leaf}" for name, part in network.named_modules() if isinstance(part, DividedLinear)
            for leaf, _ in part.named_parameters()]


# ---- training --------------------------------------------------------------------------------------------------------


class _GatherFeatures(torch.autograd.Function):
    """Features of all ranks, in the order of ranks: (B, D) -> (N, D).

    Every rank computes the same loss L of all N pictures from its own columns of the logits; ∂L/∂features is then the
    sum of what the ranks find. DistributedDataParallel takes the mean over n ranks of each rank's gradient, where the
    sum over the pictures of all ranks is wanted, so each rank's share is multiplied by n.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.rows = len(features)
        return gather_in_order(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].contiguous()
        reduce_in_place(gradient)
        return gradient[rank() * ctx.rows:][:ctx.rows] * world_size()


class _CrossEntropy(torch.autograd.Function):
    """Cross-entropy of logits divided by classes, with label smoothing; mean over N pictures, the same on every rank.

    With logits z, smoothing s and the label y, the target is q_c = (1 − s) [c = y] + s / C, which sums to 1, so

        loss = −Σ_c q_c log p_c = log Σ_c exp z_c − (1 − s) z_y − (s / C) Σ_c z_c   and   ∂loss/∂z_c = p_c − q_c.

    Of a `Sample`, each class c counts w_c times: log Σ w_c exp z_c in place of log Σ exp z_c, and a share s w_c / Σ w_c
    of the target in place of s / C. A label has the weight 1, so z_y is the same, and

        ∂loss/∂z_c = w_c exp z_c / Σ w exp z − (1 − s) [c = y] − s w_c / Σ w.

    Each sum over c is one over the rank's own columns and then over ranks. With the highest logit h of all ranks,
    log Σ exp z_c = h + log Σ exp(z_c − h), whose exponents do not overflow. Each rank's gradient is of its own columns.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, division: Division, sample: Sample | None,
                smoothing: float) -> Tensor:
        counted = logits if sample is None else logits + sample.weights.log()
        total, own = _total_and_own(counted, targets, division, sample)
        everywhere = logits.sum(1) if sample is None else logits @ sample.weights
        reduce_in_place(everywhere)
        spread = smoothing / (sample.classes if sample else division.rows)
        ctx.save_for_backward(counted, targets, total)
        ctx.division, ctx.sample, ctx.smoothing, ctx.spread = division, sample, smoothing, spread
        return (total - (1 - smoothing) * own - spread * everywhere).mean()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        counted, targets, total = ctx.saved_tensors
        difference = (counted - total[:, None]).exp()
        difference -= ctx.spread * ctx.sample.weights if ctx.sample else ctx.spread
        rows, columns = _labels_here(targets, ctx.division, ctx.sample)
        difference[rows, columns] -= 1 - ctx.smoothing
        return difference * (gradients[0] / len(counted)), None, None, None, None


class DividedLoss(nn.Module):
    """`ClassificationLoss` of logits whose classes are divided among ranks."""

    adjustment: Tensor | None

    def __init__(self, classes: int, smoothing: float = 0.0, adjustment: Tensor | None = None) -> None:
        """Of so many classes; `smoothing` and `adjustment` (C,) as of `ClassificationLoss`."""
        super().__init__()
        self.division, self.smoothing = Division(classes, world_size()), smoothing
        self.register_buffer("adjustment", None if adjustment is None else self.division.own(adjustment),
                             persistent=False)

    def forward(self, outputs: Tensor | SampledLogits, targets: Tensor, images: Tensor) -> Tensor:
        """Mean over all ranks, (), of this rank's columns (N, R) of the logits, against its own targets (B,) int64."""
        logits, sample = outputs if isinstance(outputs, SampledLogits) else (outputs, None)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if self.adjustment is not None:
            logits = logits + (self.adjustment[sample.rows] if sample else self.adjustment)
        loss: Any = _CrossEntropy.apply(logits, gather_in_order(targets), self.division, sample, self.smoothing)
        return loss


def gradient_norm(network: nn.Module) -> Tensor:
    """The norm, (), of the gradients of all parameters of `network`, those of all ranks' rows included."""
    head = divided_classifier(network)
    own = {id(parameter) for parameter in head.parameters()} if head else set()
    shared, divided = ([parameter.grad for parameter in network.parameters()
                        if parameter.grad is not None and (id(parameter) in own) is is_own] for is_own in (False, True))
    norm = nn.utils.get_total_norm(shared)
    if not divided:
        return norm.full_tensor() if isinstance(norm, DTensor) else norm
    square = nn.utils.get_total_norm(divided).square()
    reduce_in_place(square)
    return (norm.to(square.device).square() + square).sqrt()


# ---- evaluation ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What meters need of logits (B, C) that no rank holds whole.

    Attributes:
        ids: classes of the K highest logits, (B, K) int64, the highest first.
        logits: these logits, (B, K).
        own: the label's logit, (B,).
        total: logarithm of the sum of the exponentials of all logits, (B,).
    """

    ids: Tensor
    logits: Tensor
    own: Tensor
    total: Tensor


@torch.inference_mode()
def rank_answers(head: DividedLinear, features: Tensor, targets: Tensor, count: int) -> Ranked:
    """The `count` highest of this rank's pictures, from all ranks' rows; all ranks must call it, also without pictures.

    Each rank finds the highest among its own classes; only these are gathered.

    Args:
        head: the divided classifier.
        features: what it reads of this rank's pictures, (B, D); B may differ between ranks, and be 0.
        targets: their labels, (B,) int64.
        count: K, at most C.
    """
    device, pictures = head.weight.device, len(features)
    most = max(gather(pictures))
    filled = F.pad(features.reshape(pictures, head.weight.shape[1]).to(head.weight), (0, 0, 0, most - pictures))
    labels = gather_in_order(F.pad(targets.to(device), (0, most - pictures)))
    logits = F.linear(gather_in_order(filled), head.weight, head.bias).float()
    total, own = _total_and_own(logits, labels, head.division)
    highest, ids = logits.topk(min(count, logits.shape[1]))
    lacking = (0, count - highest.shape[1])
    candidates = [F.pad(highest, lacking, value=-torch.inf),
                  F.pad(ids + head.division.part(rank()).start, lacking).to(torch.int64)]
    here = slice(rank() * most, rank() * most + pictures)
    highest, ids = (torch.cat([rows[here] for rows in gather_in_order(part).split(len(part))], 1)
                    for part in candidates)
    chosen, places = highest.topk(count)
    return Ranked(ids=ids.gather(1, places), logits=chosen, own=own[here], total=total[here])


# ---- what both need --------------------------------------------------------------------------------------------------


def gather_in_order(tensor: Tensor) -> Tensor:
    """The rows of every rank's `tensor`, which are equally many, in the order of ranks, without gradients."""
    if world_size() == 1:
        return tensor
    parts = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(world_size())]
    torch.distributed.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)


def reduce_in_place(tensor: Tensor, operation: Any = SUM) -> None:
    """Make of every rank's `tensor` the sum, or the highest, of all ranks' ones."""
    if world_size() > 1:
        torch.distributed.all_reduce(tensor, operation)


def _labels_here(targets: Tensor, division: Division, sample: Sample | None) -> tuple[Tensor, Tensor]:
    """Rows and own columns of the pictures whose label is among this rank's classes."""
    part = division.part(rank())
    rows = ((targets >= part.start) & (targets < part.stop)).nonzero()[:, 0]
    places = targets[rows] - part.start
    return rows, torch.searchsorted(sample.rows, places) if sample else places


def _total_and_own(logits: Tensor, targets: Tensor, division: Division,
                   sample: Sample | None = None) -> tuple[Tensor, Tensor]:
    """Log Σ exp over the classes of all ranks, and the label's logit, both (N,), from this rank's columns (N, R)."""
    highest = logits.max(1).values if logits.shape[1] else logits.new_full((len(logits),), -torch.inf)
    reduce_in_place(highest, MAX)
    sums = torch.zeros(2, len(logits), dtype=logits.dtype, device=logits.device)
    sums[0] = (logits - highest[:, None]).exp().sum(1)
    rows, columns = _labels_here(targets, division, sample)
    sums[1, rows] = logits[rows, columns]
    reduce_in_place(sums)
    return highest + sums[0].log(), sums[1]
