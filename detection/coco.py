"""Annotations in COCO's format: what is wrong with each is said with file and id, and it is left out.

A file that is no such file, or contradicts itself on what its classes and pictures are, is refused.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from data.names import as_text, line_problem, nfc
from data.picture_files import find_pictures
from data.side_files import read_large_json
from detection.masks import Polygons, RunLengths, Side, area, pack
from utils import UserError, counted, write_json

NAMED = 10  # annotations or pictures of one kind that are named; more are counted
Number = Annotated[int, Meta(ge=-(2**53), le=2**53)]
FORMAT = "COCO's format: images, annotations and categories"


class _Image(msgspec.Struct):
    id: Number
    file_name: Annotated[str, Meta(min_length=1, max_length=4096)]
    width: Side
    height: Side


class _Object(msgspec.Struct):
    image_id: Number
    category_id: Number
    id: Number | None = None
    bbox: list[float] | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    iscrowd: Literal[0, 1] = 0
    area: float | None = None


class _Category(msgspec.Struct):
    id: Number
    name: Annotated[str, Meta(min_length=1, max_length=1000)]


class _File(msgspec.Struct):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Object] = []


@dataclass(frozen=True, kw_only=True, slots=True)
class Instance:
    """One object in a picture.

    Attributes:
        id: in the file; where it has none, the number in the list, from 0.
        label: class, from 0.
        box: left, top, width and height, px; it may reach beyond the picture.
        area: in px, as the file says it, else of the mask or box.
        is_crowd: many objects in one, on which no detector is trained or judged.
        mask: packed, see `detection.masks`; None where masks are not asked for.
    """

    id: int
    label: int
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool = False
    mask: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class AnnotatedPicture:
    """A picture of the file: its id there, path below the root, size in px, and objects."""

    id: int
    name: str
    height: int
    width: int
    instances: tuple[Instance, ...]


@dataclass(frozen=True, kw_only=True)
class CocoSet:
    """A file of annotations.

    Attributes:
        classes: names of the categories, in the order of their ids.
        category_ids: the ids of `classes`; they may have gaps.
        pictures: those that are there, in the order of the file.
        has_masks: whether every object has one.
        notes: lines on what is left out, cut or unused.
    """

    classes: list[str]
    category_ids: list[int]
    pictures: list[AnnotatedPicture]
    has_masks: bool
    notes: list[str]


@dataclass(frozen=True)
class _Problem:
    kind: str
    which: str


def read_coco(path: Path, root: Path, *, classes: Sequence[str] | None = None, masks: bool = False) -> CocoSet:
    """The annotations in `path` of pictures below `root`.

    Args:
        path: the JSON file.
        root: what its file names start from.
        classes: the names and order of the classes, of which the file may have fewer; None: the file's own.
        masks: whether masks are needed; objects without one are then left out.

    Raises:
        UserError: the file cannot be read, an id or name comes twice, or it has a class that `classes` lacks.
    """
    file = read_large_json(path, _File, expected=FORMAT, action="choose another file, or correct it")
    own = _categories(path, file.categories)
    classes = list(own.values()) if classes is None else list(classes)
    if unknown := [name for name in own.values() if name not in classes]:
        raise UserError(f"{path} with the class {unknown[0]}, which the training set lacks", "the classes of training",
                        "correct the file's categories")
    labels = {number: classes.index(name) for number, name in own.items()}
    by_name = {name: number for number, name in own.items()}
    objects, problems = _objects(file, labels, masks=masks)
    pictures, missing = _pictures(path, file.images, root, objects)
    unlisted = set(find_pictures(root).names) - {picture.name for picture in pictures}
    return CocoSet(classes=classes, category_ids=[by_name.get(name, -1 - label) for label, name in enumerate(classes)],
                   pictures=pictures, has_masks=masks, notes=[f"{path}: {line}" for line in (
                       *_lines([*problems, *missing]), *_counts(pictures, len(unlisted), root))])


def write_coco(path: Path, pictures: Sequence[AnnotatedPicture], classes: Sequence[str], category_ids: Sequence[int],
               **more: Any) -> None:
    """Write what `read_coco` reads, masks as COCO's text of run lengths; `more` are entries of the file besides."""
    annotations = [{"id": each.id, "image_id": picture.id, "category_id": category_ids[each.label],
                    "bbox": list(each.box), "area": each.area, "iscrowd": int(each.is_crowd)} | (
                        {} if each.mask is None else {"segmentation": {
                            "size": [picture.height, picture.width], "counts": each.mask.decode("ascii")}})
                   for picture in pictures for each in picture.instances]
    write_json(path, {"images": [{"id": each.id, "file_name": each.name, "height": each.height, "width": each.width}
                                 for each in pictures],
                      "categories": [{"id": number, "name": name} for number, name in
                                     zip(category_ids, classes, strict=True)], "annotations": annotations, **more})


def _categories(path: Path, categories: Sequence[_Category]) -> dict[int, str]:
    """Names by id, in the order of ids."""
    found = {each.id: nfc(each.name) for each in sorted(categories, key=lambda each: each.id)}
    if not found:
        raise UserError(f"{path} without categories", "at least one", "name the classes in the file")
    if len(found) < len(categories) or len(set(found.values())) < len(found):
        raise UserError(f"{path}, where a category's id or name comes twice", "each once", "correct the file")
    if odd := [name for name in found.values() if line_problem(name)]:
        raise UserError(f"{path} with a category {as_text(odd[0])} that {line_problem(odd[0])}", "a name on one line",
                        "correct the file")
    return found


def _objects(file: _File, labels: dict[int, int], *, masks: bool) -> tuple[dict[int, list[Instance]], list[_Problem]]:
    """The objects of each picture by its id, and what is wrong with others."""
    images, found, problems = {image.id: image for image in file.images}, defaultdict(list), []
    for number, each in enumerate(file.annotations):
        identity = number if each.id is None else each.id
        image = images.get(each.image_id)
        if image is None:
            problems.append(_Problem("left out, of a picture that is not listed",
                                     f"annotation {identity} (image {each.image_id})"))
            continue
        which = f"annotation {identity} ({as_text(image.file_name)})"
        try:
            instance, note = _check(each, identity, image, labels, masks=masks)
        except ValueError as error:
            problems.append(_Problem(f"left out, with {error}", which))
            continue
        found[image.id].append(instance)
        if note:
            problems.append(_Problem(note, which))
    return found, problems


def _check(each: _Object, identity: int, image: _Image, labels: dict[int, int], *,
           masks: bool) -> tuple[Instance, str]:
    """The object, and a note on it or nothing; raises a `ValueError` that says why it is of no use."""
    if each.category_id not in labels:
        raise ValueError(f"the category {each.category_id}, which is not listed")
    if each.bbox is None or len(each.bbox) != 4 or not all(map(math.isfinite, each.bbox)):
        raise ValueError("no box of four numbers")
    left, top, width, height = each.bbox
    if width <= 0 or height <= 0:
        raise ValueError("a box without area")
    right, bottom = min(left + width, image.width), min(top + height, image.height)
    if right - max(left, 0) <= 0 or bottom - max(top, 0) <= 0:
        raise ValueError("a box outside the picture")
    beyond = left < -1 or top < -1 or left + width > image.width + 1 or top + height > image.height + 1
    instance = Instance(id=identity, label=labels[each.category_id], box=(left, top, width, height),
                        area=width * height, is_crowd=bool(each.iscrowd))
    if masks:
        packed = _mask(each, image)
        instance = replace(instance, mask=packed, area=float(area(packed, image.height, image.width)))
    if each.area is not None and math.isfinite(each.area) and each.area > 0:
        instance = replace(instance, area=each.area)
    return instance, "cut, as the box reaches beyond the picture" if beyond else ""


def _mask(each: _Object, image: _Image) -> bytes:
    try:
        segmentation: Any = msgspec.json.decode(each.segmentation, type=Polygons | RunLengths | None)
    except (msgspec.ValidationError, RecursionError):
        raise ValueError("a segmentation that is neither polygons nor run lengths") from None
    if segmentation is None or segmentation == []:
        raise ValueError("no segmentation")
    packed = pack(segmentation, image.height, image.width)
    if not area(packed, image.height, image.width):
        raise ValueError("a mask without pixels")
    return packed


def _pictures(path: Path, images: Sequence[_Image], root: Path,
              objects: dict[int, list[Instance]]) -> tuple[list[AnnotatedPicture], list[_Problem]]:
    """The pictures that are there, and what is wrong with others."""
    if len({image.id for image in images}) < len(images):
        raise UserError(f"{path}, where a picture's id comes twice", "each once", "correct the file")
    found: dict[str, AnnotatedPicture] = {}
    problems = []
    for image in images:
        name = PurePosixPath(image.file_name.replace("\\", "/"))
        problem = None
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            problem = "left out, as it lies outside the folder of pictures"
        elif str(name) in found:
            problem = "left out, as it is listed twice"
        elif not (root / name).is_file():
            problem = "left out, as there is no such file"
        if problem:
            problems.append(_Problem(problem, f"image {image.id} ({as_text(image.file_name)})"))
        else:
            found[str(name)] = AnnotatedPicture(id=image.id, name=str(name), height=image.height, width=image.width,
                                                instances=tuple(objects.get(image.id, ())))
    if not found:
        raise UserError(f"{path}, of whose {counted(len(images), 'picture')} none is in {root}",
                        "the pictures that it lists", "check the folder, and the file's file_name entries")
    return list(found.values()), problems


def _lines(problems: Sequence[_Problem]) -> list[str]:
    """The problems, kind by kind."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        kinds[problem.kind].append(problem.which)
    return [f"{', '.join(which[:NAMED])}{f' and {len(which) - NAMED} more' if len(which) > NAMED else ''}: {kind}"
            for kind, which in kinds.items()]


def _counts(pictures: Sequence[AnnotatedPicture], unlisted: int, root: Path) -> list[str]:
    bare = sum(not picture.instances for picture in pictures)
    crowds = sum(instance.is_crowd for picture in pictures for instance in picture.instances)
    lines = [f"{counted(bare, 'picture')} without annotations: nothing is to be found there"] if bare else []
    lines += [f"{counted(crowds, 'crowd region')}: neither trained nor judged"] if crowds else []
    return lines + ([f"{counted(unlisted, 'picture')} in {root} that it does not list: not used"] if unlisted else [])
