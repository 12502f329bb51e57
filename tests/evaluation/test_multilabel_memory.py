"""200,000 pictures x 20,000 labels as dense batches of scores: less than 2 GiB, and average precision within its bound.

The figures are printed: python -m pytest -m exhaustive -s tests/evaluation/test_multilabel_memory.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.multilabel import MultiLabelMeter
from utils import peak_memory

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES, LABELS, BATCH, SUBSET = 200_000, 20_000, 500, 50
SCRIPT = "from tests.evaluation.test_multilabel_memory import evaluate; evaluate()"


def evaluate() -> None:
    """Feed the meter; the first labels are judged by scikit-learn, too."""
    generator = torch.Generator().manual_seed(0)
    meter = MultiLabelMeter(range(LABELS), 0.4)
    kept = np.empty((PICTURES, SUBSET), np.float32), np.empty((PICTURES, SUBSET), bool)
    for number in range(PICTURES // BATCH):
        weights = torch.zeros(BATCH, LABELS)
        weights.scatter_(1, torch.randint(LABELS, (BATCH, 3), generator=generator), 1.0)
        logits = torch.randn(BATCH, LABELS, generator=generator).mul_(2).sub_(6).add_(weights, alpha=5)
        rows = slice(number * BATCH, (number + 1) * BATCH)
        kept[0][rows], kept[1][rows] = logits[:, :SUBSET], weights[:, :SUBSET] > 0
        meter.update(number, logits, weights)
    figures = meter.result()
    peak = peak_memory(torch.device("cpu")) / 2**30
    from sklearn.metrics import average_precision_score  # not before the peak was read
    exact = [average_precision_score(truth, scores) for scores, truth in zip(kept[0].T, kept[1].T, strict=True)]
    off, bound = np.abs(meter.ap[:SUBSET] - exact), meter.ap_error[:SUBSET]
    print(f"peak {peak:.2f} GiB; macro mAP {figures['macro_map']:.3f} ± {figures['macro_map_error']:.3f}, micro "
          f"{figures['micro_map']:.3f} ± {figures['micro_map_error']:.3f}; of {SUBSET} labels, off by at most "
          f"{100 * off.max():.4f} where {100 * bound[off.argmax()]:.4f} is allowed")
    assert peak < 2
    assert (off <= bound + 1e-12).all()
    assert 0 < figures["macro_map_error"] < 1


@pytest.mark.slow
@pytest.mark.exhaustive
def test_memory_does_not_grow_with_pictures_times_labels(capsys) -> None:
    pytest.importorskip("resource", reason="Windows does not tell the peak")
    # A process of its own: the peak is that of its whole life.
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=3600,
                          check=False)
    with capsys.disabled():
        print("\n" + done.stdout)
    assert done.returncode == 0, done.stderr
