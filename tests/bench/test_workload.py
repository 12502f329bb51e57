"""Steps do what the flags ask for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench import workload as module
from bench.formulations import FORMULATIONS, PlainLSConv
from bench.workload import prepare
from model.layers import LSConv
from model.lsnet import LSNet, Preset, register_presets
from model.ska import ska
from runtime.options import Workload
from runtime.placement import Placement
from utils import UserError

PLACEMENT = Placement.resolve("cpu")


def small(**settings) -> Workload:
    return Workload(**{"batch_size": 2, "resolution": 64, "device": "cpu", **settings})


def outputs(network: nn.Module, step) -> list[torch.Tensor]:
    found = []
    hook = network.register_forward_hook(lambda module, inputs, output: found.append(output))
    step()
    hook.remove()
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_inference(dtype: str) -> None:
    network, step = prepare("test_resnet", small(dtype=dtype), PLACEMENT)
    (y,) = outputs(network, step)
    assert (y.shape, y.dtype, y.is_inference(), network.training) == ((2, 1000), getattr(torch, dtype), True, False)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


def test_without_folding() -> None:
    network, _ = prepare("test_resnet", small(fuse=False), PLACEMENT)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())


@pytest.mark.parametrize(("name", "dtype"), [("test_resnet", "bfloat16"), ("lsnet_t_distill", "float32")])
def test_training(name: str, dtype: str) -> None:
    network, step = prepare(name, small(train=True, dtype=dtype), PLACEMENT)
    before = [parameter.clone() for parameter in network.parameters()]
    (y, *_) = outputs(network, step)
    assert (y[0] if isinstance(y, tuple) else y).dtype == getattr(torch, dtype)
    after = list(network.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert all(new.dtype == torch.float32 and new.grad is None for new in after)


@pytest.fixture(scope="module")
def tiny() -> str:
    """The name of a preset with a block of each kind."""
    register_presets(LSNet, {"lsnet_tiny": Preset((16, 16, 24, 32), (0, 2, 0, 1), 2, img_size=64)})
    return "lsnet_tiny"


def test_formulations_answer_alike(tiny: str) -> None:
    answers = []
    for name in (tiny, f"{tiny}:unfold", f"{tiny}:shifted", f"{tiny}:plain-unfold", f"{tiny}:plain-shifted"):
        torch.manual_seed(0)
        network, step = prepare(name, small(), PLACEMENT)
        assert {getattr(layer, "aggregate", ska) for layer in network.modules()
                if isinstance(layer, LSConv | PlainLSConv)} == {
            FORMULATIONS.get(name.rpartition(":")[2].removeprefix("plain-"), ska)}
        formats = set()
        network.blocks2[0].register_forward_hook(
            lambda _, inputs, output, formats=formats: formats.add(output.is_contiguous()))
        step()
        assert formats == {"plain" in name}
        answers += outputs(network, step)
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0])


def test_formulations_compile_with_nothing_of_ours(tiny: str) -> None:
    network, _ = prepare(f"{tiny}:plain-unfold@bfloat16", small(), PLACEMENT)
    graphs = []

    def remember(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(str(graph.code))
        return graph

    compiled = torch.compile(network, backend=remember, fullgraph=True)
    images = torch.randn(2, 3, 64, 64).bfloat16()
    with torch.inference_mode():
        torch.testing.assert_close(compiled(images), network(images))
    assert "group_norm" in graphs[0]
    assert "mkldnn" not in graphs[0]


@pytest.mark.parametrize("name", ["lsnet_t:plain-", "lsnet_t:", "test_resnet:unfold", "lsnet_q", ":unfold"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(UserError, match="the unknown model"):
        prepare(name, small(), PLACEMENT)


@pytest.mark.parametrize("train", [False, True])
def test_compiles_on_demand(monkeypatch: pytest.MonkeyPatch, train: bool) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda network, **how: compiled.append(network) or network)
    for demand in (False, True):
        network, step = prepare("test_resnet", small(train=train, compile=demand), PLACEMENT)
        step()
        assert compiled == [network] * demand


def test_pictures_per_batch() -> None:
    assert [Workload().pictures, Workload(latency=True).pictures] == [32, 1]
    assert Workload(latency=True, batch_size=8).pictures == 8


def test_a_name_sets_its_own_mode(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(module, "_compile", lambda network: compiled.append(type(network).__name__) or network)
    network, step = prepare(f"{tiny}:unfold@bfloat16", small(), PLACEMENT)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    step()
    assert not compiled
    prepare("test_resnet@compile", small(), PLACEMENT)[1]()
    assert compiled == ["ResNet"]
    with pytest.raises(UserError, match="the mode @int8"):
        prepare("lsnet_t@int8", small(), PLACEMENT)
