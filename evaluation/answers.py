"""A network's answers to pictures by known and unknown artists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A network's answers to N pictures.

    Attributes:
        logits: (N, classes).
        targets: (N,) int64, the class of each picture's artist; -1 for an artist outside the classes.
        unknown: names of those artists.
        features: (N, D) float32; None where no score needs them.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    unknown: Sequence[str] = ()
    features: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Whether the most probable class is right, (N,) bool."""
        return (self.logits.argmax(1) == self.targets).numpy()

    def probabilities(self, temperature: float) -> np.ndarray:
        """The highest probability of each picture, (N,) float64."""
        return (self.logits.double() / temperature).softmax(1).amax(1).numpy()

    def known(self) -> Answers:
        """The answers to pictures by artists of the network."""
        return replace(self.without(np.array([-1])), unknown=())

    def without(self, classes: np.ndarray) -> Answers:
        """The answers to pictures by artists of other classes; the logits keep their columns."""
        kept = torch.from_numpy(~np.isin(self.targets.numpy(), classes))
        features = None if self.features is None else self.features[kept.numpy()]
        return replace(self, logits=self.logits[kept], targets=self.targets[kept], features=features)
