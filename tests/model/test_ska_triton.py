"""The kernels against the reference: in Triton's interpreter anywhere, compiled where Triton is, run on a CUDA device.

The interpreter takes the place of kernels when they are declared, if TRITON_INTERPRET is set then. So that one process
can hold both, the interpreted kernels are a second copy of the module, and the variable is set only while that loads;
`model.ska_triton` itself stays what it is on this machine.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from model.ska import ska, ska_reference

triton = pytest.importorskip("triton", reason="comes with torch on Linux only")

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [  # B, C, G, H, W, k: more rows, columns and groups than one program has, or fewer
    (1, 17, 17, 9, 9, 3), (2, 8, 2, 5, 4, 3), (1, 4, 2, 2, 9, 5), (3, 8, 1, 1, 1, 3), (2, 6, 3, 4, 4, 1),
]  # fmt: skip
LARGE = set(SHAPES[:4])  # the interpreter takes seconds for each; float32 covers them in the usual suite
LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels-last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "strided": lambda x: torch.stack((x, -x), -1)[..., 0],
    "transposed": lambda x: x.mT.contiguous().mT,
}


def load(name, path="model.ska_triton"):
    spec = importlib.util.find_spec(path)
    spec.name = spec.loader.name = name
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def interpreted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        return load("ska_triton_interpreted")


def problem(B, C, G, H, W, k, dtype, layout="contiguous", device="cpu"):
    """Pixels, weights and a gradient of the output."""
    generator = torch.Generator().manual_seed(C * H + k)
    x, g, w = (torch.randn(shape, generator=generator, dtype=torch.float64)
               for shape in ((B, C, H, W), (B, C, H, W), (B, G * k * k, H, W)))
    x, g, w = (LAYOUTS[layout](tensor.to(device, dtype)) for tensor in (x, g, w))
    return x, w.unflatten(1, (G, k * k)), g


def plain(x, w, g):
    """Result and gradients of the reference."""
    x, w = x.detach().requires_grad_(), w.detach().requires_grad_()
    y = ska_reference(x, w)
    return y, *torch.autograd.grad(y, (x, w), g)


def kernels(module, x, w, g):
    return module.aggregate(x, w), *module.gradients(g, x, w)


def assert_as_exact_as_plain(found, x, w, g):
    """At most twice the error of plain PyTorch in the same data type, both against float64."""
    exact = plain(x.double(), w.double(), g.double())
    for one, other, truth in zip(found, plain(x, w, g), exact, strict=True):
        assert one.dtype == other.dtype
        assert (one.double() - truth).norm() <= 2 * (other.double() - truth).norm() + 1e-6 * truth.norm()


@pytest.mark.parametrize(("dtype", "shape"), [*((torch.float32, shape) for shape in SHAPES), *(
    pytest.param(torch.float16, shape, marks=pytest.mark.exhaustive if shape in LARGE else ()) for shape in SHAPES)])
def test_as_exact_as_plain_torch(shape, dtype, interpreted):
    x, w, g = problem(*shape, dtype)
    assert_as_exact_as_plain(kernels(interpreted, x, w, g), x, w, g)


@pytest.mark.parametrize("shape", SHAPES)
def test_naive_kernels_to_be_timed_beside_ours_are_right(shape, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x, w, g = problem(*shape, torch.float32)
    assert_as_exact_as_plain(kernels(load("ska_naive_interpreted", "tests.model.ska_naive"), x, w, g), x, w, g)


@pytest.mark.parametrize("shape", [
    pytest.param(shape, marks=pytest.mark.exhaustive if shape in LARGE else ()) for shape in SHAPES])
def test_bfloat16_loses_nothing_but_the_last_bit(shape, interpreted):
    x, w, g = problem(*shape, torch.bfloat16)
    exact = plain(x.double(), w.double(), g.double())
    for one, truth in zip(kernels(interpreted, x, w, g), exact, strict=True):
        assert one.dtype == torch.bfloat16
        # A device rounds the sum; the interpreter cuts it off, which is up to a whole unit in the last place.
        torch.testing.assert_close(one.double(), truth, rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize(("layout", "k"), [
    *((layout, 3) for layout in LAYOUTS if layout != "contiguous"),  # which the tests above are
    *(pytest.param(layout, 5, marks=pytest.mark.exhaustive) for layout in LAYOUTS)])
def test_reads_and_writes_any_memory_format(layout, k, interpreted):
    x, w, g = problem(2, 4, 2, 5, 6, k, torch.float64, layout)
    found = kernels(interpreted, x, w, g)
    for one, truth, like in zip(found, plain(x, w, g), (x, x, w), strict=True):
        assert one.stride() == torch.empty_like(like).stride()
        torch.testing.assert_close(one, truth)


def test_formats_may_differ_and_gradients_may_be_expanded(interpreted):
    x, w, _ = problem(2, 4, 2, 5, 6, 3, torch.float64, "channels-last")
    w, g = w.contiguous(), torch.ones((), dtype=x.dtype).expand_as(x)
    for one, truth in zip(kernels(interpreted, x, w, g), plain(x, w, g), strict=True):
        torch.testing.assert_close(one, truth)


def test_weights_of_another_type_are_read_as_they_are(interpreted):
    x, w, g = problem(2, 4, 2, 5, 6, 3, torch.float32)
    x, g = x.bfloat16(), g.bfloat16()
    y, grad_x, grad_w = kernels(interpreted, x, w, g)
    assert (y.dtype, grad_x.dtype, grad_w.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    exact = plain(x.double(), w.double(), g.double())
    torch.testing.assert_close(y, exact[0].bfloat16())
    torch.testing.assert_close(grad_x, exact[1].bfloat16())
    torch.testing.assert_close(grad_w, exact[2].float())


def test_large_tensors_are_addressed_with_64_bits(interpreted, monkeypatch):
    x, w, g = problem(2, 4, 2, 5, 6, 3, torch.float64)
    monkeypatch.setattr(interpreted, "WIDE", 1)  # as if these were
    for one, truth in zip(kernels(interpreted, x, w, g), plain(x, w, g), strict=True):
        torch.testing.assert_close(one, truth)


def test_nothing_from_nothing(interpreted):
    x, w, g = problem(0, 16, 2, 5, 6, 3, torch.float32)
    assert [one.shape for one in kernels(interpreted, x, w, g)] == [x.shape, x.shape, w.shape]


class Devices:
    """As much of a driver as compiling for compute capability 8.0 asks for."""

    def __getattr__(self, name):
        return lambda *_: 0

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", 80, 32)


@pytest.mark.parametrize(("layout", "width"), [("contiguous", 28), ("channels-last", 7)])
def test_every_tile_compiles_without_a_device(layout, width, monkeypatch):
    if torch.version.hip:
        pytest.skip("compiles for NVIDIA devices")
    module = load("ska_triton_compiled")
    compiled = []

    class Compiler:
        def __init__(self, tuner):
            self.tuner = tuner

        def __getitem__(self, grid):
            def launch(*arguments, **constants):
                for tile in self.tuner.early_config_prune(self.tuner.configs, {}, **constants):
                    assert grid(tile.kwargs)[0] > 0
                    compiled.append(self.tuner.fn.warmup(*arguments, grid=grid, **constants, **tile.all_kwargs()))
            return launch

    monkeypatch.setattr(triton.runtime.driver, "_active", Devices())
    for name in ("_aggregate_kernel", "_weight_gradient_kernel"):
        monkeypatch.setattr(module, name, Compiler(getattr(module, name)))
    kernels(module, *problem(2, 32, 16, width, width, 3, torch.bfloat16, layout))
    assert len(compiled) > 3
    assert all("cubin" in kernel.asm for kernel in compiled)


# ---- on a device: pytest -m gpu tests/model/test_ska_triton.py -------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [*SHAPES, (16, 128, 16, 28, 28, 3), (16, 256, 32, 7, 7, 3), (4, 24, 3, 33, 70, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_autotuned_kernels_are_as_exact_as_plain_torch(dtype, shape, layout):
    x, w, g = problem(*shape, dtype, layout, "cuda")
    y = ska(x.requires_grad_(), w.requires_grad_())
    assert_as_exact_as_plain((y, *torch.autograd.grad(y, (x, w), g)), x.detach(), w.detach(), g)


@pytest.mark.gpu
def test_differentiates_twice_on_a_device():
    x, w, _ = problem(2, 4, 2, 3, 4, 3, torch.float64, device="cuda")
    x, w = x.requires_grad_(), w.requires_grad_()
    assert torch.autograd.gradcheck(ska, (x, w))
    assert torch.autograd.gradgradcheck(ska, (x, w), fast_mode=True)


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels-last"])
def test_operators_are_whole_on_a_device(layout):
    x, w, g = problem(2, 16, 2, 7, 7, 3, torch.float32, layout, "cuda")
    x, w, g = x.requires_grad_(), w.requires_grad_(), g.requires_grad_()
    torch.library.opcheck(torch.ops.lsnet.ska.default, (x, w))
    torch.library.opcheck(torch.ops.lsnet.ska_backward.default, (g, x, w))
    with FlopCounterMode(display=False) as counter:
        ska(x, w)
    assert counter.get_total_flops() == 18 * x.numel()


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiles_on_a_device(mode):
    x, w, g = problem(8, 64, 8, 14, 14, 3, torch.bfloat16, device="cuda")
    x, w = x.requires_grad_(), w.requires_grad_()
    compiled = torch.compile(ska, fullgraph=True, mode=mode)
    for _ in range(3):  # CUDA graphs are recorded after a warm-up
        y = compiled(x, w)
        found = (y.detach().clone(), *(one.clone() for one in torch.autograd.grad(y, (x, w), g)))
    y = ska(x, w)
    for one, truth in zip(found, (y, *torch.autograd.grad(y, (x, w), g)), strict=True):
        torch.testing.assert_close(one, truth)


@pytest.mark.gpu
def test_trains_under_autocast_on_a_device():
    x, w, g = problem(8, 64, 8, 14, 14, 3, torch.float32, device="cuda")
    x = x.bfloat16()
    with torch.autocast("cuda", torch.bfloat16):
        y = ska(x.requires_grad_(), w.requires_grad_())
    grad_x, grad_w = torch.autograd.grad(y, (x, w), g.bfloat16())
    assert (y.dtype, grad_x.dtype, grad_w.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)


@pytest.mark.gpu
def test_a_sample_beyond_32_bits_on_a_device():
    if torch.cuda.get_device_properties(0).total_memory < 20 << 30:
        pytest.skip("needs 20 GiB of device memory")
    x = torch.ones(1, 2, 33000, 33000, dtype=torch.bfloat16, device="cuda")  # 2.2e9 elements
    y = ska(x, torch.ones((), dtype=x.dtype, device="cuda").expand(1, 1, 9, 33000, 33000))
    assert y[0, 1, -1, -1] == 4
    assert y[0, 1, -2, -2] == 9
