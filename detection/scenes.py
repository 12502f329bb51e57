"""Pictures with what is to be found in them, and batches of such: nothing is stacked, as sizes differ.

Letters: H W height and width in px of the picture as the network sees it, N objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from runtime.networks import DenseTask

# Longer side to the shorter one, at most.
ELONGATED: dict[DenseTask, float] = {"boxes": 1333 / 800, "instances": 1333 / 800, "semantic": 4.0}
IGNORED = 255  # in a label map: pixels that neither train nor count
PADDING = (123, 116, 103)  # where a picture has no pixels: ImageNet's mean colour, of 255
Target = dict[str, Tensor]
SceneTransform = Callable[[Tensor, Target], tuple[Tensor, Target]]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How large the network sees a picture.

    Attributes:
        shortest: the shorter side becomes this long, px,
        longest: unless the longer would become longer than this, px.
        multiple: sides are then enlarged to a multiple of this, px,
        canvas: unless they are at most as long as this: the network pads those, px.
        scales: a factor between these is drawn each time, for augmentation.
    """

    shortest: int
    longest: int
    multiple: int = 1
    canvas: int = 0
    scales: tuple[float, float] = (1.0, 1.0)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width for a picture of this size."""
        factor = float(torch.empty(()).uniform_(*self.scales)) if self.scales[0] < self.scales[1] else self.scales[0]
        scale = factor * min(self.shortest / min(height, width), self.longest / max(height, width))
        new_height, new_width = (self._enlarge(max(1, int(side * scale + 0.5))) for side in (height, width))
        return new_height, new_width

    def _enlarge(self, side: int) -> int:
        return side if side <= self.canvas else -(-side // self.multiple) * self.multiple


def evaluation_fit(task: DenseTask, shortest: int, canvas: int = 0) -> Fit:
    """How large evaluation sees pictures whose shorter side becomes `shortest` px, as published; see `Fit`."""
    return Fit(shortest=shortest, longest=round(ELONGATED[task] * shortest), multiple=32 if task == "semantic" else 1,
               canvas=canvas)


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """A picture and its target.

    Attributes:
        image: (3, H, W) uint8.
        size: height and width of the picture on disk, px.
        target: of objects `boxes` (N, 4), left, top, right, bottom in px, `labels` (N,) int64 and `masks` (N, H, W)
            uint8, which may lack; of pixels `pixels` (H, W) uint8, with `IGNORED`.
    """

    image: Tensor
    size: tuple[int, int]
    target: Target = field(default_factory=dict)


class Scenes(list[Scene]):
    """A batch; what the loop does to a tensor of images, this takes, too."""

    def __getitem__(self, rows: Any) -> Any:
        """A scene by its number, or a batch of those whose numbers a tensor holds."""
        return Scenes(self[row] for row in rows.tolist()) if isinstance(rows, Tensor) else super().__getitem__(rows)

    def to(self, device: torch.device, *, non_blocking: bool = False, **_: Any) -> Scenes:
        """A copy on the device; formats of memory have no meaning for single pictures."""
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)
        return Scenes(Scene(image=move(scene.image), size=scene.size, target={
            name: move(value) for name, value in scene.target.items()}) for scene in self)


def no_change(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    """The transform of evaluation."""
    return image, target


def augment(steps: Sequence[Any]) -> SceneTransform:
    """`steps` of torchvision.transforms.v2, which move image, boxes, masks and label map together."""
    transform = v2.Compose(list(steps))

    def run(image: Tensor, target: Target) -> tuple[Tensor, Target]:
        wrapped: dict[str, Tensor] = dict(target)
        if "boxes" in target:
            wrapped["boxes"] = tv_tensors.BoundingBoxes(
                target["boxes"], format="XYXY", canvas_size=(image.shape[1], image.shape[2]))  # type: ignore[call-overload]
        for name in {"masks", "pixels"} & target.keys():
            wrapped[name] = tv_tensors.Mask(target[name])
        moved, wrapped = transform(tv_tensors.Image(image), wrapped)
        return moved.as_subclass(Tensor), {name: value.as_subclass(Tensor) for name, value in wrapped.items()}

    return run
