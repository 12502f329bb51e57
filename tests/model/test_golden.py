"""The published architecture: keys and shapes, and outputs under weights that follow from the keys."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor

import model  # noqa: F401 - registers the presets
from tests.model import golden

CASES = golden.cases()
NAMES = [f"{case['model']}-{case['kwargs'].get('feature_dim', 'plain')}" for case in CASES]


LARGE = ("lsnet_s", "lsnet_b_artist")  # the same code as the others', at several times the cost


@pytest.fixture(scope="module", ids=NAMES, params=[
    pytest.param(case, marks=pytest.mark.exhaustive if case["model"] in LARGE else ()) for case in CASES])
def filled(request):
    case = request.param
    return case, golden.fill(timm.create_model(case["model"], **case["kwargs"]))


def relative_error(y: Tensor, figures: list[list[float]]) -> float:
    expected = torch.tensor(figures, dtype=torch.float64)
    return float((y.double() - expected).norm() / expected.norm())


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance", "folded"), [
    (torch.float64, 1e-9, False), (torch.float32, 1e-5, True),
    pytest.param(torch.float64, 1e-9, True, marks=pytest.mark.exhaustive),
    pytest.param(torch.float32, 1e-5, False, marks=pytest.mark.exhaustive)])
def test_outputs_equal_the_published(filled, dtype, tolerance, folded):
    case, network = filled
    network = (network.for_inference() if folded else copy.deepcopy(network)).to(dtype)
    final = network.forward_features(golden.pictures(case["input_size"]).to(dtype))
    answers = {"logits": network.forward_head(final)}
    if "features" in case:
        answers["features"] = network.forward_head(final, pre_logits=True)
        assert answers["features"].shape[1] == case["features_dim"]
    for name, y in answers.items():
        assert relative_error(y[:, :8], case[name]) <= tolerance
        assert relative_error(y.norm(dim=1, keepdim=True), [[norm] for norm in case[f"{name}_norm"]]) <= tolerance


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_keys_and_shapes_equal_the_published(case):
    with torch.device("meta"):
        network = timm.create_model(case["model"], **case["kwargs"])
    assert sum(parameter.numel() for parameter in network.parameters()) == case["parameters"]
    expected = golden.shapes(case["model"], case["kwargs"])
    found = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    assert found == expected
    assert list(found) == list(expected)  # optimizers of older checkpoints count parameters in this order
