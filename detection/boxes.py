"""Anchors, matching and RoI pooling as LSNet's published detectors have them, where torchvision's arithmetic differs.

Letters: N anchors or boxes, G boxes of the ground truth, C channels, H W height and width in px. Boxes are left, top,
right, bottom in px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_area, roi_align

RATIOS = (0.5, 1.0, 2.0)  # of height to width
CANONICAL = 56  # px: boxes of this size and up to its double are pooled from the finest level


class Anchors(AnchorGenerator):
    """Anchors of exact size at exact strides: torchvision rounds both. The first is centred on (0, 0).

    Args:
        strides: of the levels, in px.
        scales: side of the square anchor in strides.
    """

    def __init__(self, strides: Sequence[int], scales: Sequence[float]) -> None:
        sizes: Any = tuple(tuple(stride * scale for scale in scales) for stride in strides)  # typed as whole numbers
        super().__init__(sizes, (RATIOS,) * len(strides))
        self.strides = strides

    def generate_anchors(self, scales: Any, aspect_ratios: Any, dtype: torch.dtype = torch.float32,
                         device: torch.device | None = None) -> Tensor:
        """Anchors of one level around (0, 0), (ratios * scales, 4), scales innermost."""
        root = torch.tensor(aspect_ratios, dtype=torch.float64).sqrt()[:, None]
        sides = torch.tensor(scales, dtype=torch.float64)[None]
        half = torch.stack([(sides / root).flatten(), (sides * root).flatten()], 1) / 2
        return torch.cat([-half, half], 1).to(device, dtype)

    def forward(self, image_list: Any, feature_maps: list[Tensor]) -> list[Tensor]:
        """For each image of `image_list` the anchors of all levels, (N, 4) float32, pixels row by row."""
        levels = []
        for level, stride, cell in zip(feature_maps, self.strides, self.cell_anchors, strict=True):
            y, x = (torch.arange(side, device=level.device) * stride for side in level.shape[-2:])
            rows, columns = torch.meshgrid(y, x, indexing="ij")
            centres = torch.stack([columns, rows, columns, rows], -1).reshape(-1, 1, 4)
            levels.append((centres + cell.to(level.device)).flatten(0, 1))
        return [torch.cat(levels)] * len(image_list.image_sizes)


class IouMatcher(Matcher):
    """The box of the ground truth that each anchor or proposal is to find.

    It is the one of highest overlap, if that is `positive` or more, else none (-1) below `negative`, and ignored (-2)
    between the two. Then each box of the ground truth also gets the anchors that overlap it most, if that overlap is
    `least` or more: torchvision knows no such bound, and leaves anchors to the box that they overlap most themselves.
    """

    def __init__(self, positive: float, negative: float, least: float) -> None:
        super().__init__(positive, negative, allow_low_quality_matches=True)
        self.least = least

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        """Change `matches` (N,) in place by the overlaps (G, N); of several boxes, the last gets an anchor."""
        best = match_quality_matrix.amax(1, keepdim=True)
        is_best = (match_quality_matrix == best) & (best >= self.least) & (best > 0)
        numbers = torch.arange(len(best), device=matches.device)[:, None].expand_as(is_best)
        last = numbers.masked_fill(~is_best, -1).amax(0)
        matches[last >= 0] = last[last >= 0]


class LevelRoIAlign(nn.Module):
    """RoIAlign with half-pixel alignment, each box from the level of its size.

    Args:
        side: of the result, in px.
        strides: of the levels, in px; boxes are pooled from one of these.
    """

    def __init__(self, side: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.side, self.strides = side, strides

    def forward(self, features: Mapping[str, Tensor], boxes: Sequence[Tensor], image_shapes: Any = None) -> Tensor:
        """Levels by number, and boxes (N, 4) of each picture -> (sum of N, C, side, side); `image_shapes` is unused."""
        rows = torch.cat([torch.cat([each.new_full((len(each), 1), number), each], 1)
                          for number, each in enumerate(boxes)])
        level = (box_area(rows[:, 1:]).sqrt() / CANONICAL).log2().floor().clamp(0, len(self.strides) - 1)
        # In float32, because bfloat16 holds no half pixels.
        maps = [level.float() for level in list(features.values())[: len(self.strides)]]
        pooled = maps[0].new_zeros(len(rows), maps[0].shape[1], self.side, self.side)
        for number, (feature, stride) in enumerate(zip(maps, self.strides, strict=True)):
            chosen = (level == number).nonzero()[:, 0]
            found = roi_align(feature, rows[chosen], self.side, 1 / stride, 0, aligned=True)
            pooled = pooled.index_copy(0, chosen, found)
        return pooled
