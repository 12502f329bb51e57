"""Class maps: how much each place of a picture adds to the logit of a class, or to its similarity to another picture.

A map is gradient times activation of all that the end of a network reads: its last map and, for style features, the
outputs of its middle stages. Means and standard deviations over the picture are homogeneous of degree one, so under a
linear classifier the maps add up to the logit without its bias, by Euler's theorem; for pooled features alone they are
class activation maps. Only the end of the network is differentiated.

**Source:** Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv 1512.04150 (class
activation maps); Shrikumar et al., "Not Just a Black Box", arXiv 1605.01713 (gradient times input).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from model.style_network import StyleNetwork
from runtime.networks import Maps, answer_maps, read_maps
from runtime.options import FeatureKind
from utils import UserError

Target = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # features (B, D), logits (B, classes) -> values (B, K)


def class_target(choose: Callable[[torch.Tensor], torch.Tensor], *, softmax: bool) -> Target:
    """The logits of the classes, (B, K) int64, that `choose` takes of logits (B, classes).

    With `softmax` they are less the mean of all logits, on which probabilities do not depend.
    """

    def target(features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return (logits - logits.mean(1, keepdim=True) if softmax else logits).gather(1, choose(logits))

    return target


def similarity_target(comparable: Callable[[torch.Tensor], torch.Tensor]) -> Target:
    """Of two pictures, how far each reaches in the other's direction, (2, 1), of what `comparable` makes of features.

    That is their cosine similarity times each one's length, so its maps are not empty where the pictures are equal.
    """

    def target(features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        vectors = comparable(features)
        return (vectors * F.normalize(vectors, dim=1).detach().flip(0)).sum(1, keepdim=True)

    return target


def explain(network: Any, images: torch.Tensor, target: Target,
            *kinds: FeatureKind) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps of what each place adds to the K values of `target`, (B, K, H, W) float32, and the logits (B, classes).

    The mean over a map is what all places add.

    Args:
        network: any timm model in evaluation, whose parameters need no gradient.
        images: (B, 3, S, S), as the network takes them.
        target: of features and logits, values (B, K), each of its own picture only.
        kinds: the features that `target` gets, side by side.

    Returns:
        maps on the finest grid that the end of the network reads, to which coarser ones are interpolated; and logits.

    Raises:
        UserError: the network's last map is none.
    """
    with torch.no_grad():
        read = read_maps(network, images, *kinds)
    with torch.enable_grad():
        leaves = [each.detach().clone().requires_grad_() for each in (read.last, *read.stages)]
        last, *stages = [leaf.clone() for leaf in leaves]  # what follows may change its input in place
        features, logits = answer_maps(network, Maps(last, stages), *kinds)
        values = target(features.float(), logits.float())
        slopes = [torch.autograd.grad(column.sum(), leaves, retain_graph=True, allow_unused=True)
                  for column in values.unbind(1)]
    layouts = [_layout(network)] + ["NCHW"] * len(stages)
    maps = [_add_up([_to_plane(network, leaf.detach() * slope, layout) for leaf, slope, layout
                     in zip(leaves, each, layouts, strict=True) if slope is not None]) for each in slopes]
    return torch.stack(maps, 1), logits.detach().float()


def check_maps(network: Any, size: int, source: object) -> None:
    """Raise a `UserError` about `source` unless `network` has class maps for inputs of `size` x `size` px."""
    weights = next(network.parameters())
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(weights)
    maps, _ = explain(network, noise, lambda features, logits: logits[:, :1])
    if not maps.any():
        raise UserError(f"{source}, whose classifier reads no place of the picture", "one that reads a mean over it",
                        "take a network with --head style, or one that pools by the mean")


def _layout(network: Any) -> str:
    """How the last map of `network` lies in memory, as timm says it."""
    backbone = network.backbone if isinstance(network, StyleNetwork) else network
    return getattr(backbone, "output_fmt", "NCHW")


def _to_plane(network: Any, products: torch.Tensor, layout: str) -> torch.Tensor:
    """Products of one leaf, summed over channels: (B, h, w) float32. Of tokens only those of places count."""
    if products.ndim == 4:
        return products.float().sum(3 if layout == "NHWC" else 1)
    backbone = network.backbone if isinstance(network, StyleNetwork) else network
    if products.ndim == 3:
        tokens = products[:, getattr(backbone, "num_prefix_tokens", 0):].float().sum(2)
        side = math.isqrt(tokens.shape[1])
        if side**2 == tokens.shape[1]:
            return tokens.unflatten(1, (side, side))
    raise UserError(f"class maps of {type(backbone).__name__}, whose last map has the shape {tuple(products.shape)}",
                    "one with height and width", "take another network, such as a convolutional one of timm")


def _add_up(planes: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of planes (B, h, w) on the grid of the finest, each scaled by its number of places."""
    size = tuple(max(plane.shape[axis] for plane in planes) for axis in (1, 2))
    return torch.stack([F.interpolate(plane[:, None] * plane[0].numel(), size, mode="bilinear", align_corners=False)
                        for plane in planes]).sum(0)[:, 0]
