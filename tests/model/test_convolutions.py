"""Convolutions against torch's own; those in oneDNN's order in step with their weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from model.convolutions import AVAILABLE, Convolution, DepthwisePointwise, Pointwise, absorb

SHAPES = {  # in, out, kernel, stride, groups
    "pointwise": (8, 12, 1, 1, 1), "full": (3, 16, 3, 2, 1), "depthwise": (16, 16, 7, 1, 16),
    "strided": (8, 8, 3, 2, 8),
}  # fmt: skip


class Names(TorchDispatchMode):
    """The operations that ran under it."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def by_onednn(function, *inputs):
    """What `function` returns, after making sure that oneDNN's operator computed it."""
    with Names() as names:
        y = function(*inputs)
    assert ("_convolution_pointwise" in names.seen) == AVAILABLE
    return y


def plain(function, *inputs):
    """The same, after making sure that it did not."""
    with Names() as names:
        y = function(*inputs)
    assert "_convolution_pointwise" not in names.seen
    return y


def problem(name="pointwise"):
    """A convolution, its pictures, and the answer."""
    torch.manual_seed(0)
    inside, outside, kernel, stride, groups = SHAPES[name]
    conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, groups=groups).requires_grad_(False)
    x = torch.randn(2, inside, 9, 9)
    return conv, x, conv(x)


@pytest.mark.parametrize("side", [1, 3])
def test_pointwise_equals_torch_with_gradients(side):
    torch.manual_seed(0)
    conv, x = Pointwise(8, 12, 1).double(), torch.randn(2, 8, side, side, dtype=torch.float64, requires_grad=True)
    with Names() as names:
        y = conv(x)
    assert ("convolution" in names.seen) == (side > 1)
    expected = nn.functional.conv2d(x, conv.weight, conv.bias)
    found, truth = ((answer, *torch.autograd.grad(answer.square().sum(), (x, conv.weight))) for answer in (y, expected))
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_depthwise_pointwise_equals_torch_with_gradients(memory_format, autocast):
    torch.manual_seed(0)
    conv = DepthwisePointwise(6, 6, 1, groups=6, bias=False).to(memory_format=memory_format)
    x = torch.randn(3, 6, 5, 4).to(memory_format=memory_format).requires_grad_()
    with torch.autocast("cpu", enabled=autocast):
        y = conv(x)
        expected = nn.functional.conv2d(x, conv.weight, groups=6)
    assert y.dtype == expected.dtype
    assert torch.equal(y, expected)
    found, truth = (torch.autograd.grad(answer.float().square().sum(), (x, conv.weight)) for answer in (y, expected))
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_torch(name, memory_format, relu):
    conv, x, y = problem(name)
    found = by_onednn(Convolution(conv, relu), x.contiguous(memory_format=memory_format))
    torch.testing.assert_close(found, y.relu() if relu else y)
    assert by_onednn(Convolution(conv, relu), x[:0]).shape == (0, *y.shape[1:])


@pytest.mark.parametrize("change", [
    lambda conv, other: conv.load_state_dict(other.state_dict()) and conv,
    lambda conv, other: conv.load_state_dict(other.state_dict(), assign=True) and conv,
    lambda conv, other: [conv.weight.copy_(other.weight), conv.bias.copy_(other.bias)] and conv,
    lambda conv, other: setattr(conv, "weight", other.weight) or setattr(conv, "bias", other.bias) or conv,
], ids=["loaded", "assigned", "in place", "replaced"])
def test_in_step_with_its_weights(change):
    conv, x, _ = problem()
    ours, other = Convolution(conv, relu=False), nn.Conv2d(8, 12, 1).requires_grad_(False)
    ours(x)
    torch.testing.assert_close(by_onednn(change(ours, other), x), other(x))


def test_copies_are_whole():
    conv, x, y = problem()
    ours = Convolution(conv, relu=True)
    twin = copy.deepcopy(ours)
    ours.weight.zero_()
    torch.testing.assert_close(by_onednn(twin, x), y.relu())


def test_other_types_and_devices():
    conv, x, y = problem()
    ours = Convolution(conv, relu=True)
    torch.testing.assert_close(ours.bfloat16()(x.bfloat16()).float(), y.relu(), rtol=0.02, atol=0.02)
    torch.testing.assert_close(ours.half()(x.half()).float(), y.relu(), rtol=0.02, atol=0.02)
    torch.testing.assert_close(plain(ours.double(), x.double()).float(), y.relu(), rtol=0.02, atol=0.02)
    assert plain(ours.to("meta"), x.to("meta").double()).shape == y.shape


def test_what_onednn_does_not_know_takes_the_plain_way():
    conv, x, y = problem()
    ours = Convolution(conv, relu=False)
    plain(ours, x.clone().requires_grad_()).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        assert plain(ours, x).dtype == torch.bfloat16
    weights = {"weight": 2 * conv.weight, "bias": 2 * conv.bias}
    torch.testing.assert_close(plain(torch.func.functional_call, ours, weights, (x,)), 2 * y)
    torch.testing.assert_close(by_onednn(ours, x), y)
    program = torch.export.export(ours, (x,))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)
    ours.requires_grad_(True)
    plain(ours, x).sum().backward()
    assert ours.weight.grad.any()


def test_made_in_inference_mode():
    with torch.inference_mode():
        conv, x, y = problem()
        torch.testing.assert_close(by_onednn(Convolution(conv, relu=False), x), y)


def test_compiles_whole_and_sees_loaded_weights():
    conv, x, y = problem()
    ours, other = Convolution(conv, relu=True), nn.Conv2d(8, 12, 1).requires_grad_(False)
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), y.relu())
    ours.load_state_dict(other.state_dict())
    torch.testing.assert_close(compiled(x), other(x).relu())


def test_absorbs_a_relu_right_behind():
    torch.manual_seed(0)
    network = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 8, 1), nn.Identity(), nn.ReLU(),
                            nn.Sequential(nn.Conv2d(8, 8, 3), nn.Sigmoid(), nn.ReLU())).requires_grad_(False)
    absorbed, x = copy.deepcopy(network), torch.randn(2, 3, 5, 5)
    absorb(absorbed)
    assert [type(module) for module in absorbed] == [nn.ReLU, Convolution, nn.Identity, nn.Identity, nn.Sequential]
    assert (absorbed[1].relu, absorbed[4][0].relu, type(absorbed[4][2])) == (True, False, nn.ReLU)
    torch.testing.assert_close(absorbed(x), network(x))
    assert absorbed.state_dict().keys() == network.state_dict().keys()
