"""Adversarial pictures: within epsilon, in range, and as harmful as they should be."""

from __future__ import annotations

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor

import model  # noqa: F401 - registers the presets
from evaluation.adversary import Adversary

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE, SHIFT = torch.tensor(STD).view(1, 3, 1, 1), torch.tensor(MEAN).view(1, 3, 1, 1)
SMALL = {"embed_dim": (16, 16, 24, 32), "depth": (0, 1, 2, 2), "num_heads": 2, "img_size": 32, "num_classes": 5}


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    network = timm.create_model("lsnet_t", **SMALL)
    network(torch.randn(16, 3, 32, 32))  # running statistics that are not those of a fresh norm
    torch.nn.init.normal_(network.head.l.weight)
    return network.eval().to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def pictures() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    bytes_ = torch.randint(0, 256, (6, 3, 32, 32), generator=generator)
    bytes_[0], bytes_[1] = 0, 255  # pixels that can move one way only
    images = (bytes_ / 255 - SHIFT) / SCALE
    return images.contiguous(memory_format=torch.channels_last), torch.arange(6) % 5


def attacked(network: torch.nn.Module, kind: str, epsilon: float, pictures: tuple[Tensor, Tensor]) -> Tensor:
    with torch.inference_mode():
        return Adversary(network, kind, epsilon=epsilon, mean=MEAN, std=STD)(*pictures)


@torch.no_grad()
def losses(network: torch.nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(network(images), targets, reduction="none")


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
@pytest.mark.parametrize("epsilon", [0.5, 4.0])
def test_the_change_stays_within_epsilon_and_the_range(network, pictures, kind: str, epsilon: float) -> None:
    before, after = (images * SCALE + SHIFT for images in (pictures[0], attacked(network, kind, epsilon, pictures)))
    change = (after - before).abs().amax() * 255
    assert 0.99 * epsilon < change < 1.001 * epsilon
    assert after.min() > -1e-6
    assert after.max() < 1 + 1e-6


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_an_epsilon_of_0_changes_nothing(network, pictures, kind: str) -> None:
    assert torch.equal(attacked(network, kind, 0, pictures), pictures[0])


@pytest.mark.parametrize("epsilon", [0.25, 2.0])
def test_pgd_harms_every_picture_at_least_as_much_as_fgsm(network, pictures, epsilon: float) -> None:
    targets = pictures[1]
    clean = losses(network, *pictures)
    fgsm, pgd = (losses(network, attacked(network, kind, epsilon, pictures), targets) for kind in ("fgsm", "pgd"))
    assert (pgd >= fgsm - 1e-5).all()
    assert pgd.mean() > fgsm.mean() > clean.mean()


def test_fgsm_is_one_step_along_the_sign_of_the_gradient(network, pictures) -> None:
    images, targets = pictures[0][2:], pictures[1][2:]
    x = images.clone().requires_grad_()
    F.cross_entropy(network(x), targets).backward()
    step = 2 / 255 / SCALE * x.grad.sign()
    free = ((images + step) * SCALE + SHIFT).clamp(0, 1)
    torch.testing.assert_close(attacked(network, "fgsm", 2, (images, targets)) * SCALE + SHIFT, free, atol=1e-6, rtol=0)
