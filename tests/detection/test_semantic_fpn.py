"""Semantic FPN against plain torch.nn.functional."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from detection import learner
from detection.architecture import dense_network
from detection.augmentation import random_crop
from detection.semantic_fpn import SemanticHead
from tests.model import golden


@torch.no_grad()
def test_head_equals_plain_functions():
    head = golden.fill(SemanticHead(16, 4, 5, 8))
    state = head.state_dict()
    levels = [torch.randn(2, 16, *size, dtype=torch.float64) for size in ((15, 20), (8, 10), (4, 5), (2, 3))]
    total = torch.zeros(2, 8, 15, 20, dtype=torch.float64)
    for level, (x, layers) in enumerate(zip(levels, ((0,), (0,), (0, 2), (0, 2, 4)), strict=True)):
        for layer in layers:
            key = f"scale_heads.{level}.{layer}"
            x = F.conv2d(x, state[f"{key}.conv.weight"], padding=1)
            x = F.relu(F.batch_norm(x, state[f"{key}.bn.running_mean"], state[f"{key}.bn.running_var"],
                                    state[f"{key}.bn.weight"], state[f"{key}.bn.bias"]))
            if level:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total += F.interpolate(x, (15, 20), mode="bilinear", align_corners=False)
    expected = F.conv2d(total, state["conv_seg.weight"], state["conv_seg.bias"])
    torch.testing.assert_close(head(levels), expected)


def test_answers_in_the_size_of_the_picture_and_learns_everywhere():
    torch.manual_seed(0)
    network = dense_network(dense_task="semantic", backbone="lsnet_t", num_classes=4, channels=16)
    answer = network(torch.randn(2, 3, 96, 150))
    assert answer.shape == (2, 4, 96, 150)
    F.cross_entropy(answer, torch.randint(0, 4, (2, 96, 150))).backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


@torch.no_grad()
def test_evaluation_pads_a_small_picture_as_training_does():
    network = golden.fill(dense_network(dense_task="semantic", backbone="lsnet_t", num_classes=4, channels=16, crop=96))
    image = torch.randint(256, (3, 64, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    padded, _ = random_crop(image, torch.zeros(64, 80, dtype=torch.uint8), 96, 1.0)
    expected = network.eval()(padded[None].double() / 255)[..., :64, :80]
    assert padded.shape == (3, 96, 96)
    torch.testing.assert_close(network(image[None].double() / 255), expected)
    large = torch.rand(1, 3, 96, 130, dtype=torch.float64)
    unpadded = golden.fill(dense_network(dense_task="semantic", backbone="lsnet_t", num_classes=4, channels=16)).eval()
    assert torch.equal(network(large), unpadded(large))


def test_dropout_takes_whole_channels_in_training_only():
    head = SemanticHead(16, 1, 2, 64)
    torch.nn.init.ones_(head.conv_seg.weight)
    levels = [torch.ones(1, 16, 3, 3)]
    assert not torch.equal(head(levels), head(levels))
    head.eval()
    assert torch.equal(head(levels), head(levels))


def test_classes_of_a_large_picture_are_named_a_few_at_a_time(monkeypatch):
    logits = torch.randn(1, 7, 5, 6, generator=torch.Generator().manual_seed(0))
    logits[:, 5] = logits[:, 2]  # of equals, the first is named
    expected = F.interpolate(logits, (20, 31), mode="bilinear", align_corners=False)[0].argmax(0)
    for most in (1, 2 * 20 * 31, 2**27):
        monkeypatch.setattr(learner, "MOST_LOGITS", most)
        assert torch.equal(learner.name_pixels(logits, (20, 31)), expected)
