"""Files of what was found: COCO's results, LabelMe's annotations, label maps, drawings and cut-outs."""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import contourpy
import numpy as np
from matplotlib.path import Path as Outline
from PIL import Image

from data.csv_files import write_rows
from data.images import decode_image
from data.names import as_text, fit_file_name, folder_name
from detection.coco import AnnotatedPicture, write_coco
from detection.datasets import NAMES
from detection.masks import unpack
from detection.options import ObjectFiles
from detection.predictor import Found, FoundObject
from detection.scenes import IGNORED
from drawing.objects import DrawnObject, colour, draw_objects, draw_regions
from inference.predictor import Failure
from utils import atomic_path, text_stream, write_json, write_text

CROPS = "crops.csv"
CROP_COLUMNS = ("crop", "image", "category", "score", "left", "top", "right", "bottom")
LABELME_VERSION = "5.0.0"  # of its format
TOLERANCE = 0.5  # px by which an outline may leave the edge of a mask: far fewer points
DECIMALS = 2  # of coordinates, px


@dataclass(frozen=True, kw_only=True)
class Names:
    """How pictures and classes are called in files.

    Attributes:
        pictures: of each file its path below its folder.
        image_ids: of each file COCO's number.
        classes: in the order of labels.
        category_ids: COCO's numbers of these.
    """

    pictures: Mapping[Path, PurePosixPath]
    image_ids: Mapping[Path, int]
    classes: Sequence[str]
    category_ids: Sequence[int]

    def beside(self, path: Path, ending: str) -> str:
        """A file called like the picture with another `ending`, or where two would be one, with its own besides."""
        name = self.pictures[path]
        others = self._stems.get(name.with_suffix(""), 0)
        return f"{name.with_suffix('') if others < 2 else name}{ending}"

    @functools.cached_property
    def _stems(self) -> Mapping[PurePosixPath, int]:
        return Counter(name.with_suffix("") for name in self.pictures.values())


@dataclass(kw_only=True)
class Outcome:
    """What was written.

    Attributes:
        failures: pictures that could not be read, and why.
        counts: of objects by class.
        crops: number of cut-outs.
    """

    failures: list[Failure] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    crops: int = 0


# ---- objects ---------------------------------------------------------------------------------------------------------


def write_objects(answers: Iterable[Found | Failure], output: Path, crops: Path | None, names: Names,
                  files: ObjectFiles, *, max_pixels: int) -> Outcome:
    """Write all that the flags ask for, picture by picture as it comes; COCO's file is there when all is done.

    Args:
        answers: of a detector.
        output: COCO's results; beside it `STEM_images.json` lists pictures and categories, and those not read.
        crops: folder that cut-outs go to.
        names: of files and classes.
        files: further files and what they hold.
        max_pixels: see `decode_image`.
    """
    outcome, pictures, rows = Outcome(), [], []
    with text_stream(output) as file:
        file.write("[")
        separator = "\n"
        for answer in answers:
            if isinstance(answer, Failure):
                outcome.failures.append(answer)
                continue
            pictures.append(AnnotatedPicture(id=names.image_ids[answer.path], name=as_text(str(
                names.pictures[answer.path])), height=answer.size[0], width=answer.size[1], instances=()))
            for entry in coco_entries(answer, names):
                file.write(separator + json.dumps(entry, allow_nan=False))
                separator = ",\n"
            chosen = choose(answer.objects, names.classes, files)
            outcome.counts.update(names.classes[each.label] for each in chosen)
            rows += _write_more(answer, chosen, crops, names, files, max_pixels)
        file.write("\n]\n")
    if crops:
        write_rows(crops / CROPS, [CROP_COLUMNS, *rows])
    errors = [{"file_name": as_text(str(names.pictures[path])), "error": reason} for path, reason in outcome.failures]
    write_coco(output.with_name(f"{output.stem}_images.json"), pictures, names.classes, names.category_ids,
               errors=errors)
    outcome.crops = len(rows)
    return outcome


def choose(objects: Sequence[FoundObject], classes: Sequence[str], files: ObjectFiles) -> list[FoundObject]:
    """The objects of the score and categories that the flags ask for."""
    return [each for each in objects if each.score >= files.min_score and (
        not files.categories or classes[each.label] in files.categories)]


def coco_entries(found: Found, names: Names) -> Iterator[dict[str, Any]]:
    """Entries of COCO's results, the surest first."""
    for each in found.objects:
        left, top, right, bottom = each.box
        entry = {"image_id": names.image_ids[found.path], "category_id": names.category_ids[each.label],
                 "bbox": [left, top, right - left, bottom - top], "score": each.score}
        mask = {} if each.mask is None else {"segmentation": {"size": list(found.size),
                                                              "counts": each.mask.decode("ascii")}}
        yield {**entry, **mask}


def _write_more(found: Found, objects: Sequence[FoundObject], crops: Path | None, names: Names,
                files: ObjectFiles, max_pixels: int) -> list[list[object]]:
    """The files of one picture besides COCO's; the rows of its cut-outs."""
    if files.labelme:
        path = files.labelme / names.beside(found.path, ".json")
        write_json(path, labelme_content(found, objects, names.classes, path.parent))
    if not (objects and crops) and not files.draw:
        return []
    picture = decode_image(found.path, max_pixels=max_pixels)
    if files.draw:
        drawn = [DrawnObject(text=f"{names.classes[each.label]} {each.score:.0%}", label=each.label, box=each.box,
                             mask=None if each.mask is None else unpack(each.mask, *found.size).astype(bool))
                 for each in objects]
        draw_objects(picture, drawn, files.draw / names.beside(found.path, ".png"))
    return [*_cut_out(picture, found, objects, crops, names, files.crop_padding)] if crops else []


def _cut_out(picture: Image.Image, found: Found, objects: Sequence[FoundObject], folder: Path, names: Names,
             padding: float) -> Iterator[list[object]]:
    start = PurePosixPath(names.beside(found.path, ""))
    for number, each in enumerate(objects, 1):
        edges = padded(each.box, found.size, padding)
        name, category = f"{start.name}_{number:02}", names.classes[each.label]
        place = folder / start.parent / fit_file_name(f"{name}_{folder_name(category, folder)}", ".png", folder)
        with atomic_path(place) as partial:
            picture.crop(edges).save(partial, format="PNG")
        yield [as_text(place, below=folder), as_text(str(names.pictures[found.path])), category,
               f"{each.score:.4f}", *edges]


def padded(box: Sequence[float], size: tuple[int, int], padding: float) -> tuple[int, int, int, int]:
    """Whole edges around `box`, larger on each side by the share `padding` of its sides, inside a picture of H W."""
    left, top, right, bottom = box
    wide, high = padding * (right - left), padding * (bottom - top)
    first = min(max(0, int(left - wide)), size[1] - 1), min(max(0, int(top - high)), size[0] - 1)
    last = max(first[0] + 1, min(size[1], -int(-(right + wide) // 1))), max(
        first[1] + 1, min(size[0], -int(-(bottom + high) // 1)))
    return (*first, *last)


def labelme_content(found: Found, objects: Sequence[FoundObject], classes: Sequence[str],
                    folder: Path) -> dict[str, Any]:
    """LabelMe's annotations of one picture, for a file in `folder`: boxes, or the outlines of masks.

    An object of several parts has a polygon for each, of one group; holes are not told.
    """
    shapes: list[dict[str, Any]] = []
    for number, each in enumerate(objects, 1):
        left, top, right, bottom = (round(edge, DECIMALS) for edge in each.box)
        parts = [] if each.mask is None else outlines(unpack(each.mask, *found.size).astype(bool))
        kind = "polygon" if parts else "rectangle"
        shapes += [{"label": classes[each.label], "points": points, "group_id": number if len(parts) > 1 else None,
                    "description": f"{each.score:.4f}", "shape_type": kind, "flags": {}}
                   for points in parts or [[[left, top], [right, bottom]]]]
    try:
        path = os.path.relpath(found.path, folder)
    except ValueError:  # on another drive of Windows
        path = os.path.abspath(found.path)
    return {"version": LABELME_VERSION, "flags": {}, "shapes": shapes, "imagePath": as_text(path.replace("\\", "/")),
            "imageData": None, "imageHeight": found.size[0], "imageWidth": found.size[1]}


def outlines(mask: np.ndarray) -> list[list[list[float]]]:
    """The outer outline of each part of a mask (H, W) bool as points x, y in px; a pixel is 1 px wide."""
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(np.float32),
                                        fill_type=contourpy.FillType.OuterOffset).filled(0.5, 2)
    found = []
    for points, offsets in zip(*lines, strict=True):
        outline = Outline(np.asarray(points)[:int(offsets[1])] - 0.5)  # the padding's pixel, and half of one's own
        outline.simplify_threshold = TOLERANCE
        vertices = outline.cleaned(simplify=True, remove_nans=False).vertices
        corners: list[list[float]] = np.asarray(vertices)[:-1].round(DECIMALS).tolist()  # the last one is none
        while len(corners) > 1 and corners[0] == corners[-1]:  # the line is closed
            corners.pop()
        if len(corners) > 2:
            found.append(corners)
    return found


# ---- regions ---------------------------------------------------------------------------------------------------------


def write_regions(answers: Iterable[Found | Failure], output: Path, draw: Path | None, names: Names, *,
                  shift: bool, max_pixels: int) -> Outcome:
    """Write a label map for each picture in `output`, whose classes.txt names the classes, and drawings.

    With `shift` the classes begin at 1, as in ADE20K. `Outcome.counts` has pixels.
    """
    outcome = Outcome()
    write_text(output / NAMES, "".join(f"{name}\n" for name in names.classes))
    for answer in answers:
        if isinstance(answer, Failure):
            outcome.failures.append(answer)
            continue
        labels = answer.labels
        assert labels is not None  # a segmenter's
        save_labels(labels, output / names.beside(answer.path, ".png"), shift=shift)
        pixels = np.bincount(labels.ravel(), minlength=len(names.classes)).tolist()
        outcome.counts.update(dict(zip(names.classes, pixels, strict=True)))
        if draw:
            draw_regions(decode_image(answer.path, max_pixels=max_pixels), labels, names.classes,
                         draw / names.beside(answer.path, ".png"))
    return outcome


def save_labels(labels: np.ndarray, path: Path, *, shift: bool) -> None:
    """Write classes (H, W) uint8 as a PNG of their numbers, with `shift` from 1 on, in the classes' colours."""
    image = Image.fromarray(labels + np.uint8(shift))
    colours = [colour(number - shift) for number in range(IGNORED)]
    palette = np.stack([np.zeros(3) if shift and not number else each for number, each in enumerate(colours)])
    image.putpalette([*palette.astype(np.uint8).ravel().tolist(), 255, 255, 255])
    with atomic_path(path) as partial:
        image.save(partial, format="PNG")
