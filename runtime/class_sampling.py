"""Updates that read only part of the rows of a divided classifier: those of their labels, and others drawn at random.

Shapes: C classes of all ranks, S rows of this rank that an update reads.

Every update keeps the classes of its pictures, on all ranks, and each other class with the probability r. A class that
was drawn counts 1 / r times, so that the expectation of the sum in the softmax, Σ w_c exp z_c, is that over all
classes, and the network learns the probabilities that it would learn from all.

Rows that were not drawn stay as they are, and so do their moments: a row is decayed, by weight decay and by the
factors of its moments, once for each gradient that it has. If every update did it, a row drawn in every tenth one would
be decayed ten times as much beside its gradients, and each update would go through all rows. The optimiser's count of
updates is one for all rows, so that AdamW's first step of a row that is drawn late is up to √10 times the usual one.

**Source:** An et al., "Killing Two Birds with One Stone", CVPR 2022, arXiv 2203.15565 (the rows, and what becomes of
their moments); Jean et al., "On Using Very Large Target Vocabulary", ACL 2015, arXiv 1412.2007, section 3.1 (weights).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from runtime.class_parallel import DividedLinear, Division, Sample, divided_classifier, gather_in_order
from runtime.processes import rank


def draw_sample(division: Division, labels: Tensor, rate: float, seed: int) -> Sample:
    """One rank's part of a sample of classes, drawn alike on any number of ranks; all ranks must call it.

    Args:
        division: of the classes.
        labels: of this rank's pictures, (B,) int64, as many on every rank; the classes of all ranks' are in the sample.
        rate: the probability of every other class.
        seed: the same on every rank.
    """
    occurring = gather_in_order(labels).cpu()
    drawn = torch.rand(division.rows, generator=torch.Generator().manual_seed(seed)) < rate
    weights = drawn.double() / rate
    weights[occurring] = 1
    own = weights[division.part(rank())]
    rows = own.nonzero()[:, 0]
    return Sample(rows.to(labels.device), own[rows].to(labels.device), weights.sum().item())


class ClassSampling:
    """Draws the rows of each update; `with sampling.update(labels, seed):` is around the update."""

    def __init__(self, head: DividedLinear, optimizer: torch.optim.Optimizer, rate: float) -> None:
        """Of a classifier whose weights `optimizer` updates element by element; `rate` as of `draw_sample`."""
        self.head, self.optimizer, self.rate = head, optimizer, rate

    @contextlib.contextmanager
    def update(self, labels: Tensor, seed: int) -> Iterator[None]:
        """Until it ends, classifier and optimiser hold the drawn rows only; these then take their places again."""
        head = self.head
        whole = dict(head.named_parameters())
        sample = draw_sample(head.division, labels.to(head.weight.device), self.rate, seed)
        parts = {name: nn.Parameter(weight.detach()[sample.rows]) for name, weight in whole.items()}
        head.sample = sample._replace(weights=sample.weights.to(head.weight.dtype))
        for name, part in parts.items():
            self._replace(name, whole[name], part)
            moments = self.optimizer.state.get(whole[name], {})
            if moments:
                self.optimizer.state[part] = {key: value[sample.rows] if _is_moment(value, whole[name]) else value
                                              for key, value in moments.items()}
        try:
            yield
            for name, part in parts.items():
                whole[name].data[sample.rows] = part.detach()
                self._keep(whole[name], part, sample.rows)
        finally:
            head.sample = None
            for name, part in parts.items():
                self._replace(name, part, whole[name])
                self.optimizer.state.pop(part, None)

    def _replace(self, name: str, old: nn.Parameter, new: nn.Parameter) -> None:
        """Let the parameter `name` of the classifier be `new`, also for the optimiser."""
        setattr(self.head, name, new)
        for group in self.optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]

    def _keep(self, whole: nn.Parameter, part: nn.Parameter, rows: Tensor) -> None:
        """Take the moments of `part` over into those of `whole`."""
        kept = self.optimizer.state[whole]
        for key, value in self.optimizer.state[part].items():
            if not _is_moment(value, part):
                kept[key] = value
                continue
            if key not in kept:
                kept[key] = torch.zeros_like(whole, dtype=value.dtype)
            kept[key][rows] = value


def make_sampling(network: nn.Module, optimizer: torch.optim.Optimizer, rate: float) -> ClassSampling | None:
    """The `ClassSampling` of the divided classifier of `network`; None where that is whole, or every row is read."""
    head = divided_classifier(network)
    return ClassSampling(head, optimizer, rate) if head and rate < 1 else None


def _is_moment(value: object, weight: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == weight.shape
