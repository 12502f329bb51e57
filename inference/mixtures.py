"""Which artist each part of a picture is taken for: overlapping tiles, answered one by one."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from timm.data.transforms import str_to_pil_interp

from data.transforms import cut_extremes
from inference.predictor import Predictor
from utils import UserError

# Tiles per short side without overlap. Training's random crops show parts down to a quarter of the area, so this is the
# smallest part that networks know; see BENCHMARKS.md.
PARTS = 2
MOST = 16  # tiles that the network sees at once


def answer_tiles(predictor: Predictor, picture: Image.Image) -> torch.Tensor:
    """The probabilities of the cells of `picture`: (rows, columns, classes) float32, means over the tiles there.

    A cell is half as wide as a tile, and lies in up to four. Of a strip only the middle is divided, see `cut_extremes`.

    Raises:
        UserError: `picture` has a side shorter than the network's input.
    """
    side = predictor.preprocessing.input_size
    if min(picture.size) < side:
        raise UserError(f"a picture of {picture.width}x{picture.height} px, smaller than a tile of {side} px",
                        "a larger one", "for this one leave --explain-grid away: it has a map without")
    picture = cut_extremes(picture)
    scale = PARTS * side / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    pixels = np.asarray(picture.resize(size, str_to_pil_interp(predictor.preprocessing.interpolation)))
    lefts, tops = (_starts(length, side) for length in size)
    tiles = [pixels[top:top + side, left:left + side] for top in tops for left in lefts]
    logits = torch.cat([predictor.run(torch.from_numpy(np.stack(tiles[start:start + MOST])))[1]
                        for start in range(0, len(tiles), MOST)]).cpu()
    found = predictor.probabilities(logits).unflatten(0, (len(tops), len(lefts))).permute(2, 0, 1)
    return F.avg_pool2d(found, 2, 1, 1, count_include_pad=False).permute(1, 2, 0)


def _starts(length: int, side: int) -> list[int]:
    """Where tiles of `side` px begin that cover `length` px and overlap by half or more."""
    count = math.ceil((length - side) / (side / 2)) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()
