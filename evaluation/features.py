"""Features of a set of images, collected batch by batch."""

from __future__ import annotations

import numpy as np
import torch

from runtime.processes import gather


class FeatureMeter:
    """Collects the features and targets of an evaluation by `WithFeatures`; see `Meter`."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def update(self, number: int, outputs: tuple[torch.Tensor, torch.Tensor], targets: torch.Tensor) -> None:
        """Keep batch `number`: logits, which do not count, features (B, D), and `targets` (B, …)."""
        self._parts[number] = outputs[1].float().cpu().numpy(), targets.cpu().numpy()

    def result(self) -> dict[str, float]:
        """No figures."""
        return {}

    def collect(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, D) float32 and targets (N, …) of all ranks, in the order of the images; the same on every rank.

        They are empty where no image could be read.
        """
        parts = {number: part for held in gather(self._parts) for number, part in held.items()}
        if not parts:
            return np.empty((0, 0), np.float32), np.empty(0, np.int64)
        features, targets = (np.concatenate([parts[number][column] for number in sorted(parts)]) for column in (0, 1))
        return features, targets
