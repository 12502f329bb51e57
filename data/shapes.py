"""Oblong pictures made square or nearly so; however long a strip is, what it becomes stays small."""

from __future__ import annotations

from PIL import Image
from timm.data.transforms import str_to_pil_interp
from torchvision.transforms.functional import center_crop

WHITE = (255, 255, 255)  # paper, and what transparency is laid over
WIDEST = 4.0  # longest side / shortest side beyond which a picture is cut before it is enlarged


def cut_extremes(image: Image.Image) -> Image.Image:
    """Without the ends, where it is over `WIDEST` times longer than short: enlarged whole, it would fill the memory."""
    limit = int(WIDEST * min(image.size))
    if max(image.size) <= limit:
        return image
    return center_crop(image, [min(image.height, limit), min(image.width, limit)])


def pad_to_square(image: Image.Image, *, limit: int, interpolation: str) -> Image.Image:
    """All of it in the middle of a white square of its long side, or of `limit` px where that is longer."""
    side = min(max(image.size), limit)
    width, height = (max(1, round(length * side / max(image.size))) for length in image.size)
    square = Image.new("RGB", (side, side), WHITE)
    resized = image.resize((width, height), str_to_pil_interp(interpolation))
    square.paste(resized, ((side - width) // 2, (side - height) // 2))
    return square


def squash_to_square(image: Image.Image, *, limit: int, interpolation: str) -> Image.Image:
    """All of it stretched to a square of its long side, or of `limit` px where that is longer."""
    side = min(max(image.size), limit)
    return image.resize((side, side), str_to_pil_interp(interpolation))
