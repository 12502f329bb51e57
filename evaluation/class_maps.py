"""Class maps: how much each place of a picture adds to the logit of a class, or to its similarity to another picture.

A map is gradient times activation of all that the end of a network reads: its last map and, for style features, the
outputs of its middle stages. Means and standard deviations over the picture are homogeneous of degree one, so under a
linear classifier the maps add up to the logit without its bias, by Euler's theorem; for pooled features alone they are
class activation maps. Only the end of the network is differentiated.

Where the end reads fewer than `FEWEST` places per side, each of which has seen most of the picture, as in LSNet, or no
place at all, as of a class token, the maps are Grad-CAM's of the middle stages instead, and add up to nothing.

**Source:** Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, arXiv 1512.04150 (class
activation maps); Shrikumar et al., "Not Just a Black Box", arXiv 1605.01713 (gradient times input); Selvaraju et al.,
"Grad-CAM", ICCV 2017, arXiv 1610.02391.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from model.style_network import StyleNetwork, style_stages
from runtime.networks import Maps, answer_maps, read_maps
from runtime.options import FeatureKind
from utils import UserError

FEWEST = 7  # places per side that a map of 224 px has behind a stride of 32; chosen with the stages, see BENCHMARKS.md
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
        maps on the finest grid of those that are added up, to which coarser ones are interpolated; and logits.

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
    maps = torch.stack([_add_up([(leaf * slope).sum(1) for leaf, slope in _places(network, leaves, each, first=True)])
                        for each in slopes], 1)
    if (min(maps.shape[2:]) < FEWEST or not maps.any()) and hasattr(_backbone(network), "forward_intermediates"):
        maps = _explain_stages(network, images, target, *kinds)
    return maps, logits.detach().float()


def _explain_stages(network: Any, images: torch.Tensor, target: Target, *kinds: FeatureKind) -> torch.Tensor:
    """Grad-CAM of the stages of `style_stages`, added up: (B, K, H, W) float32."""
    with _keep_stages(_backbone(network)) as stages, torch.enable_grad():
        features, logits = answer_maps(network, read_maps(network, images, *kinds), *kinds)
        values = target(features.float(), logits.float())
    slopes = [torch.autograd.grad(column.sum(), stages, retain_graph=True) for column in values.unbind(1)]
    return torch.stack([_add_up([(stage * slope.mean((2, 3), keepdim=True)).sum(1) for stage, slope
                                 in _places(network, stages, each, first=False)]) for each in slopes], 1)


@contextlib.contextmanager
def _keep_stages(backbone: Any) -> Iterator[list[torch.Tensor]]:
    """The outputs of the stages of `style_stages`, as they come, in a list; the first is where differentiation ends.

    Only what this thread runs is kept: others may run the same network meanwhile.
    """
    kept: list[torch.Tensor] = []
    own = threading.get_ident()

    def keep(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if threading.get_ident() != own:
            return output
        kept.append(output if output.requires_grad else output.detach().requires_grad_())
        return kept[-1].clone()  # what follows may change its input in place

    names = [backbone.feature_info[stage]["module"] for stage in style_stages(backbone)]
    with contextlib.ExitStack() as hooks:
        for name in names:
            hooks.callback(backbone.get_submodule(name).register_forward_hook(keep).remove)
        yield kept


def check_maps(network: Any, size: int, source: object) -> None:
    """Raise a `UserError` about `source` unless `network` has class maps for inputs of `size` x `size` px."""
    weights = next(network.parameters())
    noise = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(weights)
    maps, _ = explain(network, noise, lambda features, logits: logits[:, :1])
    if not maps.any():
        raise UserError(f"{source}, whose classifier reads no place of the picture", "one that reads a mean over it",
                        "take a network with --head style, or one that pools by the mean")


def _backbone(network: Any) -> Any:
    return network.backbone if isinstance(network, StyleNetwork) else network


def _places(network: Any, maps: Sequence[torch.Tensor], slopes: Sequence[torch.Tensor | None], *,
            first: bool) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Maps and their slopes, (B, C, h, w) float32, where there is a slope.

    `first`: of these, only the first map is laid out as the network does it, the others come from timm as NCHW.
    """
    layout = getattr(_backbone(network), "output_fmt", "NCHW")
    layouts = [layout if number == 0 or not first else "NCHW" for number in range(len(maps))]
    return [(_to_places(network, each.detach(), own), _to_places(network, slope, own))
            for each, slope, own in zip(maps, slopes, layouts, strict=True) if slope is not None]


def _to_places(network: Any, values: torch.Tensor, layout: str) -> torch.Tensor:
    """A map of any layout as (B, C, h, w) float32; of tokens only those of places count."""
    if values.ndim == 4:
        return (values.permute(0, 3, 1, 2) if layout == "NHWC" else values).float()
    backbone = _backbone(network)
    if values.ndim == 3:
        tokens = values[:, getattr(backbone, "num_prefix_tokens", 0):].float().transpose(1, 2)
        side = math.isqrt(tokens.shape[2])
        if side**2 == tokens.shape[2]:
            return tokens.unflatten(2, (side, side))
    raise UserError(f"class maps of {type(backbone).__name__}, whose last map has the shape {tuple(values.shape)}",
                    "one with height and width", "take another network, such as a convolutional one of timm")


def _add_up(planes: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of planes (B, h, w) on the grid of the finest, each scaled by its number of places."""
    size = tuple(max(plane.shape[axis] for plane in planes) for axis in (1, 2))
    return torch.stack([F.interpolate(plane[:, None] * plane[0].numel(), size, mode="bilinear", align_corners=False)
                        for plane in planes]).sum(0)[:, 0]
