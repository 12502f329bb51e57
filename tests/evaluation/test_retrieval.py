"""Retrieval beside an evaluation leaves that as it was, and is that of all pictures whatever the batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch

import model  # noqa: F401  (registers the presets)
from evaluation.classification import classification_evaluation
from evaluation.metrics import ClassificationMeter
from evaluation.retrieval import RetrievalMeter, add_retrieval
from runtime.networks import WithFeatures
from search.retrieval import retrieval_figures


@pytest.fixture(scope="module")
def evaluation() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features (40, 6), logits (40, 4) and targets of overlapping classes."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (40,), generator=generator)
    features = torch.eye(4, 6)[targets] + 0.4 * torch.randn(40, 6, generator=generator)
    return features, 3 * features[:, :4] + torch.randn(40, 4, generator=generator), targets


def counted(meter: object, outputs: object, targets: torch.Tensor) -> dict[str, float]:
    for number in (2, 0, 1):  # as ranks hand them in
        part = slice(16 * number, 16 * number + 16)
        meter.update(number, tuple(each[part] for each in outputs) if isinstance(outputs, tuple) else outputs[part],
                     targets[part])
    return meter.result()


def test_both_meters_say_what_each_says_alone(evaluation: tuple) -> None:
    features, logits, targets = evaluation
    figures = counted(RetrievalMeter(ClassificationMeter(4)), (logits, features), targets)
    assert figures == counted(ClassificationMeter(4), logits, targets) | retrieval_figures(
        features.numpy(), targets.numpy())


def test_the_examination_tells_both_and_reports_as_before(evaluation: tuple, tmp_path: Path) -> None:
    features, logits, targets = evaluation
    plain = classification_evaluation(list("abcd"), np.arange(1, 5))
    both = add_retrieval(plain)
    meter, alone = both.make_meter(), plain.make_meter()
    lines = both.format_line(counted(meter, (logits, features), targets)).splitlines()
    assert lines[0] == plain.format_line(counted(alone, logits, targets))
    assert lines[1].startswith("retrieval: recall@1 ")
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    both.write_report(tmp_path / "one", meter)
    plain.write_report(tmp_path / "other", alone)
    assert (tmp_path / "one" / "report.csv").read_text() == (tmp_path / "other" / "report.csv").read_text()


def test_artists_with_one_picture_each_end_no_run(evaluation: tuple) -> None:
    features, logits, _ = evaluation
    meter = RetrievalMeter(ClassificationMeter(4))
    meter.update(0, (logits[:4], features[:4]), torch.arange(4))
    assert "recall1" not in meter.result()
    assert add_retrieval(classification_evaluation(list("abcd"))).format_line(meter.result()).count("\n") == 0


def test_the_network_is_asked_for_both() -> None:
    network = timm.create_model("lsnet_t_artist", embed_dim=(16, 16, 24, 32), depth=(0, 1, 2, 2), num_heads=2,
                                img_size=64, num_classes=5).eval()
    images = torch.randn(2, 3, 64, 64)
    logits, features = WithFeatures(network)(images)
    torch.testing.assert_close(logits, network(images))
    torch.testing.assert_close(features, network.forward_head(network.forward_features(images), pre_logits=True))
