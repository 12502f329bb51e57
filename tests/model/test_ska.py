"""SKA against its definition, its readable reference and the automatic differentiation of that."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from model import ska as module
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
@pytest.mark.parametrize("chunk", [1, 1 << 17])
def test_equals_reference_with_gradients(shape, layout, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    x, w = problem(*shape)
    x, w = LAYOUTS[layout](x), LAYOUTS[layout](w.flatten(1, 2)).unflatten(1, w.shape[1:3])
    for found, expected in zip(gradients(ska, x, w), gradients(ska_reference, x, w), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("k", [1, 3, 5])
def test_gradcheck_to_second_order(k, layout):
    x, w = problem(2, 4, 2, 3, 4, k)
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
    x, w = x.requires_grad_(), w.requires_grad_()
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with LargestResult() as largest, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = ska(x, w)
        torch.autograd.grad(y.sum(), (x, w))
    assert largest.elements < 2 * x.numel()
    assert {tensor.data_ptr() for tensor in kept} == {x.data_ptr(), w.data_ptr()}
    with LargestResult() as unfolded:
        ska_reference(x, w)
    assert unfolded.elements >= 9 * x.numel()  # the same measure sees them where they are


@pytest.mark.parametrize("shape", [(2, 2, 8, 4, 4), (2, 2, 4, 4, 4), (2, 3, 9, 4, 4), (1, 2, 9, 4, 4), (2, 2, 9, 4, 5)])
def test_refuses_shapes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match="ska needs"):
        ska(torch.zeros(2, 8, 4, 4), torch.zeros(shape))
