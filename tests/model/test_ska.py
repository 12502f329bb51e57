"""SKA against its definition, its readable reference and the automatic differentiation of that."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from model import ska_eager
from model.ska import ska, ska_reference

SHAPES = [  # B, C, G, H, W, k
    (2, 16, 2, 5, 4, 3), (3, 8, 8, 1, 1, 3), (1, 24, 3, 2, 7, 5), (2, 8, 1, 6, 6, 1), (5, 32, 4, 14, 14, 3),
]  # fmt: skip
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: torch.stack((x, -x), -1)[..., 0],
}


def problem(B, C, G, H, W, k, dtype=torch.float64):
    generator = torch.Generator().manual_seed(C * H + k)
    x = torch.randn(B, C, H, W, generator=generator, dtype=torch.float64).to(dtype)
    w = torch.randn(B, G, k * k, H, W, generator=generator, dtype=torch.float64).to(dtype)
    return x, w


def gradients(function, x, w):
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = function(x, w)
    return y, *torch.autograd.grad((y * y.detach().cos()).sum(), (x, w))


def test_reference_is_the_definition():
    B, C, G, H, W, k = 2, 6, 3, 4, 3, 3
    x, w = problem(B, C, G, H, W, k)
    expected = torch.zeros_like(x)
    for b, c, h, v, t in itertools.product(range(B), range(C), range(H), range(W), range(k * k)):
        row, column = h + t // k - 1, v + t % k - 1
        if 0 <= row < H and 0 <= column < W:
            expected[b, c, h, v] += w[b, c % G, t, h, v] * x[b, c, row, column]
    torch.testing.assert_close(ska_reference(x, w), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [1, ska_eager.CHUNK])
def test_equals_reference_with_gradients(shape, layout, chunk, monkeypatch):
    monkeypatch.setattr(ska_eager, "CHUNK", chunk)
    x, w = problem(*shape)
    x, w = LAYOUTS[layout](x), LAYOUTS[layout](w.flatten(1, 2)).unflatten(1, w.shape[1:3])
    for found, expected in zip(gradients(ska, x, w), gradients(ska_reference, x, w), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("k", "layout"), [*((3, layout) for layout in LAYOUTS), (1, "strided"), (5, "channels-last")])
def test_gradcheck_to_second_order(k, layout):
    x, w = problem(1, 4, 2, 3, 4, k)
    x, w = LAYOUTS[layout](x).requires_grad_(), w.requires_grad_()
    assert gradcheck(ska, (x, w))
    assert gradgradcheck(ska, (x, w), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_memory_format_and_dtype_are_those_of_x(dtype):
    x, w = problem(3, 16, 2, 6, 5, 3, dtype)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        y, grad_x, grad_w = gradients(ska, x.contiguous(memory_format=memory_format), w)
        assert y.dtype == grad_x.dtype == grad_w.dtype == dtype
        assert y.is_contiguous(memory_format=memory_format)
        assert grad_x.is_contiguous(memory_format=memory_format)
    assert ska(x, w.double()).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_as_exact_as_plain_torch(dtype):
    x, w = problem(2, 64, 8, 9, 9, 3, dtype)
    exact = gradients(ska_reference, x.double(), w.double())
    plain, ours = gradients(ska_reference, x, w), gradients(ska, x, w)
    for truth, other, found in zip(exact, plain, ours, strict=True):
        assert (found.double() - truth).norm() <= 2 * (other.double() - truth).norm() + 1e-12


def test_compiles_into_plain_operations_without_a_break():
    x, w = problem(2, 16, 2, 5, 5, 3)
    compiled = torch.compile(ska, backend="aot_eager", fullgraph=True)
    for found, expected in zip(gradients(compiled, x, w), gradients(ska, x, w), strict=True):
        torch.testing.assert_close(found, expected)


class LargestResult(TorchDispatchMode):
    """Remembers the most elements that any operation under it returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


def test_memory_holds_neither_nine_copies_nor_nine_products():
    x, w = problem(4, 64, 8, 12, 12, 3)
    with LargestResult() as largest:
        ska_eager.gradients(ska_eager.aggregate(x, w), x, w)
    assert largest.elements < 2 * x.numel()
    with LargestResult() as unfolded:
        ska_reference(x, w)
    assert unfolded.elements >= 9 * x.numel()  # the same measure sees them where they are


def test_keeps_nothing_but_its_inputs_for_the_way_back():
    x, w = problem(4, 64, 8, 12, 12, 3)
    kept = []

    def keep(tensor):
        kept.append(tensor.data_ptr())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        ska(x.requires_grad_(), w.requires_grad_())
    assert sorted(kept) == sorted([x.data_ptr(), w.data_ptr()])


COMPILED = torch.compile(ska, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize(("function", "wide"), [
    (ska, torch.float32), (ska, torch.float64), (COMPILED, torch.float32),
    pytest.param(COMPILED, torch.float64, marks=pytest.mark.exhaustive)])
def test_autocast_takes_the_wider_weights_of_a_norm(function, wide):
    x, w = problem(2, 16, 2, 5, 4, 3)
    x, w = x.bfloat16(), w.to(wide)
    exact = gradients(ska_reference, x.double(), w.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = gradients(function, x, w)
    for one, truth, dtype in zip(found, exact, (x.dtype, x.dtype, wide), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one.double(), truth, rtol=0.03, atol=0.1)


def test_operators_are_whole():
    x, w = problem(2, 8, 2, 3, 4, 3)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
        w = w.detach().requires_grad_()
        torch.library.opcheck(torch.ops.lsnet.ska.default, (x, w))
        torch.library.opcheck(torch.ops.lsnet.ska_backward.default, (torch.randn_like(x).requires_grad_(), x, w))


@pytest.mark.parametrize("k", [1, 3, 5])
def test_flop_counter_sees_k_by_k_multiply_adds_for_each_output(k):
    x, w = problem(2, 16, 2, 5, 4, k)
    with FlopCounterMode(display=False) as counter:
        y = ska(x.requires_grad_(), w.requires_grad_())
    assert counter.get_total_flops() == 2 * k * k * y.numel()
    with FlopCounterMode(display=False) as counter:
        y.sum().backward()
    assert counter.get_total_flops() == 4 * k * k * y.numel()


def test_exported_program_is_plain_operations():
    class Aggregation(torch.nn.Module):
        def forward(self, x, w):
            return ska(x, w)

    x, w = problem(2, 16, 2, 5, 4, 3)
    program = torch.export.export(Aggregation(), (x, w))
    assert not any("lsnet" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x, w), ska(x, w))


def test_compiled_operator_is_one_node():
    x, w = problem(2, 16, 2, 5, 4, 3)  # what a compiler makes of ska on CUDA
    compiled = torch.compile(torch.ops.lsnet.ska, backend="aot_eager", fullgraph=True)
    for found, expected in zip(gradients(compiled, x, w), gradients(ska, x, w), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(2, 2, 8, 4, 4), (2, 2, 4, 4, 4), (2, 3, 9, 4, 4), (1, 2, 9, 4, 4), (2, 2, 9, 4, 5)])
def test_refuses_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="ska needs"):
        ska(torch.zeros(2, 8, 4, 4), torch.zeros(shape))


def test_kernels_serve_devices_that_run_them(monkeypatch):
    pytest.importorskip("triton", reason="comes with torch on Linux only")
    from model import ska_triton

    dispatch = sys.modules["model.ska"]
    capabilities = {torch.device("cuda", 0): (6, 1), torch.device("cuda", 1): (7, 0), torch.device("cuda", 2): (9, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", capabilities.get)
    assert [dispatch._on_cuda(device) for device in capabilities] == [ska_eager, ska_triton, ska_triton]
    monkeypatch.setattr(dispatch, "TRITON", False)
    assert dispatch._on_cuda(torch.device("cuda", 2)) is ska_eager
