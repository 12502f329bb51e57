"""Pictures by several artists out of pictures by one each: strips side by side, or fading into each other.

python tests/composites.py FOLDER_OF_ARTISTS OUTPUT PICTURES SEED writes OUTPUT/0001.jpg, … and 0001.txt, … with the
shares of one to three artists, which are the areas of their strips. Give the train and the val side of a split one call
each, so that no picture has a part on both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.images import decode_image
from data.multilabel.grammar import format_labels
from tests.pictures import list_images

SIDE, FADE = 192, 0.3  # px; the share of the side over which one picture fades into the next


def strips(parts: list[np.ndarray], shares: np.ndarray, fade: float) -> np.ndarray:
    """The left of the first picture (S, S, 3), then of the next, …: each weighs as much as its share of the area."""
    place = (np.arange(len(parts[0])) + 0.5) / len(parts[0])
    edges = np.cumsum(shares)[:-1]
    begun = [np.ones_like(place), *(np.clip((place - edge) / fade + 0.5, 0, 1) for edge in edges), np.zeros_like(place)]
    return sum((here - after)[None, :, None] * part for here, after, part in zip(begun, begun[1:], parts, strict=False))


def main() -> None:
    """Write the composites."""
    source, output, count, seed = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    pictures = {folder.name: list_images(folder) for folder in sorted(source.iterdir()) if folder.is_dir()}
    output.mkdir(parents=True)
    for number in range(1, count + 1):
        rng = np.random.default_rng((seed, number))
        artists = rng.permutation(list(pictures))[:rng.integers(1, 4)].tolist()
        shares = np.round(0.2 + rng.dirichlet(np.ones(len(artists))) * (1 - 0.2 * len(artists)), 2)
        shares[-1] = round(1 - shares[:-1].sum(), 2)
        parts = [np.asarray(ImageOps.fit(decode_image(pictures[artist][rng.integers(len(pictures[artist]))]),
                                         (SIDE, SIDE)), float) for artist in artists]
        fade, turned = FADE if rng.integers(2) else 1e-9, bool(rng.integers(2))  # turned: one above the other
        blend = strips([part.swapaxes(0, 1) for part in parts] if turned else parts, shares, fade)
        blend = blend.swapaxes(0, 1) if turned else blend
        Image.fromarray(blend.round().astype(np.uint8)).save(output / f"{number:04}.jpg", quality=90)
        labels = format_labels(dict(zip(artists, shares.tolist(), strict=True)))
        (output / f"{number:04}.txt").write_text(labels + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
