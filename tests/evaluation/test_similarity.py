"""Cosine similarity of features against NumPy, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evaluation.similarity import SimilarityMeter
from losses import feature_losses

BLOCKS = [3, 5]


def test_the_means_are_over_pictures_not_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, targets = (torch.randn(7, 8, generator=generator) for _ in range(2))
    whole, parts = SimilarityMeter(BLOCKS), SimilarityMeter(BLOCKS)
    whole.update(0, outputs, targets)
    for number, rows in enumerate(([0, 1, 2, 3], [4, 5, 6])):
        parts.update(1 - number, outputs[rows], targets[rows])
    figures = whole.result()
    assert figures == pytest.approx(parts.result())

    def cosine(columns: slice) -> float:
        a, b = outputs[:, columns].numpy().astype(float), targets[:, columns].numpy().astype(float)
        return float(np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)))

    assert figures["cosine"] == pytest.approx(cosine(slice(None)))
    assert figures["cosine_pooled"] == pytest.approx(cosine(slice(3, None)))
    assert figures["loss"] == pytest.approx(
        feature_losses(outputs, targets, BLOCKS).mean().item(), abs=1e-6)
