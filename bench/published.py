"""Figures for ImageNet-1K as published by the authors of LSNet and of comparable networks."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Top-1 accuracy in %, and multiply-adds in G at the input size of that figure (224 px unless noted)."""

    top1: float
    multiply_adds: float


PUBLISHED = {
    # Wang et al., "LSNet: See Large, Focus Small", CVPR 2025, arXiv 2503.23135
    "lsnet_t": Published(74.9, 0.3),
    "lsnet_s": Published(77.8, 0.5),
    "lsnet_b": Published(80.3, 1.3),
    "lsnet_t_distill": Published(76.1, 0.3),
    "lsnet_s_distill": Published(79.0, 0.5),
    "lsnet_b_distill": Published(81.6, 1.3),
    # Yun and Ro, "SHViT", CVPR 2024, arXiv 2401.16456
    "shvit_s1": Published(72.8, 0.24),
    "shvit_s2": Published(75.2, 0.37),
    "shvit_s3": Published(77.4, 0.60),
    # Wang et al., "RepViT", CVPR 2024, arXiv 2307.09283; 300 epochs, distilled
    "repvit_m0_9": Published(78.7, 0.8),
    "repvit_m1_0": Published(80.0, 1.1),
    # Qin et al., "MobileNetV4", ECCV 2024, arXiv 2404.10518; medium: at 256 px
    "mobilenetv4_conv_small": Published(73.8, 0.2),
    "mobilenetv4_conv_medium": Published(79.9, 1.0),
    # torchvision's first weights of He et al., "Deep Residual Learning", CVPR 2016, arXiv 1512.03385
    "resnet18": Published(69.8, 1.8),
    "resnet50": Published(76.1, 4.1),
}
