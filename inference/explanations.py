"""Sheets and arrays that show which places of a picture speak for an artist, or for its nearest picture of a gallery.

Pictures are explained one by one, so neither memory nor maps depend on --batch-size.
"""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from data.images import ImageError, decode_image
from data.names import as_text, fit_file_name, nfc
from data.output_folder import output_lock
from data.transforms import Views, seen_box
from drawing.class_maps import SIDE, Box, draw_legend, lay_map, lay_mixture, shrink
from drawing.contact_sheet import Tile, contact_sheet
from drawing.palette import GROUPS, SMALL_GROUPS
from evaluation.class_maps import check_maps, class_target, explain, similarity_target
from inference.journal import Record
from inference.mixtures import answer_tiles
from inference.predictor import Lanes, Predictor
from runtime.options import ExplainOptions, InferenceOptions
from runtime.progress import progress
from search.gallery import GalleryOutline
from utils import EXIT_DONE, EXIT_PARTIAL, UserError, write_arrays

MEANING = "red: speaks for the artist more than the picture's mean; blue: less; pale: not seen by the network"
ALIKE = "red: alike, more than the picture's mean; blue: less; pale: not seen by the network"
FIRST = {"top1": 1, "top3": 3}
MOST_COLOURS = 8  # artists in a mixture that have a colour of their own


class Explanation(NamedTuple):
    """What is drawn and kept of one picture."""

    title: str
    tiles: list[Tile]
    arrays: dict[str, np.ndarray]
    problem: str = ""  # why a part is missing


Choose = Callable[[torch.Tensor], torch.Tensor]  # logits (B, classes) -> ids (B, K) int64
Explain = Callable[[Path, Record], Explanation]  # of a picture's file and record; raises `ImageError`


def write_explanations(explain_picture: Explain, answered: Iterable[tuple[str, Path, Record]], options: ExplainOptions,
                       predictor: Predictor, total: int) -> int:
    """Write the sheet of each answered picture, and its arrays where they are asked for; the exit code, 3 if some lack.

    Args:
        explain_picture: a `ClassMaps` or `NeighbourMaps`.
        answered: name, the "/"-separated path that the sheet gets below the folder of the sheets; file; and record.
        options: where to, and what.
        predictor: whose processor cores are used.
        total: number of pictures, for the bar.
    """
    folder = options.explain or Path()

    def write(item: tuple[str, Path, Record]) -> str:
        name, path, record = item
        try:
            found = explain_picture(path, record)
        except ImageError as error:
            return error.reason
        place = folder / Path(name).parent
        place.mkdir(parents=True, exist_ok=True)
        contact_sheet([("", found.tiles)], place / fit_file_name(Path(name).name, ".png", place), title=found.title,
                      columns=len(found.tiles), side=SIDE)
        if options.explain_arrays:
            write_arrays(place / fit_file_name(Path(name).name, ".npz", place), found.arrays)
        return found.problem

    with output_lock(folder), Lanes(predictor.placement.choose_lanes(batches=total)) as lanes:
        lacking = [(path, problem) for (_, path, _), problem in progress(lanes.map(write, answered), total) if problem]
    for path, problem in lacking:
        print(f"not explained: {as_text(str(path))} ({problem})", file=sys.stderr)
    print(f"sheets of class maps are in {folder}")
    return EXIT_PARTIAL if lacking else EXIT_DONE


def check_explained(predictor: Predictor) -> None:
    """Raise a `UserError` unless the network has maps, and torch to differentiate its end."""
    network = getattr(predictor, "network", None)  # an exported one is no module of torch
    if network is None:
        raise UserError(f"--explain with the exported network {predictor.source}", "one that torch runs",
                        "give the checkpoint that it was exported from")
    check_maps(network, predictor.preprocessing.input_size, predictor.source)


class FoundMaps(NamedTuple):
    """The maps of K artists of one picture.

    Attributes:
        ids: the artists' class ids.
        probabilities: (K,) float32, 0 to 1.
        planes: (K, H, W) float32.
        box: the part of the picture that they cover.
    """

    ids: list[int]
    probabilities: np.ndarray
    planes: np.ndarray
    box: Box


class ArtistMaps:
    """Maps of the artists that a network names, of one picture at a time; safe to ask from many threads."""

    def __init__(self, predictor: Predictor) -> None:
        """Take the network; raises a `UserError` if it has no class maps."""
        check_explained(predictor)
        self.predictor, self.views = predictor, Views(predictor.preprocessing, "default")
        self.classes = list(predictor.classes or ())

    def chooser(self, said: str, name: str = "--explain-artist") -> Choose:
        """Which artists are meant by what was said as `name`: top1, top3 or an artist's name.

        Raises:
            UserError: the network has no such artist.
        """
        if said in FIRST:
            count = min(FIRST[said], len(self.classes))
            return lambda logits: logits.topk(count, dim=1).indices
        names = [nfc(name) for name in self.classes]
        if nfc(said) not in names:
            close = difflib.get_close_matches(nfc(said), names, n=3) or names[:3]
            raise UserError(f"{name} {said}, whom the network does not know", "top1, top3 or one of "
                            f"{len(names)} names, such as {', '.join(close)}", "check the spelling")
        number = names.index(nfc(said))
        return lambda logits: torch.full((len(logits), 1), number, device=logits.device)

    def find(self, picture: Image.Image, choose: Choose) -> FoundMaps:
        """The maps of the artists that `choose` takes."""
        target = class_target(choose, softmax=self.predictor.task != "multilabel")
        maps, logits = explain(self.predictor.network, self.predictor.normalise(self.views(picture)), target)
        ids = choose(logits)[0].tolist()
        return FoundMaps(ids, self.predictor.probabilities(logits)[0, ids].cpu().numpy(), maps[0].cpu().numpy(),
                         seen_box(self.predictor.preprocessing, picture.size))


class ClassMaps:
    """Explains pictures by maps of the artists that the network names, or of one by name."""

    def __init__(self, predictor: Predictor, options: ExplainOptions, network: InferenceOptions) -> None:
        """Choose the artists.

        Raises:
            UserError: the network has no such artist, or no class maps.
        """
        self.maps, self.grid, self.max_pixels = ArtistMaps(predictor), options.explain_grid, network.max_pixels
        self.predictor, self.classes = predictor, self.maps.classes
        self.choose = self.maps.chooser(options.explain_artist or "top1")

    def __call__(self, path: Path, record: Record) -> Explanation:
        """See `Explain`."""
        picture = decode_image(path, max_pixels=self.max_pixels)
        ids, shares, planes, box = self.maps.find(picture, self.choose)
        artists, small = [self.classes[number] for number in ids], shrink(picture)
        tiles = [Tile(picture=small, file=path.name)]
        tiles += [Tile(picture=lay_map(small, plane, box, picture.size), file="", caption=f"{share:.0%} {artist}")
                  for plane, share, artist in zip(planes, shares.tolist(), artists, strict=True)]
        problem = ""
        if self.grid:
            try:
                tiles += self._mixture(picture, small)
            except UserError as error:
                problem = str(error)
        arrays = {"maps": planes, "artists": np.array(artists), "probabilities": shares, "box": np.array(box)}
        return Explanation(f"where the network sees whom; {MEANING}", tiles, arrays, problem)

    def _mixture(self, picture: Image.Image, small: Image.Image) -> list[Tile]:
        """The picture under the artist of each part, and the key of their colours."""
        shares, ids = answer_tiles(self.predictor, picture).max(2)
        sizes = Counter(ids.flatten().tolist()).most_common()
        ranks = {number: min(rank, MOST_COLOURS) for rank, (number, _) in enumerate(sizes)}
        colours = [*GROUPS[:MOST_COLOURS], SMALL_GROUPS]
        key = [(colours[rank], f"{size / ids.numel():.0%} {self.classes[number]}")
               for rank, (number, size) in enumerate(sizes[:MOST_COLOURS])]
        if more := sum(size for _, size in sizes[MOST_COLOURS:]):
            key.append((SMALL_GROUPS, f"{more / ids.numel():.0%} others"))
        laid = lay_mixture(small, np.vectorize(ranks.__getitem__)(ids.numpy()), shares.numpy(), colours)
        return [Tile(picture=laid, file="", caption="each part by itself; stronger: surer"),
                Tile(picture=draw_legend(key), file="", caption="share of the parts")]


class NeighbourMaps:
    """Explains pictures by what they have in common with the nearest of a gallery, drawn beside them."""

    def __init__(self, predictor: Predictor, gallery: GalleryOutline, images: Mapping[str, Path],
                 network: InferenceOptions) -> None:
        """Take the gallery, and the files of its pictures by their names in it.

        Raises:
            UserError: the network has no maps.
        """
        check_explained(predictor)
        self.predictor, self.images, self.max_pixels = predictor, images, network.max_pixels
        self.views = Views(predictor.preprocessing, "default")
        self.target = similarity_target(self._comparable(gallery))

    def _comparable(self, gallery: GalleryOutline) -> Callable[[torch.Tensor], torch.Tensor]:
        fitted, device = gallery.standardisation, self.predictor.placement.device
        if fitted is None:
            return lambda features: features
        mean, matrix = (torch.from_numpy(part).to(device) for part in (fitted.mean, fitted.matrix))
        return lambda features: (features - mean) @ matrix.T

    def __call__(self, path: Path, record: Record) -> Explanation:
        """See `Explain`; the record is of a search, and a neighbour whose file is missing is told as the problem."""
        nearest, picture = record["pictures"][0], decode_image(path, max_pixels=self.max_pixels)
        other, caption = self.images.get(nearest["image"]), f"{nearest['cosine_similarity']:.2f} {nearest['artist']}"
        if other is None:
            tiles = [Tile(picture=shrink(picture), file=path.name),
                     Tile(picture=None, file=nearest["image"], caption=caption)]
            return Explanation(ALIKE, tiles, {}, f"no {nearest['image']} in the folders of --neighbour-sheet")
        pair = [picture, decode_image(other, max_pixels=self.max_pixels)]
        images = self.predictor.normalise(torch.cat([self.views(each) for each in pair]))
        planes = explain(self.predictor.network, images, self.target,
                         self.predictor.space.feature_kind)[0][:, 0].cpu().numpy()
        boxes = [seen_box(self.predictor.preprocessing, each.size) for each in pair]
        tiles = []
        for each, plane, box, file, text in zip(pair, planes, boxes, (path.name, nearest["image"]), ("", caption),
                                                strict=True):
            small = shrink(each)
            tiles += [Tile(picture=small, file=file, caption=text),
                      Tile(picture=lay_map(small, plane, box, each.size), file="")]
        arrays = {"maps": planes, "boxes": np.array(boxes), "pictures": np.array([path.name, nearest["image"]])}
        return Explanation(f"what the picture and its nearest have in common; {ALIKE}", tiles, arrays)
