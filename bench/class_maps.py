"""Whether class maps are true: collages of several artists, curves of deletion and insertion, weights at random."""

from __future__ import annotations

import copy
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data.images import decode_image
from data.transforms import fit_square
from evaluation.class_maps import class_target, explain
from inference.explanations import ClassMaps, write_explanations
from inference.mixtures import answer_tiles
from inference.predictor import Prediction, Predictor
from runtime.options import ExplainOptions, TrainedOptions

Kind = Literal["halves", "quarters", "inset"]
CHANCE: dict[Kind, float] = {"halves": 1 / 2, "quarters": 1 / 4, "inset": 1 / 9}
BATCH = 24  # collages at once
STEPS = 10  # of a curve of deletion or insertion
RANDOM_GRID = 14  # places per side of a random map


@dataclass(frozen=True, kw_only=True)
class Collage:
    """A square of parts by different artists.

    Attributes:
        image: S x S px.
        artist: whose map is drawn, a class.
        boxes: the places that are compared, left, upper, right and lower edge in px.
        place: which of `boxes` is the artist's.
    """

    image: Image.Image
    artist: int
    boxes: list[tuple[int, int, int, int]]
    place: int


class Collages:
    """Makes collages of pictures, each part cut from the middle of what evaluation sees, at the same scale."""

    def __init__(self, predictor: Predictor, pictures: Mapping[int, Sequence[Path]]) -> None:
        """Take the pictures of each class, two classes or more (for quarters four)."""
        self.pictures, self.side, self.square = pictures, predictor.preprocessing.input_size, fit_square(
            predictor.preprocessing)

    def make(self, kind: Kind, count: int, seed: int) -> Iterator[Collage]:
        """`count` collages, always the same ones for one `seed`."""
        chance = random.Random(f"{kind} {seed}")
        for _ in range(count):
            boxes = self._boxes(kind, chance)
            place = chance.randrange(len(boxes))
            if kind == "inset":
                artist, other = chance.sample(sorted(self.pictures), 2)
                parts = {(0, 0, self.side, self.side): other, boxes[place]: artist}
            else:
                artists = chance.sample(sorted(self.pictures), len(boxes))
                artist, parts = artists[place], dict(zip(boxes, artists, strict=True))
            image = Image.new("RGB", (self.side, self.side))
            for box, whose in parts.items():
                image.paste(self._cut(chance.choice(self.pictures[whose]), box), box[:2])
            yield Collage(image=image, artist=artist, boxes=boxes, place=place)

    def _boxes(self, kind: Kind, chance: random.Random) -> list[tuple[int, int, int, int]]:
        columns, rows = {"halves": chance.choice([(2, 1), (1, 2)]), "quarters": (2, 2), "inset": (3, 3)}[kind]
        edges = [[round(self.side * place / parts) for place in range(parts + 1)] for parts in (columns, rows)]
        return [(edges[0][column], edges[1][row], edges[0][column + 1], edges[1][row + 1])
                for row in range(rows) for column in range(columns)]

    def _cut(self, path: Path, box: tuple[int, int, int, int]) -> Image.Image:
        width, height = box[2] - box[0], box[3] - box[1]
        left, top = (self.side - width) // 2, (self.side - height) // 2
        return self.square(decode_image(path)).crop((left, top, left + width, top + height))


def find_artists(predictor: Predictor, collages: Collages, kind: Kind, count: int, seed: int) -> float:
    """How often the mean of an artist's map is highest on the artist's own part of a collage, 0 to 1."""
    found, hits = list(collages.make(kind, count, seed)), 0
    for start in range(0, len(found), BATCH):
        batch = found[start:start + BATCH]
        ids = torch.tensor([[each.artist] for each in batch])
        maps = map_pictures(predictor, [each.image for each in batch], ids)
        maps = F.interpolate(maps, (collages.side, collages.side), mode="nearest")[:, 0]
        for each, plane in zip(batch, maps, strict=True):
            means = [float(plane[top:bottom, left:right].mean()) for left, top, right, bottom in each.boxes]
            hits += int(np.argmax(means)) == each.place
    return hits / len(found)


def map_pictures(predictor: Predictor, squares: Sequence[Image.Image], ids: torch.Tensor,
                 network: Any = None) -> torch.Tensor:
    """The maps (B, K, H, W), on the CPU, of classes `ids` (B, K) on squares as the network takes them."""
    pixels = torch.from_numpy(np.stack([np.asarray(each) for each in squares]))
    ids = ids.to(predictor.placement.device)
    target = class_target(lambda logits: ids, softmax=predictor.task != "multilabel")
    return explain(network or predictor.network, predictor.normalise(pixels), target)[0].cpu()


def name_parts(predictor: Predictor, pictures: Mapping[int, Sequence[Path]], count: int, seed: int) -> float:
    """How often a cell of --explain-grid names the artist of the part that it lies in, 0 to 1.

    The pictures are four whole ones in a square, each at the scale that the network was trained at.
    """
    side, chance, hits = predictor.preprocessing.input_size, random.Random(f"grid {seed}"), []
    square = fit_square(predictor.preprocessing)
    for _ in range(count):
        artists = chance.sample(sorted(pictures), 4)
        image = Image.new("RGB", (2 * side, 2 * side))
        for place, artist in enumerate(artists):
            image.paste(square(decode_image(chance.choice(pictures[artist]))), (place % 2 * side, place // 2 * side))
        cells = answer_tiles(predictor, image).argmax(2)
        rows, columns = (torch.arange(length) * 2 // length for length in cells.shape)
        truth = torch.tensor(artists)[2 * rows[:, None] + columns]
        hits.append(float((cells == truth).float().mean()))
    return float(np.mean(hits))


# ---- curves ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Means over pictures of the area under the probability of the first artist, 0 to 1, while places change.

    Attributes:
        deletion: the map's highest places are blurred first; lower is better.
        insertion: they are shown first on the blurred picture; higher is better.
        random_deletion: the same with a random map.
        random_insertion: likewise.
        correlation: mean correlation of the maps with those of a network whose weights are shuffled.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    correlation: float


def measure_curves(predictor: Predictor, paths: Sequence[Path], seed: int) -> Curves:
    """Curves and correlation over the pictures `paths`.

    **Source:** Petsiuk et al., "RISE", BMVC 2018, arXiv 1806.07421 (deletion and insertion); Adebayo et al., "Sanity
    Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292 (weights at random).
    """
    generator, square = torch.Generator().manual_seed(seed), fit_square(predictor.preprocessing)
    shuffled, figures = shuffle_weights(predictor.network, generator), []
    for path in paths:
        image = square(decode_image(path))
        pixels = torch.from_numpy(np.asarray(image).copy())[None]
        ids = predictor.run(pixels)[1].cpu().argmax(1, keepdim=True)
        plane, other = (map_pictures(predictor, [image], ids, network)[0, 0] for network in (None, shuffled))
        noise = torch.rand(RANDOM_GRID, RANDOM_GRID, generator=generator)
        curves = [area for each in (plane, noise) for area in _areas(predictor, pixels, each, int(ids))]
        centred = [each.flatten() - each.mean() for each in (plane, other)]
        figures.append([*curves, float(F.cosine_similarity(*centred, dim=0))])
    deletion, insertion, random_deletion, random_insertion, correlation = np.mean(figures, axis=0).tolist()
    return Curves(deletion=deletion, insertion=insertion, random_deletion=random_deletion,
                  random_insertion=random_insertion, correlation=correlation)


@torch.no_grad()
def shuffle_weights(network: Any, generator: torch.Generator) -> Any:
    """A copy of `network` in which the numbers of each tensor of weights are in another order."""
    other = copy.deepcopy(network)
    for weights in other.parameters():
        order = torch.randperm(weights.numel(), generator=generator).to(weights.device)
        weights.copy_(weights.flatten()[order].view_as(weights))
    return other


def _areas(predictor: Predictor, pixels: torch.Tensor, plane: torch.Tensor, number: int) -> tuple[float, float]:
    """Areas under both curves of one picture, (1, S, S, 3) uint8, for the map `plane` (H, W) of class `number`."""
    side = pixels.shape[1]
    image = pixels.permute(0, 3, 1, 2).float()
    blurred = F.interpolate(F.adaptive_avg_pool2d(image, 7), (side, side), mode="bilinear")
    # Ties, as in an area without a map, are broken by place and so deleted alike for all maps.
    ranks = F.interpolate(plane[None, None], (side, side), mode="bilinear")[0, 0].flatten().argsort(
        descending=True, stable=True).argsort().view(side, side)
    masks = torch.stack([ranks < side * side * step / STEPS for step in range(STEPS + 1)])[:, None]
    found = [predictor.probabilities(predictor.run(mixed.round().byte().permute(0, 2, 3, 1))[1])[:, number].cpu()
             for mixed in (torch.where(masks, blurred, image), torch.where(masks, image, blurred))]
    deletion, insertion = (float(torch.trapezoid(values) / STEPS) for values in found)
    return deletion, insertion


# ---- speed -----------------------------------------------------------------------------------------------------------


def measure_speed(predictor: Predictor, paths: Sequence[Path], options: TrainedOptions,
                  rounds: int) -> tuple[float, float]:
    """Pictures per second without and with a sheet of each: medians of turns, after a warm-up of both."""
    with tempfile.TemporaryDirectory() as folder:
        asked = ExplainOptions(explain=Path(folder))
        explainer = ClassMaps(predictor, asked, options)

        def run(chosen: Sequence[Path], *, sheets: bool) -> float:
            started = time.perf_counter()
            answers = list(predictor.predict(chosen, options))
            if sheets:
                answered = [(f"{number}", each.path, {}) for number, each in enumerate(answers)
                            if isinstance(each, Prediction)]
                write_explanations(explainer, answered, asked, predictor, len(answered))
            return len(chosen) / (time.perf_counter() - started)

        run(paths[:options.batch_size], sheets=True)
        rates = [(run(paths, sheets=False), run(paths, sheets=True)) for _ in range(rounds)]
    plain, mapped = zip(*rates, strict=True)
    return median(plain), median(mapped)


def few(pictures: Mapping[int, Sequence[Path]], count: int) -> list[Path]:
    """So many of all pictures, at equal distances."""
    every = [path for paths in pictures.values() for path in paths]
    return every[:: max(1, len(every) // count)][:count]


