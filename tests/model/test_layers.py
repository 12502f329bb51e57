"""Layers against torch's own operators, and each folded form against the form it stands for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model.layers import KEY_DIM, Attention, ConvNorm, NormLinear, RepDepthwise, Residual, resample_biases
from tests.model import golden
from utils import UserError


@pytest.mark.parametrize(
    ("layer", "shape", "leaf"),
    [
        (ConvNorm(4, 6), (2, 4, 5, 5), torch.nn.Conv2d),
        (ConvNorm(4, 8, 3, 2, groups=2), (2, 4, 5, 5), torch.nn.Conv2d),
        (NormLinear(7, 3), (4, 7), torch.nn.Linear),
        (RepDepthwise(6), (2, 6, 5, 4), torch.nn.Conv2d),
    ],
    ids=["pointwise", "strided", "linear", "depthwise"],
)
def test_fuse_equals_evaluation_and_draws_no_random_number(layer, shape, leaf):
    golden.fill(layer)
    x = torch.randn(shape, dtype=torch.float64)
    state = torch.get_rng_state()
    fused = layer.fuse()
    assert type(fused) is leaf
    torch.testing.assert_close(fused(x), layer(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_attention_equals_torch():
    dim, heads, n = 24, 2, 3
    attention = golden.fill(Attention(dim, heads, n))
    x = torch.randn(2, dim, n, n, dtype=torch.float64)
    q, k, v = attention.qkv(x).split([KEY_DIM * heads, KEY_DIM * heads, dim], dim=1)
    q, k, v = (part.flatten(2).unflatten(1, (heads, -1)).mT for part in (attention.dw(q), k, v))
    bias = attention.attention_biases[:, attention.attention_bias_idxs]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).mT.reshape(2, dim, n, n)
    torch.testing.assert_close(attention(x), attention.proj(expected))


@pytest.mark.parametrize("n", [1, 2, 4, 7])
def test_biases_are_numbered_by_first_appearance(n):
    numbers: dict[tuple[int, int], int] = {}
    pixels = [(row, column) for row in range(n) for column in range(n)]
    expected = [[numbers.setdefault((abs(a - c), abs(b - d)), len(numbers)) for c, d in pixels] for a, b in pixels]
    attention = Attention(16, 2, n)
    assert attention.attention_bias_idxs.tolist() == expected
    assert attention.attention_biases.shape == (2, len(numbers))


def test_resampling_keeps_what_is_linear_in_the_distances():
    def plane(n):
        rows, columns = torch.meshgrid(torch.linspace(0, 1, n), torch.linspace(0, 1, n), indexing="ij")
        return torch.stack((3 * rows - columns, columns + 2)).flatten(1).double()

    torch.testing.assert_close(resample_biases(plane(4), 7), plane(7), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(resample_biases(plane(7), 4), plane(4), atol=1e-6, rtol=1e-6)
    assert resample_biases(plane(4), 2).dtype == torch.float64


def test_attention_refuses_another_grid():
    attention = Attention(16, 2, 2)
    with pytest.raises(UserError, match=r"3 x 3 px.*expected 2 x 2.*65 to 128 px.*set_input_size"):
        attention(torch.zeros(1, 16, 3, 3))


@torch.no_grad()
def test_dynamic_attention_takes_any_map_with_biases_resized_as_a_picture():
    dim, heads, n, (height, width) = 24, 2, 4, (3, 7)
    strict, dynamic = Attention(dim, heads, n), golden.fill(Attention(dim, heads, n, dynamic=True))
    strict.double().eval().load_state_dict(dynamic.state_dict())
    x = torch.randn(2, dim, n, n, dtype=torch.float64)
    assert torch.equal(dynamic(x), strict(x))
    x = torch.randn(2, dim, height, width, dtype=torch.float64)
    q, k, v = dynamic.qkv(x).split([KEY_DIM * heads, KEY_DIM * heads, dim], dim=1)
    q, k, v = (part.flatten(2).unflatten(1, (heads, -1)).mT for part in (dynamic.dw(q), k, v))
    expanded = torch.stack([dynamic.attention_biases[:, row] for row in dynamic.attention_bias_idxs], 1)
    bias = F.interpolate(expanded[None], (height * width, height * width), mode="bicubic", align_corners=False)[0]
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).mT.reshape(2, dim, height, width)
    torch.testing.assert_close(dynamic(x), dynamic.proj(expected))


@torch.no_grad()
def test_dynamic_attention_takes_a_new_grid_as_a_picture():
    attention = golden.fill(Attention(16, 2, 4, dynamic=True))
    planes = attention.attention_biases.unflatten(1, (4, 4))[None].float()
    attention.set_grid(14)
    expected = F.interpolate(planes, (14, 14), mode="bicubic", align_corners=False)[0].flatten(1)
    torch.testing.assert_close(attention.attention_biases, expected.double())
    assert attention.attention_bias_idxs.shape == (196, 196)


def test_residual_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    residual = Residual(torch.nn.Identity(), drop_path=0.25).train()
    answers = residual(torch.ones(4000, 2, 3))
    assert answers.unique().tolist() == pytest.approx([1, 1 + 1 / 0.75])
    assert (answers.amax((1, 2)) == answers.amin((1, 2))).all()
    assert (answers == 1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert (residual.eval()(torch.ones(8, 2, 3)) == 2).all()
