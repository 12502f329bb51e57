"""Feature pyramids: the stages of a backbone, and the neck that gives each of them the same width.

Letters: B batch, C channels, H W height and width in px.

Keys of published checkpoints, which must keep their names: `lateral_convs`, `fpn_convs`, `extra_trans_convs`,
`extra_fpn_convs`, each of them with `conv`.

**Source:** Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017, arXiv 1612.03144; the levels beyond
the backbone's as in LSNet's published detectors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

import model  # noqa: F401 - registers the presets
from model.lsnet import LSNet
from runtime.networks import REFUSALS, check_name, is_lsnet, takes_input_size
from utils import UserError

TABLE_SIDE = 896  # px: the published detectors keep position biases for a grid of 14 x 14


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Mean and standard deviation of each channel, of values in [0, 1], by which a network normalises pictures."""

    mean: tuple[float, float, float] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, float, float] = IMAGENET_DEFAULT_STD

    @classmethod
    def of(cls, name: str) -> Colours:
        """Those that timm's weights of the model `name` are published for."""
        cfg = timm.get_pretrained_cfg(name)
        return cls(mean=tuple(cfg.mean), std=tuple(cfg.std)) if cfg else cls()  # type: ignore[arg-type]  # three channels


class OnPyramid:
    """What the loop asks of a network, of one that stands on a `PyramidBackbone`."""

    backbone: Any  # torchvision calls it a Module
    named_parameters: Any

    @property
    def head_hidden_size(self) -> int:
        """Channels of the pyramid."""
        return self.backbone.out_channels

    def no_weight_decay(self) -> set[str]:
        """Parameters without weight decay, besides biases and norms."""
        return {name for name, _ in self.named_parameters() if name.endswith("attention_biases")}


class Pyramid(nn.Module):
    """Levels of equal width from the stages of a backbone, finest first, without norms and activations.

    A level is the 3x3 convolution of its stage's 1x1 convolution, to which the next coarser sum is added, enlarged to
    the nearest pixel.

    Args:
        widths: channels of the stages, each half as high and wide as the one before.
        channels: of every level.
        finer: levels before the first stage's, each twice as high and wide, at most one.
        coarser: levels behind the last stage's, each half as high and wide.
    """

    def __init__(self, widths: Sequence[int], channels: int = 256, *, finer: int = 0, coarser: int = 0) -> None:
        super().__init__()
        behind = [widths[-1], *[channels] * coarser][:coarser]
        self.lateral_convs = nn.ModuleList(_named(nn.Conv2d(width, channels, 1)) for width in widths)
        self.fpn_convs = nn.ModuleList([*(_named(nn.Conv2d(channels, channels, 3, padding=1)) for _ in widths),
                                        *(_named(nn.Conv2d(width, channels, 3, 2, 1)) for width in behind)])
        self.extra_trans_convs = nn.ModuleList(
            _named(nn.ConvTranspose2d(channels, channels, 2, 2)) for _ in range(finer))
        self.extra_fpn_convs = nn.ModuleList(
            _named(nn.Conv2d(channels, channels, 3, padding=1)) for _ in range(finer))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.get_parameter("bias"))

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Stages (B, width, H, W), finest first -> levels (B, C, H, W), finest first."""
        sums = [lateral(stage) for lateral, stage in zip(self.lateral_convs, stages, strict=True)]
        for index in reversed(range(len(sums) - 1)):
            sums[index] = sums[index] + F.interpolate(sums[index + 1], size=sums[index].shape[2:], mode="nearest")
        levels = [conv(each) for conv, each in zip(self.fpn_convs, sums, strict=False)]
        coarsest = stages[-1]
        for conv in self.fpn_convs[len(sums):]:
            coarsest = conv(coarsest)
            levels.append(coarsest)
        finer = [conv(up(sums[0])) for up, conv in zip(self.extra_trans_convs, self.extra_fpn_convs, strict=True)]
        return [*finer, *levels]


def _named(conv: nn.Module) -> nn.Sequential:
    """`conv` under the name that published keys have."""
    return nn.Sequential(OrderedDict(conv=conv))


def create_features(name: str, **kwargs: Any) -> Any:
    """The model `name` of timm as a backbone, which returns the outputs of its stages; `kwargs` are its arguments.

    Raises:
        UserError: timm has no such model, or it takes pictures of one size only, or gives no stages.
    """
    check_name(name)
    if is_lsnet(name):
        kwargs = {"img_size": TABLE_SIDE, **kwargs}
    elif takes_input_size(name):
        raise UserError(f"{name}, which takes pictures of one size", "a backbone for pictures of any size",
                        "choose another --model, such as lsnet_t or resnet50")
    try:
        return timm.create_model(name, features_only=True, **kwargs)
    except REFUSALS as error:
        raise UserError(f"{name} as a backbone ({' '.join(str(error).split())[:200]})",
                        "a model of timm with features_only", "choose another --model") from error


def features_with(name: str, state: dict[str, Tensor]) -> Any:
    """`create_features` with the weights `state` of the whole model, head included."""
    return create_features(name, pretrained=True, pretrained_cfg_overlay={"state_dict": state})


class PyramidBackbone(nn.Module):
    """Any backbone of timm with `features_only`, and a `Pyramid` of levels from `finest` to `coarsest` px of stride.

    Attributes:
        name: timm's name of the backbone.
        strides: of the levels, in px.
        out_channels: width of every level, by torchvision's name.

    Args:
        name: timm's name of the backbone.
        channels: of every level.
        finest: stride of the first level, in px; stages of smaller ones are left out.
        coarsest: of the last, in px. Levels that the backbone does not have are made of its own. None: no such levels.
        kwargs: further arguments of the backbone.

    Raises:
        UserError: timm has no such model, it takes pictures of one size only, or its stages do not halve the picture
            one after another.
    """

    body: Any

    def __init__(self, name: str, channels: int = 256, *, finest: int = 4, coarsest: int | None = None,
                 **kwargs: Any) -> None:
        super().__init__()
        body = create_features(name, **kwargs)
        self.name, self.body, strides = name, body, body.feature_info.reduction()
        self._stages = [number for number, stride in enumerate(strides) if stride >= finest]
        first, count = (strides[self._stages[0]], len(self._stages)) if self._stages else (0, 0)
        if count < 2 or first not in (finest, 2 * finest) or strides[-count:] != [first << n for n in range(count)]:
            raise UserError(f"{name}, whose stages have strides of {', '.join(map(str, strides))} px",
                            f"stages that halve the picture one after another, from {finest} or {2 * finest} px on",
                            "choose another --model, such as lsnet_t or resnet50")
        last = max(coarsest or 0, strides[-1])
        first = finest if coarsest else first
        self.out_channels = channels
        self.strides = [first << number for number in range((last // first).bit_length())]
        finer = self.strides.index(strides[-count])
        coarser = len(self.strides) - finer - count
        self.neck = Pyramid(body.feature_info.channels()[-count:], channels, finer=finer, coarser=coarser)

    def fold(self) -> None:
        """Fold the norms and branches of an LSNet for inference, in place; other backbones stay as they are."""
        if isinstance(whole := getattr(self.body, "model", None), LSNet):
            self.body.model = whole.for_inference()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (B, 3, H, W) -> levels (B, C, H, W) by their number, finest first."""
        maps = self.body(images)
        levels = self.neck([maps[number] for number in self._stages])
        return {str(number): level for number, level in enumerate(levels)}
